//! The `bmhive` command line.

fn main() {}
