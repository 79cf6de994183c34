//! CSV after RFC 4180 that a spreadsheet can be trusted with.

/// What makes a spreadsheet take a cell for a formula; where wide letters are written, the wide ones do as well.
const FORMULA: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// A row, with its line's end.
pub(super) fn row<T: AsRef<str>>(cells: &[T]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| written(cell.as_ref())).collect();
    format!("{}\r\n", cells.join(","))
}

fn written(text: &str) -> String {
    let apostrophe = if text.starts_with(FORMULA) { "'" } else { "" };
    if text.contains([',', '"', '\r', '\n']) {
        format!("\"{apostrophe}{}\"", text.replace('"', "\"\""))
    } else {
        format!("{apostrophe}{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cell: &str, expected: &str) {
        assert_eq!(written(cell), expected, "{cell:?}");
    }

    #[test]
    fn cells_are_quoted_when_they_must_be() {
        check("", "");
        check("ada", "ada");
        check(" a b ", " a b ");
        check("a,b", "\"a,b\"");
        check("say \"hi\"", "\"say \"\"hi\"\"\"");
        check("two\nlines", "\"two\nlines\"");
        check("Zoë; 東", "Zoë; 東");
        assert_eq!(row(&["a", "b,c", ""]), "a,\"b,c\",\r\n");
    }

    #[test]
    fn no_cell_is_a_formula() {
        check("=1+1", "'=1+1");
        check("+49 30 1", "'+49 30 1");
        check("-5", "'-5");
        check("@SUM(A1)", "'@SUM(A1)");
        check("\t=1", "'\t=1");
        check("\r=1", "\"'\r=1\"");
        check("=HYPERLINK(\"x\",\"y\")", "\"'=HYPERLINK(\"\"x\"\",\"\"y\"\")\"");
        check("\n=1", "\"'\n=1\"");
        check("＝1+1", "'＝1+1");
        check("a=1", "a=1");
        check("'=1", "'=1");
    }
}
