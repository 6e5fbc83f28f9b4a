//! Links, and what the DMA engine moves.

use bm_hypervisor::config::RingSizes;
use iobond_model::{cycle::Span, timing::Timing};
use simulation::{BenchError, Design, Outcome, Pace, Plan, Shape, Window, cycle::run};

use super::{Row, plan};

/// The paper's: what it calls the board's x4 link, in bits a second.
const BOARD_LINK: f64 = 32e9;
/// The paper's: lanes of the base's link.
const BASE_LANES: f64 = 8.0;
/// The paper's: IO-Bond's DMA engine, in bits a second.
const DMA: f64 = 50e9;
/// A judgement: large enough that the ring's own traffic is a small part, small enough that a window has
/// many.
const REQUEST: u32 = 4096;

/// A board that moves payload as fast as it can, for so long that a batch of requests more or less counts for
/// nothing. Back ends poll the shadow vrings: it is the links and the engine that are to be short, and not
/// the base. Queues and depth are judgements.
fn saturated(out: u32, back: u32) -> Result<Outcome, BenchError> {
    run(&Plan {
        rings: RingSizes { guest: 128, slot_size: REQUEST, ..RingSizes::NET },
        design: Design::default(),
        queues: 4,
        shape: Shape { out, back },
        pace: Pace::Closed { depth: 32 },
        window: Some(Window { after: Span::from_us(500), length: Span::from_us(16_000) }),
        ..plan()
    })
}

fn bits_per_second(outcome: &Outcome) -> f64 {
    outcome.boards.iter().map(|board| board.bytes as f64).sum::<f64>() * 8.0 / outcome.span.as_secs()
}

pub(super) fn rows() -> Result<Vec<Row>, BenchError> {
    let timing = Timing::default();
    let [up, down, both] =
        [(REQUEST, 0), (0, REQUEST), (REQUEST, REQUEST)].map(|(out, back)| saturated(out, back));
    let (up, down, both) = (up?, down?, both?);
    let payload = |outcome: &Outcome, wire: &str| {
        let busy = outcome.usage.iter().find(|usage| usage.name == wire).map_or(0.0, |usage| usage.share);
        format!(
            "8 GT/s and four lanes are 31.5 Gbit/s after 128b/130b; DLLPs and ordered sets, headers and framing of TLPs of at most 256 \
             bytes, and the ring's own reads and writes take the rest. The wire was busy for {:.0} % of the time.",
            busy * 100.0
        )
    };
    Ok(vec![
        Row::new(
            "board's link, x4",
            "bit/s",
            Some(BOARD_LINK),
            timing.board.bandwidth() as f64,
            "lanes times 8 GT/s times 128/130",
        )
        .calibrated(),
        Row::new(
            "payload over it, board to base",
            "bit/s",
            Some(BOARD_LINK),
            bits_per_second(&up),
            "4 queues with 32 requests of 4 KiB each, simulated",
        )
        .because(payload(&up, "board0: from the board")),
        Row::new(
            "payload over it, base to board",
            "bit/s",
            Some(BOARD_LINK),
            bits_per_second(&down),
            "the same, the other way",
        )
        .because(payload(&down, "board0: to the board")),
        Row::new("base's link", "lanes", Some(BASE_LANES), f64::from(timing.base.lanes), "as configured")
            .calibrated(),
        Row::new(
            "IO-Bond's DMA engine",
            "bit/s",
            Some(DMA),
            bits_per_second(&both),
            "payload of both directions at once, simulated",
        )
        .calibrated()
        .because("requests do not keep both directions busy all the time."),
    ])
}
