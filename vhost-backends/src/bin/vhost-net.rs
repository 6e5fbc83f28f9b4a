//! Switches Ethernet between vhost-user ports. See `vhost_backends::net`.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Switch Ethernet between vhost-user ports
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    options: vhost_backends::net::Options,
}

fn main() -> ExitCode {
    let options = Arguments::parse().options;
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).init();
    match vhost_backends::net::serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vhost-net: {error}");
            ExitCode::FAILURE
        }
    }
}
