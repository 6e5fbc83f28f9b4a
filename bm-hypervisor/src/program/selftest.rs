//! Checks that an IO-Bond, and the port to it, do what every IO-Bond has to.

use bm_hypervisor::{
    config::PortConfig,
    port::{conformance, open::OpenPort},
};
use miette::{Context, IntoDiagnostic};

/// Runs every check on the IO-Bond behind `port` and prints the results.
pub fn selftest(port: &PortConfig) -> miette::Result<()> {
    let port = OpenPort::open(port).into_diagnostic().wrap_err("cannot open the port")?;
    let checks = conformance::checks();
    let mut failed = 0;
    for check in &checks {
        match check.run(&port) {
            Ok(()) => println!("ok      {}", check.name),
            Err(failure) => {
                failed += 1;
                println!("FAILED  {}: {failure}", check.name);
            }
        }
    }
    println!("{} passed, {failed} failed", checks.len() - failed);
    if failed > 0 {
        miette::bail!("{failed} checks failed; this IO-Bond, or the port to it, does not do what it has to");
    }
    Ok(())
}
