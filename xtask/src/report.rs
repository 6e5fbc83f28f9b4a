//! What ran, how long it took and how it ended.

use std::{
    fmt,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u32,
    /// Tests that failed, did not start or ran out of time.
    pub failed: u32,
}

impl Counts {
    pub const NONE: Self = Self { passed: 0, failed: 0 };
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

struct Step {
    name: String,
    took: Duration,
    passed: bool,
    tests: Counts,
}

/// Steps in the order in which they ran.
#[derive(Default)]
pub struct Report {
    steps: Vec<Step>,
}

impl Report {
    /// Runs one step and says whether it passed. An error is printed at once and fails the report.
    pub fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> bool {
        self.tests(name, || (Counts::NONE, work()))
    }

    /// Runs one step that counts tests.
    pub fn tests(&mut self, name: &str, work: impl FnOnce() -> (Counts, Result<()>)) -> bool {
        eprintln!("==> {name}");
        let start = Instant::now();
        let (tests, outcome) = work();
        let took = start.elapsed();
        match &outcome {
            Ok(()) => eprintln!("    {name}: ok, {:.1} s", took.as_secs_f64()),
            Err(error) => eprintln!("    {name}: FAILED, {:.1} s\n{error:#}", took.as_secs_f64()),
        }
        self.steps.push(Step { name: name.to_owned(), took, passed: outcome.is_ok(), tests });
        outcome.is_ok()
    }

    /// Prints the summary and gives the exit code: success when every step passed.
    pub fn close(self) -> ExitCode {
        println!("{self}");
        if self.steps.iter().all(|step| step.passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            let outcome = if step.passed { "ok" } else { "FAILED" };
            write!(f, "{:<28} {outcome:<7}{:>8.1} s", step.name, step.took.as_secs_f64())?;
            if step.tests == Counts::NONE { writeln!(f)? } else { writeln!(f, "  {}", step.tests)? }
        }
        let failed: Vec<_> = self.steps.iter().filter(|step| !step.passed).map(|step| &*step.name).collect();
        match self.steps.iter().fold(Counts::NONE, |sum, step| sum + step.tests) {
            Counts::NONE => {
                write!(f, "{} steps passed, {} failed", self.steps.len() - failed.len(), failed.len())?
            }
            tests => write!(f, "{tests}")?,
        }
        if failed.is_empty() { Ok(()) } else { write!(f, "; not ok: {}", failed.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_failed_step_fails_the_report_and_counts_are_summed() {
        let mut report = Report::default();
        assert!(report.tests("unit", || (Counts { passed: 3, failed: 0 }, Ok(()))));
        assert!(!report.tests("process", || (Counts { passed: 1, failed: 2 }, Err(anyhow!("two failed")))));
        let summary = report.to_string();
        assert_eq!(summary.lines().last(), Some("4 passed, 2 failed; not ok: process"));
        assert_eq!(report.close(), ExitCode::FAILURE);
    }

    #[test]
    fn steps_without_tests_are_counted_as_steps() {
        let mut report = Report::default();
        assert!(report.step("format", || Ok(())));
        assert_eq!(report.to_string().lines().last(), Some("1 steps passed, 0 failed"));
        assert_eq!(report.close(), ExitCode::SUCCESS);
    }
}
