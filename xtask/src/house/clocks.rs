//! No test judges how fast something was: that depends on the machine and on what else runs there. What can
//! be found of it: tests that ask for CPU time, and asserts that something took less than some milliseconds.

use super::Violation;
use crate::tree::{File, Tree};

/// What asks for the CPU time of a thread or process.
const CPU_TIME: &[&str] = &["cpu_time", "CpuMeter", "getrusage", "schedstat"];

/// Tests that may ask for it, and why.
const EXCEPT: &[(&str, &str)] = &[
    ("testbench/results/src/measure/cpu.rs", "it tests the meter"),
    ("vhost-backends/tests/front_end/mod.rs", "benches ask its servers for theirs"),
    ("vhost-backends/tests/rig/idle_board.rs", "a bench writes down what an idle board costs"),
    ("xtask/src/house/clocks.rs", "its samples break this rule"),
];

/// No test asks for CPU time, and none bounds a time by less than seconds. (Deadlines of seconds tell a
/// hang.) A bound by a constant may slip by: what counts is the unit that the assert itself names.
pub fn judged(tree: &Tree) -> Vec<Violation> {
    let sources = tree.files.iter().filter(|file| file.extension() == "rs" && file.is_ours());
    sources.flat_map(of_file).collect()
}

fn of_file(file: &File) -> Vec<Violation> {
    let may_ask = EXCEPT.iter().any(|(path, _)| *path == file.path);
    let lines: Vec<_> = file.text.lines().collect();
    let mut violations = Vec::new();
    for index in start(file, &lines)..lines.len() {
        let asked = CPU_TIME.iter().find(|asked| !may_ask && lines[index].contains(**asked));
        if let Some(asked) = asked {
            violations.push(Violation::line(&file.path, index, format!("a test asks for `{asked}`")));
        }
        if lines[index].trim_start().starts_with("assert") && bounds_milliseconds(&statement(&lines[index..]))
        {
            let what = "a test bounds a time by milliseconds, which a busy machine may take longer for";
            violations.push(Violation::line(&file.path, index, what));
        }
    }
    violations
}

/// The line from which on a file holds tests; behind its last one when it holds none.
fn start(file: &File, lines: &[&str]) -> usize {
    let is_tests = file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
    let inline = || lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with('{'));
    if is_tests { 0 } else { inline().unwrap_or(lines.len()) }
}

/// The statement that starts with the first line.
fn statement(lines: &[&str]) -> String {
    let end = lines.iter().position(|line| line.ends_with(';')).map_or(lines.len(), |last| last + 1);
    lines[..end].concat()
}

fn bounds_milliseconds(statement: &str) -> bool {
    let is_short = ["_millis(", "_micros(", "_nanos("].iter().any(|unit| statement.contains(unit));
    statement.contains(".elapsed()") && is_short && statement.contains(" < ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::samples::broken;

    #[test]
    fn tests_that_judge_a_time_are_found() {
        let test =
            "    assert!(\n        start.elapsed() < Duration::from_millis(20),\n    );\n    cpu_time(1);\n";
        let inline = format!("fn f() {{ cpu_time(1); }}\n#[cfg(test)]\nmod tests {{\n{test}}}\n");
        let files = [
            ("a/tests/b.rs", test),
            ("a/src/c.rs", &*inline),
            ("testbench/results/src/measure/cpu.rs", &*inline),
        ];
        let bounded = "a test bounds a time by milliseconds, which a busy machine may take longer for";
        let asked = "a test asks for `cpu_time`";
        let at = |path: &str, what| format!("{path}: {what}");
        let expected = [
            at("a/tests/b.rs:1", bounded),
            at("a/tests/b.rs:4", asked),
            at("a/src/c.rs:4", bounded),
            at("a/src/c.rs:7", asked),
            at("testbench/results/src/measure/cpu.rs:4", bounded),
        ];
        assert_eq!(broken(judged, &files), expected);
    }

    #[test]
    fn deadlines_and_lower_bounds_are_no_judgement() {
        let text = "assert!(start.elapsed() < DEADLINE);\nassert!(start.elapsed() >= Duration::from_millis(20));\n\
                    assert!(start.elapsed() < Duration::from_secs(5));\n";
        assert_eq!(broken(judged, &[("a/tests/b.rs", text)]), [""; 0]);
    }
}
