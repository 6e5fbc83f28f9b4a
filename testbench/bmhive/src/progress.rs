//! How far a long step is: a bar on a terminal, one line per step elsewhere, nothing when asked to be quiet.

use std::{io::IsTerminal, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What a step counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, shown in binary multiples.
    Bytes,
    /// Requests, frames or round trips.
    Requests,
    /// Milliseconds of a measurement that lasts a given time.
    Milliseconds,
}

impl Unit {
    const fn template(self) -> &'static str {
        match self {
            Self::Bytes => {
                "  {msg:<44} {wide_bar:.cyan/dim} {bytes:>10}/{total_bytes:<10} {bytes_per_sec:>13}"
            }
            Self::Requests => {
                "  {msg:<44} {wide_bar:.cyan/dim} {human_pos:>10}/{human_len:<10} {per_sec:>13}"
            }
            Self::Milliseconds => "  {msg:<44} {wide_bar:.cyan/dim} {elapsed:>10}",
        }
    }
}

/// Shows steps on standard error. Cheap to clone; clones share the screen.
#[derive(Clone, Debug)]
pub struct Progress {
    style: Style,
    screen: MultiProgress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Bars,
    Lines,
    Silent,
}

impl Progress {
    /// Bars when standard error is a terminal, lines when it is not, nothing with `quiet`.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let style = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Style::Silent,
            (false, true) => Style::Bars,
            (false, false) => Style::Lines,
        };
        let target =
            if style == Style::Bars { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self { style, screen: MultiProgress::with_draw_target(target) }
    }

    /// Begins a step of `total` units. End it with [`Step::finish`]; one that is dropped disappears
    /// unfinished.
    #[must_use]
    pub fn step(&self, name: &str, total: u64, unit: Unit) -> Step {
        let bar = self.screen.add(ProgressBar::new(total));
        if let Ok(style) = ProgressStyle::with_template(unit.template()) {
            bar.set_style(style.progress_chars("\u{2501}\u{2578}\u{2501}"));
        }
        bar.set_message(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Step { style: self.style, name: name.to_owned(), bar }
    }
}

/// A step under way. May be advanced from any thread.
#[derive(Debug)]
pub struct Step {
    style: Style,
    name: String,
    bar: ProgressBar,
}

impl Step {
    /// `units` more are done.
    pub fn advance(&self, units: u64) {
        self.bar.inc(units);
    }

    /// So many are done altogether.
    pub fn reach(&self, units: u64) {
        self.bar.set_position(units);
    }

    /// The step is done and came to `outcome`.
    pub fn finish(self, outcome: &str) {
        let line = format!("  {:<44} {outcome}", self.name);
        match self.style {
            Style::Bars => {
                self.bar.suspend(|| eprintln!("{line}"));
                self.bar.finish_and_clear();
            }
            Style::Lines => eprintln!("{line}"),
            Style::Silent => {}
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_of_each_unit_has_a_template_of_its_own() {
        let units = [Unit::Bytes, Unit::Requests, Unit::Milliseconds];
        let refused = units.map(|unit| ProgressStyle::with_template(unit.template()).err());
        assert!(refused.iter().all(Option::is_none), "{refused:?}");
        let [bytes, requests, milliseconds] = units.map(Unit::template);
        assert!(
            bytes.contains("{bytes_per_sec")
                && requests.contains("{per_sec")
                && milliseconds.contains("{elapsed")
        );
    }

    #[test]
    fn steps_count() {
        let step = Progress::new(true).step("copy", 10, Unit::Bytes);
        step.advance(3);
        step.advance(4);
        assert_eq!(step.bar.position(), 7);
        step.reach(10);
        assert_eq!(step.bar.position(), 10);
        step.finish("done");
    }
}
