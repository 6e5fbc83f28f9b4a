//! The server's network, shared by boards, and packets of a board without limits.

use iobond_model::{cycle::Span, qos::jain};
use results::report::quantity;
use scenario::MAX_BOARDS;
use simulation::{
    BenchError, Design, Load, NET_HEADER, Outcome, Pace, Plan, Service, Shape, Way, Window,
    cycle::{run, vm},
};

use super::{Row, plan};

/// The paper's: the server's network, in bits a second.
const NETWORK: f64 = 100e9;
/// The paper's: packets a second of a board without limits.
const UNLIMITED: f64 = 16e6;
/// Frames from the shortest to the longest without jumbo frames, by powers of two as of RFC 2544, 9.1; the
/// check sequence is left out.
const FRAMES: [u32; 6] = [60, 124, 252, 508, 1020, 1514];
/// Frames of the packet rate: the shortest.
pub(super) const SHORTEST: u32 = 60;
/// Queues for it. A judgement, as the paper does not say; the row gives others, too.
const QUEUES: u8 = 4;
/// Offered to a receiver: more than any board here takes.
const FLOOD: u64 = 40_000_000;

pub(super) fn rows() -> Result<Vec<Row>, BenchError> {
    let all = shared(&(0..MAX_BOARDS).map(|_| true).collect::<Vec<_>>())?;
    let half = shared(&(0..MAX_BOARDS).map(|board| board % 2 == 0).collect::<Vec<_>>())?;
    let got = |outcome: &Outcome| -> Vec<f64> {
        let bits = |bytes| bytes as f64 * 8.0 / outcome.span.as_secs();
        outcome.boards.iter().map(|board| bits(board.wire_bytes)).filter(|bits| *bits > 0.0).collect()
    };
    let (shares, of_half) = (got(&all), got(&half));
    let mut rows = vec![
        Row::new(
            "server's network, shared by 16 boards",
            "bit/s",
            Some(NETWORK),
            shares.iter().sum(),
            "boards that send frames of 60 to 1514 bytes, each its own size, as fast as they can; with preambles and gaps",
        ),
        Row::new(
            "balance of the 16 shares, Jain's index",
            "",
            Some(1.0),
            jain(&shares),
            "the same run, bytes on the wire; balanced is 1",
        ),
        Row::new(
            "the network when 8 of the boards are idle",
            "bit/s",
            Some(NETWORK),
            of_half.iter().sum(),
            "the others use their shares; frames and queues as above",
        ),
    ];
    rows.extend(unlimited()?);
    Ok(rows)
}

/// Boards that send as fast as they can, if they are `busy`.
fn shared(busy: &[bool]) -> Result<Outcome, BenchError> {
    let load = |(busy, frame): (&bool, &u32)| match busy {
        true => Load::Busy {
            shape: Shape { out: NET_HEADER + frame, back: 0 },
            pace: Pace::Closed { depth: 128 },
        },
        false => Load::Idle,
    };
    run(&Plan {
        // A core that reads the registers of 16 boards in turn would be what is short.
        design: Design::default(),
        boards: MAX_BOARDS,
        queues: 4,
        loads: busy.iter().zip(FRAMES.iter().cycle()).map(load).collect(),
        shape: Shape { out: NET_HEADER + SHORTEST, back: 0 },
        service: Service::Network { way: Way::Transmit },
        // Until the boards with the longest frames have filled their rings, and as long again.
        window: Some(Window { after: Span::from_us(400), length: Span::from_us(400) }),
        ..plan()
    })
}

/// A board, or a virtual machine, that receives the shortest frames as fast as it can.
fn flooded(queues: u8) -> Plan {
    Plan {
        queues,
        shape: Shape { out: 0, back: NET_HEADER + SHORTEST },
        pace: Pace::Closed { depth: 256 },
        service: Service::Network { way: Way::Receive { rate: FLOOD } },
        window: Some(Window { after: Span::from_us(500), length: Span::from_us(1000) }),
        ..plan()
    }
}

fn unlimited() -> Result<Vec<Row>, BenchError> {
    let rate = |queues| run(&flooded(queues)).map(|outcome| outcome.rate());
    let others = [1, 2, 8]
        .into_iter()
        .map(|queues| Ok(format!("{queues}: {}", quantity(rate(queues)?, "packets/s"))))
        .collect::<Result<Vec<_>, BenchError>>()?
        .join(", ");
    let how = format!(
        "60-byte frames into {QUEUES} receive queues of 256; the paper does not say how many. With other numbers of queues, {others}"
    );
    let machine = vm::run(&flooded(QUEUES), vm::Vm::default())?;
    Ok(vec![
        Row::new("packets of a board without limits", "packets/s", Some(UNLIMITED), rate(QUEUES)?, how).because(
            "a queue's rate is bounded by its engine's round trips, eight by the one core of the back end; the paper's number of queues \
             would decide.",
        ),
        Row::new(
            "packets of a virtual machine without limits",
            "packets/s",
            None,
            machine.outcome.rate(),
            format!("the same driver and back end; {} exits/s", quantity(machine.exits_per_second(), "")),
        ),
    ])
}
