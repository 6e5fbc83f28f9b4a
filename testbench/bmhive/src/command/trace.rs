//! `bmhive trace`.

use std::{path::PathBuf, process::ExitCode, rc::Rc};

use iobond_model::cycle::Span;
use miette::{Context, IntoDiagnostic};
use results::replace;
use simulation::{
    Outcome, Pace, Payload, Plan, Shape,
    cycle::{self, Packets, Timeline, Watch},
};

use super::Output;

/// Events of a picture: some 300 bytes of memory each, and as many as Perfetto still scrolls.
const EVENTS: usize = 1_000_000;
/// Most bytes of captured frames that are kept.
const CAPTURE: u64 = 256 << 20;

/// Simulate a short run in virtual time, to look at: what happened when, and the packets
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Boards, 1 to 16
    #[arg(long, default_value_t = 2)]
    boards: u8,
    /// Queues of each board, 1 to 64
    #[arg(long, default_value_t = 2)]
    queues: u8,
    /// Bytes of a request, and of its answer, headers included: 62 to 65536
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    size: u32,
    /// Requests outstanding in each queue
    #[arg(long, default_value_t = 4)]
    depth: u16,
    /// Requests of each queue
    #[arg(long, default_value_t = 100)]
    requests: u64,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Directory for trace.json and packets.pcap
    #[arg(long, value_name = "DIR", default_value = "target/bmhive/trace")]
    out: PathBuf,
}

pub(super) fn run(arguments: &Arguments, output: &Output) -> miette::Result<ExitCode> {
    let plan = arguments.plan();
    plan.check().into_diagnostic()?;
    let watch = Rc::new((Timeline::new(&plan, EVENTS), Packets::new(CAPTURE)));
    let outcome = cycle::run_watched(&plan, &(Rc::clone(&watch) as Rc<dyn Watch>)).into_diagnostic()?;
    let trace = watch.0.take();
    let mut picture = Vec::new();
    trace.write(&mut picture).into_diagnostic()?;
    let captured = watch.1.take().into_diagnostic().wrap_err("cannot write down the packets")?;
    let [picture_at, capture_at] = ["trace.json", "packets.pcap"].map(|name| arguments.out.join(name));
    replace(&picture_at, &picture).into_diagnostic()?;
    replace(&capture_at, &captured.file).into_diagnostic()?;
    output.print(&format!(
        "{}\n\n\
         {}: {} events{}; open it at https://ui.perfetto.dev or chrome://tracing\n\
         {}: {} frames{}; open it with Wireshark, or tcpdump -tt --nano -r\n",
        arguments.summary(&outcome),
        picture_at.display(),
        trace.len(),
        beyond(trace.left_out()),
        capture_at.display(),
        captured.count,
        beyond(captured.left_out),
    ))?;
    Ok(ExitCode::SUCCESS)
}

impl Arguments {
    fn plan(&self) -> Plan {
        Plan {
            boards: self.boards,
            queues: self.queues,
            shape: Shape { out: self.size, back: self.size },
            payload: Payload::Frames,
            pace: Pace::Closed { depth: self.depth },
            requests: self.requests,
            // The first ones are worth a look, too.
            warm_up: 0,
            seed: self.seed,
            ..Plan::default()
        }
    }

    fn summary(&self, outcome: &Outcome) -> String {
        let round_trip = outcome.latency("round_trip");
        let [p50, p99] = [round_trip.map(|it| it.p50), round_trip.map(|it| it.p99)]
            .map(|ns| Span::from_ns(ns.unwrap_or_default()));
        format!(
            "{} requests of {} bytes and back, {} outstanding in each of {} queues of {} boards: {} of simulated time, \
             round trip p50 {p50}, p99 {p99}",
            outcome.requests, self.size, self.depth, self.queues, self.boards, outcome.span,
        )
    }
}

/// What a limit left out.
fn beyond(left_out: u64) -> String {
    if left_out == 0 { String::new() } else { format!(" ({left_out} more were left out)") }
}
