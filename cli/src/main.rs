//! The program `rollcall`: reads the configuration, builds what the command asks for, runs it until told to stop.

mod admin;
mod apps;
mod args;
mod at;
mod audit;
mod backup;
mod dev_env;
mod failure;
mod feeds;
mod file;
mod node;
mod open_files;
mod output;
mod pass_over;
mod progress;
mod rebuild;
mod reconcile;
mod record;
mod reload;
mod retention;
mod settings;
mod snapshots;
mod sum;
mod tail;
mod telemetry;
mod token;
mod up;

use std::io::Write;
use std::process::ExitCode;

use allocator::Allocator;
use clap::Parser;

use args::{Cli, Command, ConfigCommand, Events, ProjectorCommand};
pub(crate) use failure::Failure;
use settings::Settings;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&Failure::of("starting the runtime", &error)),
    };
    match runtime.block_on(run(cli)).and_then(|()| output::whole()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// The one message that a command ends with.
fn fail(failure: &Failure) -> ExitCode {
    // Who cannot be told sees it by the status.
    let _ = writeln!(std::io::stderr(), "rollcall: {failure}");
    ExitCode::FAILURE
}

async fn run(cli: Cli) -> Result<(), Failure> {
    telemetry::start_logs(cli.log.as_deref().unwrap_or(default_filter(&cli.command)), cli.log_format)?;
    // Another part of the program can only have chosen the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = Settings::read(&cli)?;
    match cli.command {
        Command::Up(up) => up::run(settings, &up).await,
        Command::Gateway(_) => node::run(settings, node::Role::Gateway).await,
        Command::Projector(projector) => match projector.command {
            None => node::run(settings, node::Role::Projector).await,
            Some(ProjectorCommand::Rebuild(rebuild)) => rebuild::run(&settings, rebuild).await,
            Some(ProjectorCommand::Snapshot(api)) => snapshots::ask(&settings, &api).await,
        },
        Command::Dispatcher(_) => node::run(settings, node::Role::Dispatcher).await,
        Command::Backup(command) => backup::run(&settings, command).await,
        Command::Restore(restore) => backup::restore(&settings, &restore).await,
        Command::Record(record) => record::run(record).await,
        Command::Token(command) => token::run(&settings, command).await,
        Command::Audit(command) => audit::run(&settings, command).await,
        Command::Feed(command) => feeds::run(&settings, command).await,
        Command::Config(ConfigCommand::Reload(asked)) => reload::run(&settings, asked).await,
        Command::Explain(explain) => audit::explain(&settings, explain).await,
        Command::App(command) => apps::run(&settings, command).await,
        Command::Why(asked) => apps::why(&settings, asked).await,
        Command::Timeline(asked) => apps::timeline(&settings, asked).await,
        Command::Who(asked) => apps::who(&settings, asked).await,
        Command::Leave(asked) => apps::leave(&settings, asked).await,
        Command::Events(Events::Tail(tail)) => tail::run(&settings, tail).await,
        Command::Events(Events::PassOver(asked)) => pass_over::run(&settings, asked).await,
    }
}

/// Servers tell milestones; an operator's command only what went wrong.
fn default_filter(command: &Command) -> &'static str {
    match command {
        Command::Projector(projector) if projector.command.is_some() => "warn",
        Command::Up(_) | Command::Gateway(_) | Command::Projector(_) | Command::Dispatcher(_) => "info",
        Command::Token(_)
        | Command::Events(_)
        | Command::Audit(_)
        | Command::Feed(_)
        | Command::Config(_)
        | Command::Explain(_)
        | Command::App(_)
        | Command::Why(_)
        | Command::Timeline(_)
        | Command::Who(_)
        | Command::Leave(_)
        | Command::Backup(_)
        | Command::Restore(_)
        | Command::Record(_) => "warn",
    }
}
