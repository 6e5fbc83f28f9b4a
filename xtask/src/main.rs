//! Every chore of this repository, as `cargo xtask NAME`.

fn main() {}
