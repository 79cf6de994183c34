//! `[app.NAME.rollout]`: by which stages a changed configuration is carried out.

use dispatcher::{RolloutConfig, Share};
use serde::Deserialize;

use crate::file::Mistakes;

/// What the section says; what it does not say is as in an empty one.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RolloutSection {
    stages: Option<Vec<Said>>,
    wait_minutes: Option<u32>,
}

/// A part, as it is written.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "must be a number, \"1%\" or \"all\"")]
enum Said {
    Count(u64),
    Word(String),
}

impl RolloutSection {
    pub(super) fn config(self, place: &str, mistakes: &mut Mistakes) -> RolloutConfig {
        let mut config = RolloutConfig::default();
        if let Some(minutes) = self.wait_minutes {
            config.wait_minutes = minutes;
        }
        if let Some(said) = self.stages {
            let shares: Vec<Share> = said.iter().filter_map(|said| share(place, said, mistakes)).collect();
            // A part that cannot be read was told; the others alone mean something else.
            if shares.len() == said.len() {
                config.stages = shares;
            }
        }
        for mistake in config.mistakes() {
            mistakes.add(format!("{place}: {mistake}"));
        }
        config
    }
}

fn share(place: &str, said: &Said, mistakes: &mut Mistakes) -> Option<Share> {
    let word = match said {
        Said::Count(count) => return Some(Share::Count(*count)),
        Said::Word(word) if word == "all" => return Some(Share::All),
        Said::Word(word) => word,
    };
    let percent = word.strip_suffix('%').and_then(|number| number.trim_end().parse().ok());
    if percent.is_none() {
        mistakes.add(format!("{place}.stages: {word:?} is no part; write a number, \"1%\" or \"all\""));
    }
    percent.map(Share::Percent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (RolloutConfig, Vec<String>) {
        let mut mistakes = Mistakes::default();
        let table: toml::Table = text.parse().unwrap();
        let section: RolloutSection =
            crate::file::section("app.x.rollout", table.into(), &mut mistakes).unwrap_or_default();
        let config = section.config("app.x.rollout", &mut mistakes);
        let told = mistakes.into_result().err().map(|failure| failure.to_string());
        (config, told.iter().flat_map(|text| text.lines().skip(1)).map(str::to_string).collect())
    }

    #[test]
    fn parts_are_numbers_percents_and_all() {
        assert_eq!(read(""), (RolloutConfig::default(), Vec::new()));
        let (config, mistakes) = read("stages = [5, \"2%\", \"10 %\", \"all\"]\nwait_minutes = 0");
        assert!(mistakes.is_empty(), "{mistakes:?}");
        let stages = vec![Share::Count(5), Share::Percent(2), Share::Percent(10), Share::All];
        assert_eq!(config, RolloutConfig { stages, wait_minutes: 0 });
    }

    #[test]
    fn what_is_no_part_is_a_mistake() {
        for (text, expected) in [
            ("stages = [\"some\", \"all\"]", "app.x.rollout.stages: \"some\""),
            ("stages = [1, 10]", "app.x.rollout: stages must end with \"all\""),
            ("stages = [0, \"all\"]", "app.x.rollout: stages has 0"),
            ("wait_minutes = 99999", "app.x.rollout: wait_minutes is 99999"),
            ("minutes = 5", "app.x.rollout.minutes"),
        ] {
            let (_, mistakes) = read(text);
            assert!(mistakes.len() == 1 && mistakes[0].contains(expected), "{text}: {mistakes:?}");
        }
    }
}
