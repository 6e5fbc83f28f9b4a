//! Serves a console to terminals as a vhost-user device. See `vhost_backends::console`.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Serve a console to terminals as a vhost-user device
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    options: vhost_backends::console::Options,
}

fn main() -> ExitCode {
    let options = Arguments::parse().options;
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let colour = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).init();
    match vhost_backends::console::serve(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vhost-console: {error}");
            ExitCode::FAILURE
        }
    }
}
