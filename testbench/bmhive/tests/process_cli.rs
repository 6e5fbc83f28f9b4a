//! `bmhive` as a user starts it: status, and what stands on standard output and standard error.
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{
    io::Read,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use results::{
    Figure, RunResult,
    measure::{LatencyRecorder, this_machine},
};
use rig::wait::wait_for;

/// No command here takes longer than a second; one that hangs is killed and fails its test.
const DEADLINE: Duration = Duration::from_secs(20);

fn bmhive(arguments: &[&str], stdout: Stdio) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bmhive"))
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let Some(status) = wait_for(DEADLINE, || child.try_wait().unwrap()) else {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("bmhive {arguments:?} did not end within {DEADLINE:?}");
    };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut stdout).unwrap();
    }
    if let Some(mut pipe) = child.stderr.take() {
        pipe.read_to_end(&mut stderr).unwrap();
    }
    Output { status, stdout, stderr }
}

/// Status, standard output, standard error.
fn answer(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = bmhive(arguments, Stdio::piped());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_typo_is_answered_with_file_line_key_and_expectation() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("typo.toml");
    std::fs::write(&file, "[server]\nname = \"x\"\n\n[[board]]\nname = \"b\"\nmemroy_mib = 64\n").unwrap();
    let (status, stdout, stderr) = answer(&["check", path(&file)]);
    assert_eq!((status, stdout.as_str()), (1, ""));
    let first = stderr.lines().next().unwrap();
    for part in ["typo.toml:6:1", "board[0].memroy_mib", "did you mean `memory_mib`?"] {
        assert!(first.contains(part), "{part:?} is missing in\n{stderr}");
    }
    assert!(stderr.contains("memroy_mib = 64") && !stderr.contains('\x1b'), "{stderr}");
}

#[test]
fn a_missing_file_is_one_line() {
    for arguments in [["check", "no-such.toml"].as_slice(), &["compare", "no-such.json", "no-such.json"]] {
        let (status, stdout, stderr) = answer(arguments);
        assert_eq!((status, stdout.as_str(), stderr.lines().count()), (1, "", 1), "{stderr}");
        assert!(stderr.starts_with("error: cannot read "), "{stderr}");
        assert!(stderr.contains("no-such") && stderr.contains("No such file"), "{stderr}");
    }
}

#[test]
fn the_committed_scenarios_are_good() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let files: Vec<_> = directory.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut arguments = vec!["check"];
    arguments.extend(files.iter().map(|file| path(file)));
    let (status, stdout, stderr) = answer(&arguments);
    assert_eq!(status, 0, "{stderr}");
    assert_eq!(stdout.lines().count(), files.len(), "{stdout}");
}

#[test]
fn a_command_line_without_sense_is_status_2() {
    for arguments in [
        ["frobnicate"].as_slice(),
        &["check"],
        &["compare", "a"],
        &["compare", "a", "b", "--fail-above", "-1"],
    ] {
        let (status, stdout, stderr) = answer(arguments);
        assert_eq!((status, stdout.as_str()), (2, ""), "{arguments:?}: {stderr}");
    }
}

fn result(directory: &Path, rate: f64, latency: u64) -> String {
    let mut result = RunResult::new("crafted", None, this_machine());
    result.figures.push(Figure::new("ring.forward.64", rate, "packets/s", None));
    let mut recorder = LatencyRecorder::new();
    recorder.record_ns(latency);
    result.latencies.push(recorder.latency("blk"));
    result.write(directory).unwrap();
    path(directory).to_owned()
}

#[test]
fn two_results_are_laid_side_by_side() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = (result(a.path(), 20e6, 1000), result(b.path(), 15e6, 1000));
    let (status, stdout, stderr) = answer(&["compare", &a, &b]);
    assert_eq!((status, stderr.as_str()), (0, ""));
    let row = stdout.lines().find(|line| line.contains("ring.forward.64")).unwrap();
    for part in ["20 M packets/s", "15 M packets/s", "-5 M packets/s", "0.750", "25.0 % worse"] {
        assert!(row.contains(part), "{part:?} is missing in {row:?}");
    }
    assert!(stdout.contains("blk p99.9"), "{stdout}");
}

#[test]
fn a_regression_fails_only_above_the_limit() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = (result(a.path(), 20e6, 1000), result(b.path(), 15e6, 900));
    assert_eq!(answer(&["compare", &a, &b, "--fail-above", "30"]).0, 0);
    assert_eq!(answer(&["compare", &b, &a, "--fail-above", "30"]).0, 0);
    let (status, _, stderr) = answer(&["compare", &a, &b, "--fail-above", "10"]);
    assert_eq!(status, 1);
    assert!(stderr.contains("ring.forward.64") && !stderr.contains("blk p50"), "{stderr}");
    let (status, _, stderr) = answer(&["compare", &b, &a, "--fail-above", "10"]);
    assert_eq!(status, 1);
    assert!(stderr.contains("blk p50") && !stderr.contains("ring.forward.64"), "{stderr}");
}

#[test]
fn a_result_of_another_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("result.json");
    std::fs::write(&file, r#"{"schema": "iobond-result/9"}"#).unwrap();
    let (status, _, stderr) = answer(&["compare", path(&file), path(&file)]);
    assert_eq!(status, 1);
    assert!(stderr.contains("iobond-result/9") && stderr.contains("iobond-result/1"), "{stderr}");
}

#[test]
fn a_full_disk_is_one_line() {
    // /dev/full answers every write with ENOSPC.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let demonstration = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/demo.toml");
    let output = bmhive(&["check", demonstration], full.into());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("No space left on device"), "{stderr}");
}
