//! Switches Ethernet between vhost-user ports. See `vhost_backends::net`.

use std::process::ExitCode;

use clap::Parser;

/// Switch Ethernet between vhost-user ports
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    options: vhost_backends::net::Options,
}

fn main() -> ExitCode {
    let options = Arguments::parse().options;
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match vhost_backends::net::serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vhost-net: {error}");
            ExitCode::FAILURE
        }
    }
}
