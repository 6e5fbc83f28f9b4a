use std::collections::BTreeSet;

use super::*;

#[test]
fn every_row_is_possible_and_has_a_name_of_its_own() {
    let rows = rows();
    for row in &rows {
        row.plan.check().unwrap_or_else(|error| panic!("{}: {error}", row.name));
        assert!(row.of.is_empty() || rows.iter().any(|other| other.name == row.of), "{}", row.of);
    }
    let (keys, names): (BTreeSet<_>, BTreeSet<_>) =
        rows.iter().map(|row| (&row.key, (&row.name, row.of))).unzip();
    assert_eq!((keys.len(), names.len()), (rows.len(), rows.len()));
}

/// The table that stands in the documentation is what comes out, to the byte, and the claim holds.
#[test]
fn the_documented_table_is_what_comes_out() {
    let measured = run(|_| ()).unwrap();
    let claim = claim(&measured).unwrap();
    assert!(claim.passed, "{claim:?}");
    let documented = include_str!("../../../../docs/ablations.md");
    let table = markdown(&measured);
    assert!(
        documented.contains(&table),
        "docs/ablations.md has another table; review this one and put it there:\n{table}"
    );
}
