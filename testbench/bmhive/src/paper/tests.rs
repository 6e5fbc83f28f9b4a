use std::sync::OnceLock;

use super::*;

/// Rows of a part, simulated once for all tests of a process.
fn part(index: usize) -> &'static [Row] {
    static SIMULATED: [OnceLock<Vec<Row>>; PARTS.len()] = [const { OnceLock::new() }; PARTS.len()];
    SIMULATED[index].get_or_init(|| PARTS[index]().expect("simulations end"))
}

fn all() -> Vec<Row> {
    (0..PARTS.len()).flat_map(part).cloned().collect()
}

/// The rows of a part whose figure is called so.
fn named(index: usize, figure: &str) -> Vec<&'static Row> {
    let rows: Vec<_> = part(index).iter().filter(|row| row.figure.contains(figure)).collect();
    assert!(!rows.is_empty(), "no row is called {figure:?}");
    rows
}

#[test]
fn a_row_that_is_off_says_why_and_what_is_calibrated_is_not_off() {
    for row in all() {
        assert!(row.ours.is_finite() && row.ours > 0.0, "{row:?}");
        assert_eq!(row.error.is_some(), row.published.is_some(), "{row:?}");
        assert_eq!(row.is_off(), row.reason.is_some(), "a reason where it is off, and only there: {row:?}");
        assert!(!(row.calibrated && row.is_off()), "what is calibrated comes out: {row:?}");
    }
}

#[test]
fn boards_share_the_network_fairly() {
    let shares = named(2, "Jain");
    assert!(shares.iter().all(|row| row.ours >= 0.99), "{shares:?}");
}

#[test]
fn a_tenant_gets_what_it_is_limited_to() {
    for limit in named(3, "what a tenant gets") {
        assert!(limit.error.is_some_and(|error| error.abs() < 0.01), "{limit:?}");
    }
}

#[test]
fn the_documented_table_is_what_comes_out() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/paper.md");
    let document = std::fs::read_to_string(path).expect("docs/paper.md");
    let fresh = inserted(&document, &markdown(&all())).expect("a place for the table");
    similar_lines(&document, &fresh);
}

fn similar_lines(document: &str, fresh: &str) {
    for (there, new) in document.lines().zip(fresh.lines()) {
        assert_eq!(there, new, "docs/paper.md is old: bmhive paper --markdown --out docs/paper.md");
    }
    assert_eq!(document, fresh);
}

fn row() -> Row {
    Row::new("a figure", "bit/s", Some(10e9), 12e9, "by hand").because("it is made up")
}

#[test]
fn a_row_is_an_object_with_these_keys() {
    let text =
        json(&[row(), Row::new("another", "", None, 1.0, "so").because("never said")]).expect("numbers");
    let rows: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let first = serde_json::json!({
        "figure": "a figure", "unit": "bit/s", "published": 10e9, "ours": 12e9, "error": 12e9 / 10e9 - 1.0,
        "calibrated": false, "how": "by hand", "reason": "it is made up",
    });
    assert_eq!(rows[0], first);
    let null = serde_json::Value::Null;
    assert_eq!((&rows[1]["published"], &rows[1]["error"], &rows[1]["reason"]), (&null, &null, &null));
}

#[test]
fn a_table_says_why_below_it() {
    let text = terminal(&[row(), Row::new("another", "ns", Some(800.0), 800.0, "so").calibrated()]);
    assert!(text.contains("10 Gbit/s") && text.contains("+20.0 %"), "{text}");
    assert!(text.contains("calibrated") && text.contains("  [1] it is made up\n"), "{text}");
}

#[test]
fn a_document_keeps_what_stands_around_its_table() {
    let table = markdown(&[row()]);
    let document = format!("before\n{BEGIN}old\n{END}after\n");
    assert_eq!(inserted(&document, &table), Some(format!("before\n{table}after\n")));
    assert_eq!(inserted("no place", &table), None);
}
