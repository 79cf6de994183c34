//! `make torture`: kills what runs at moments that a seed chooses, and tells what became of what was acknowledged.

use std::process::ExitCode;
use std::time::Duration;

use street::torture::{Plan, run};

const USAGE: &str =
    "torture [--mode single|cluster] [--kills N] [--seconds N] [--clients N] [--seed N] [--keep 1]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help") {
        println!("usage: {USAGE}");
        return ExitCode::SUCCESS;
    }
    let (plan, keep) = match plan(&arguments) {
        Ok(plan) => plan,
        Err(mistake) => {
            eprintln!("{mistake}\nusage: {USAGE}");
            return ExitCode::from(2);
        }
    };
    println!("seed {}, {} broker(s), folder {}", plan.seed, plan.brokers, plan.folder.display());
    let record = run(&plan);
    println!("\n{record}");
    if record.is_good() && !keep {
        let _ = std::fs::remove_dir_all(&plan.folder);
        return ExitCode::SUCCESS;
    }
    if record.is_good() {
        println!("Kept: {}", plan.folder.display());
        return ExitCode::SUCCESS;
    }
    let told = plan.folder.join("violations.txt");
    let all =
        record.violations.iter().map(|violation| format!("{:?}: {}\n", violation.promise, violation.text));
    let all: String = all.chain(record.breaches.iter().map(|breach| format!("{breach}\n"))).collect();
    let _ = std::fs::write(&told, all);
    println!("Kept for a closer look: {} (all of them in violations.txt)", plan.folder.display());
    ExitCode::FAILURE
}

/// What is to be done, and whether the folder is kept even when all is well.
fn plan(arguments: &[String]) -> Result<(Plan, bool), String> {
    let mut keep = false;
    let seed = street::random::fresh_seed();
    let mut plan = Plan {
        seed,
        brokers: 1,
        kills: 200,
        time: Duration::from_secs(900),
        clients: 16,
        folder: std::env::temp_dir().join(format!("rollcall-torture-{seed}")),
        talk: true,
    };
    let mut arguments = arguments.iter();
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name}: {value:?} is no number"));
        match name.as_str() {
            "--mode" => {
                plan.brokers = match value.as_str() {
                    "single" => 1,
                    "cluster" => 3,
                    other => return Err(format!("--mode: {other:?} is neither single nor cluster")),
                }
            }
            "--kills" => plan.kills = number()?,
            "--seconds" => plan.time = Duration::from_secs(number()?),
            "--clients" => plan.clients = usize::try_from(number()?).map_err(|error| error.to_string())?,
            "--keep" => keep = number()? != 0,
            "--seed" => plan.seed = number()?,
            other => return Err(format!("there is no {other}")),
        }
    }
    Ok((plan, keep))
}
