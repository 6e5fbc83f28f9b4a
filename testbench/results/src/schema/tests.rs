use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::{measure::LatencyRecorder, report::sample, *};

#[test]
fn a_result_is_read_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let nested = directory.path().join("made/for/it");
    let written = sample::demonstration();
    let path = written.write(&nested).unwrap();
    assert!(
        RunResult::read(&path).unwrap() == written,
        "what {} holds is not what was written",
        path.display()
    );
    assert!(RunResult::read(&nested).unwrap() == written, "a directory stands for the result in it");
    let left: Vec<_> = std::fs::read_dir(&nested).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [FILE_NAME], "no temporary file is left");
}

#[test]
fn a_result_follows_the_published_schema() {
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    let schema: Value = serde_json::from_str(include_str!("../../../schema/result-1.json")).unwrap();
    compiler.add_resource("result-1.json", schema).unwrap();
    let index = compiler.compile("result-1.json", &mut schemas).unwrap();
    let check = |value: &Value| schemas.validate(value, index).map_err(|error| format!("{error:#}"));

    let sample = serde_json::to_value(sample::demonstration()).unwrap();
    check(&sample).unwrap();
    check(&serde_json::to_value(RunResult::new("empty", None, Machine::default())).unwrap()).unwrap();
    // Every key of the types is in the schema and required by it, at every depth: neither can gain or lose
    // one alone. Those that came later are in the schema and not required: results without them are still
    // read.
    let later = ["/curves", "/tables"];
    let mut spoiled = 0;
    for path in objects(&sample, "") {
        let mut extra = sample.clone();
        extra.pointer_mut(&path).unwrap()["surplus"] = json!(1);
        assert!(check(&extra).is_err(), "the schema takes any key in {path:?}");
        for key in sample.pointer(&path).unwrap().as_object().unwrap().keys() {
            let mut short = sample.clone();
            short.pointer_mut(&path).unwrap().as_object_mut().unwrap().remove(key);
            let pointer = format!("{path}/{key}");
            assert_eq!(check(&short).is_ok(), later.contains(&pointer.as_str()), "{pointer} is left out");
            let read = serde_json::from_value::<RunResult>(short);
            assert!(read.is_ok() || !later.contains(&pointer.as_str()), "{pointer} is left out: {read:?}");
            spoiled += 1;
        }
    }
    assert!(spoiled > 60, "only {spoiled} keys were looked at");
}

/// JSON pointers of every object of a fixed shape.
fn objects(value: &Value, path: &str) -> Vec<String> {
    let free = ["/scenario/settings", "/counters"];
    match value {
        Value::Object(entries) if !free.contains(&path) => std::iter::once(path.to_owned())
            .chain(entries.iter().flat_map(|(key, value)| objects(value, &format!("{path}/{key}"))))
            .collect(),
        Value::Array(elements) => elements
            .iter()
            .enumerate()
            .flat_map(|(index, value)| objects(value, &format!("{path}/{index}")))
            .collect(),
        _ => Vec::new(),
    }
}

#[test]
fn what_no_run_had_before_is_not_in_its_file() {
    let empty = serde_json::to_value(RunResult::new("empty", None, Machine::default())).unwrap();
    assert!(empty.get("curves").is_none() && empty.get("tables").is_none(), "{empty}");
}

#[test]
fn a_curve_takes_numbers_only() {
    let points = [(1.0, 2.0), (f64::NAN, 1.0), (2.0, f64::INFINITY), (3.0, -1.0)];
    let curve = Curve::new("x", "X", ("load", "requests/s"), ("latency", "ns")).with("p50", points);
    assert_eq!(curve.series[0].points, [(1.0, 2.0), (3.0, -1.0)]);
    let text = serde_json::to_string(&curve).unwrap();
    assert_eq!(serde_json::from_str::<Curve>(&text).unwrap(), curve);
}

#[test]
fn another_schema_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    std::fs::write(&path, r#"{"schema": "iobond-result/2", "unheard": "of"}"#).unwrap();
    let error = RunResult::read(&path).unwrap_err();
    assert!(matches!(&error, ResultError::Schema { found, .. } if found == "iobond-result/2"));
    assert!(error.to_string().contains("iobond-result/1"), "{error}");
    std::fs::write(&path, "{").unwrap();
    assert!(matches!(RunResult::read(&path), Err(ResultError::Malformed { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(RunResult::read(&path), Err(ResultError::Read { .. })));
}

#[test]
fn what_cannot_be_written_leaves_the_old_result() {
    let directory = tempfile::tempdir().unwrap();
    let path = sample::demonstration().write(directory.path()).unwrap();
    // A file where a directory is needed refuses root as well, which permission bits do not.
    let error = sample::demonstration().write(&path).unwrap_err();
    assert!(matches!(&error, ResultError::Write { path: named, .. } if named.starts_with(&path)), "{error}");
    assert!(RunResult::read(&path).unwrap() == sample::demonstration(), "the old result is not what it was");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}

#[test]
fn a_figure_and_its_baseline() {
    let figure = Figure::new("blk", 50.0, "1/s", Some(0.5)).beside("direct", 200.0);
    assert_eq!(figure.ratio, Some(0.25));
    assert_eq!(Figure::new("x", 1.0, "B", None).beside("nothing", 0.0).ratio, None);
    let keys = ["baseline", "baseline_value", "cpu_share", "name", "ratio", "unit", "value"];
    let value = serde_json::to_value(&figure).unwrap();
    assert_eq!(value.as_object().unwrap().keys().collect::<Vec<_>>(), keys);
}

#[test]
fn one_failed_check_fails_the_run() {
    let mut result = RunResult::new("x", None, Machine::default());
    assert!(result.passed());
    result.checks.push(Check::equal("sum", &1, &1));
    assert!(result.passed());
    result.checks.push(Check::equal("sum", &1, &2));
    assert!(!result.passed());
}

#[test]
fn a_histogram_survives_the_file() {
    let mut recorder = LatencyRecorder::new();
    (1..=1000).for_each(|n| recorder.record_ns(n * 100));
    let row = recorder.latency("x");
    let text = serde_json::to_string(&row).unwrap();
    assert_eq!(serde_json::from_str::<Latency>(&text).unwrap(), row);
    assert!(row.buckets.len() < 300, "{} buckets", row.buckets.len());
}
