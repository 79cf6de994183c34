//! What `rollcall config` is asked.

use clap::{Args, Subcommand};

use super::AdminApi;

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Have a running process read its apps and feeds again: checked as a whole, shown, written down, applied
    #[command(
        after_help = "Examples:\n  rollcall config reload --dry-run\n  rollcall config reload --by ada\n\n\
                            SIGHUP does the same. A configuration with a mistake is refused as a whole and the old one goes \
                            on. Other sections than [app.*] and [feed.*] count after the next start, and are named \
                            (docs/operations/running.md)."
    )]
    Reload(ConfigReload),
}

#[derive(Args, Debug)]
pub(crate) struct ConfigReload {
    /// Only show what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Who wants it; it is written down
    #[arg(long, value_name = "WHO", default_value = "operator")]
    pub(crate) by: String,
    /// The answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) admin: AdminApi,
}
