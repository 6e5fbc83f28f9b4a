//! A local SSD, on a board and on a virtual machine.

use bm_hypervisor::config::RingSizes;
use iobond_model::cycle::Span;
use results::report::quantity;
use simulation::{
    BenchError, Design, Outcome, Pace, Plan, Service, Shape,
    cycle::{
        run,
        vm::{self, EXIT, NOTICEABLE, Vm},
    },
};

use super::{Row, plan};

/// The paper's: mean of a request at a local SSD, from a board.
const MEAN: Span = Span::from_us(60);
/// The paper's: what a board has of a virtual machine's IOPS and bandwidth.
const IOPS: f64 = 1.5;
const BANDWIDTH: f64 = 2.0;
/// The paper's: what an exit takes at least.
const LEAST_EXIT: Span = Span::from_us(10);
/// Bytes before the payload of a request (virtio 1.3, 5.2.6: type, reserved, sector), and the status behind
/// it.
const HEADER: u32 = 16;
const STATUS: u32 = 1;
/// Bytes a second that an SSD reads. A judgement: NVMe of the paper's time behind PCIe 3.0 x4 reads 3.2 GB/s.
const DISK: u64 = 3_200_000_000;
/// Blocks of the measurements. Judgements, as the paper gives none: a page, and what a slot of a disk holds.
const SMALL: u32 = 4 << 10;
const LARGE: u32 = 32 << 10;
/// Queues of the run for bandwidth, of which each has eight reads outstanding. A judgement.
const QUEUES: u8 = 8;
/// Reads outstanding where a disk is kept busy. A judgement: a common depth of benchmarks.
const DEEP: u16 = 32;

/// Small reads, `depth` of them outstanding in one queue (a judgement: QEMU's default for virtio-blk until
/// 5.2); the disk takes them all at once.
fn small(depth: u16) -> Plan {
    Plan {
        rings: RingSizes::BLK,
        shape: Shape { out: HEADER, back: SMALL + STATUS },
        pace: Pace::Closed { depth },
        service: Service::Disk { channels: depth, fixed: MEAN, random: Span::ZERO },
        requests: 500 * u64::from(depth),
        warm_up: 50 * u64::from(depth),
        ..plan()
    }
}

/// Large reads, one after the other over the disk's own link.
fn large(queues: u8) -> Plan {
    let fixed = Span::at_rate(LARGE.into(), DISK);
    Plan {
        queues,
        shape: Shape { out: HEADER, back: LARGE + STATUS },
        pace: Pace::Closed { depth: 8 },
        service: Service::Disk { channels: 1, fixed, random: Span::ZERO },
        requests: 300,
        warm_up: 50,
        ..small(1)
    }
}

/// The same with this project's design.
fn here(plan: Plan) -> Plan {
    Plan { design: Design::default(), ..plan }
}

/// A board's rate over a virtual machine's.
fn over(plan: &Plan, vm: Vm) -> Result<f64, BenchError> {
    Ok(run(plan)?.rate() / vm::run(plan, vm)?.outcome.rate())
}

fn mean(outcome: &Outcome) -> f64 {
    outcome.latency("round_trip").map_or(0.0, |latency| latency.mean)
}

pub(super) fn rows() -> Result<Vec<Row>, BenchError> {
    let (board, ours) = (run(&small(1))?, run(&here(small(1)))?);
    let path = |outcome: &Outcome| quantity(mean(outcome) - MEAN.as_ns(), "ns");
    let machine = vm::run(&small(1), Vm::default())?;
    let mut rows = vec![
        Row::new(
            "local SSD, mean of a 4 KiB read",
            "ns",
            Some(MEAN.as_ns()),
            mean(&board),
            "a disk that takes 60 us by itself, which is all that is known of it; one read outstanding in one queue",
        )
        .because(format!(
            "the published mean has the paper's path in it, and ours comes on top: {} of driver, IO-Bond, register polls and back end; \
             {} where back ends poll the shadow vrings. The disk's own part of the published mean is not known.",
            path(&board),
            path(&ours)
        )),
    ];
    rows.extend(beside_a_machine()?);
    rows.extend([
        Row::new(
            "an exit of a virtual machine",
            "ns",
            Some(LEAST_EXIT.as_ns()),
            lost_to_an_exit()?,
            "what a machine's read takes longer with a doorbell that exits than with one that does not",
        )
        .calibrated(),
        Row::new(
            "processor time at the exits that the paper calls noticeable",
            "%",
            None,
            NOTICEABLE as f64 * EXIT.as_secs() * 100.0,
            "5000 a second times 10 us",
        ),
        Row::new(
            "exits of a virtual machine at its SSD",
            "exits/s",
            None,
            machine.exits_per_second(),
            "one read outstanding; the paper calls more than 5000 a second noticeable",
        ),
    ]);
    Ok(rows)
}

fn beside_a_machine() -> Result<[Row; 2], BenchError> {
    let halting = Vm { exits_per_interrupt: 3, ..Vm::default() };
    let (wide, machine) = (run(&large(QUEUES))?, vm::run(&large(QUEUES), Vm::default())?.outcome);
    let bandwidth = |outcome: &Outcome| outcome.rate() * f64::from(LARGE);
    let both = |outcome: &Outcome| quantity(bandwidth(outcome), "bytes/s");
    Ok([
        Row::new(
            "local SSD, IOPS over a virtual machine's",
            "",
            Some(IOPS),
            over(&small(1), Vm::default())?,
            format!(
                "the disk above behind a doorbell that exits and an interrupt that is injected, {} each",
                quantity(EXIT.as_ns(), "ns")
            ),
        )
        .because(format!(
            "two exits are all that the machine loses here, and the board's path takes back most of it. Where back ends poll the shadow \
             vrings it is {:.2}; if moreover the end of an interrupt and a processor that halts exit, {:.2}. With {DEEP} reads \
             outstanding exits are shared and the engine of the one queue is what is short: {:.2}. The host's own storage stack and \
             scheduler are not simulated.",
            over(&here(small(1)), Vm::default())?,
            over(&here(small(1)), halting)?,
            over(&here(small(DEEP)), Vm::default())?,
        )),
        Row::new(
            "local SSD, bandwidth over a virtual machine's",
            "",
            Some(BANDWIDTH),
            bandwidth(&wide) / bandwidth(&machine),
            format!("32 KiB reads, 8 outstanding in each of {QUEUES} queues, of a disk of {}", quantity(DISK as f64, "bytes/s")),
        )
        .because(format!(
            "exits do not bound large reads, the disk does: {} on the board, {} in the machine. With one queue its engine is what is \
             short, and it is {:.2}. A machine that gets half of a disk must lose it where nothing is simulated, as in its host's \
             storage stack.",
            both(&wide),
            both(&machine),
            over(&large(1), Vm::default())?
        )),
    ])
}

/// By how much a read is slower for an exit.
fn lost_to_an_exit() -> Result<f64, BenchError> {
    let [with, without] =
        [true, false].map(|doorbells| vm::run(&small(1), Vm { doorbells, ..Vm::default() }));
    // Reads follow one another without a gap; means are rounded to three digits.
    let each = |outcome: &Outcome| outcome.span.as_ns() / outcome.requests as f64;
    Ok(each(&with?.outcome) - each(&without?.outcome))
}
