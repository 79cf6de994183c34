//! How figures are printed: what, how much, and what was asked for.

use crate::load::Figures;

pub(crate) fn head(title: &str) {
    println!("\n {title}");
}

/// A row without anything that was asked for.
pub(crate) fn plain(title: &str, figure: &str) {
    println!("  {title:<54} {figure:>18}");
}

pub(crate) fn row(title: &str, figure: &str, asked: &str) {
    println!("  {title:<54} {figure:>18}   asked: {asked}");
}

/// A rate.
pub(crate) fn rate(title: &str, a_second: f64, asked: &str) {
    row(title, &format!("{a_second:.0}/s"), asked);
}

/// Latencies, and what they come to.
pub(crate) fn latency(title: &str, figures: &Figures, further: &str) {
    let Figures { p50, p99, .. } = figures;
    println!("  {title:<54} p50 {p50:>9.3} ms  p99 {p99:>9.3} ms   {further}");
}
