//! What a tenant gets that is held to the paper's limits.

use bm_hypervisor::config::RingSizes;
use iobond_model::{
    cycle::Span,
    qos::{Limit, Limits},
};
use simulation::{BenchError, NET_HEADER, Outcome, Pace, Plan, Service, Shape, Way, Window, cycle::run};

use super::{Row, network::SHORTEST, plan};

/// The paper's limits of a network function: packets and bits a second.
const PACKETS: u64 = 4_000_000;
const BITS: u64 = 10_000_000_000;
/// The paper's limits of a disk: operations and bytes a second.
const IOPS: u64 = 25_000;
const BYTES: u64 = 300_000_000;
/// The paper's measurements with limits: UDP packets received a second, bits of TCP a second.
const UDP: f64 = 3.2e6;
const TCP: f64 = 9.6e9;
/// The payload of each TCP segment in it.
const SEGMENT: u32 = 1400;
/// Headers of Ethernet, IPv4 and TCP before it (IEEE 802.3-2018, 3.1.1; RFC 791, 3.1; RFC 9293, 3.1), and the
/// time stamps that Linux sends by default (RFC 7323, 3.2, padded).
const HEADERS: u32 = 14 + 20 + 20 + 12;
/// What a bucket holds: a ten-thousandth of a second's worth. A judgement.
const BURSTS: u64 = 10_000;

const fn limit(rate: u64) -> Limit {
    Limit { rate, burst: rate / BURSTS }
}

/// Limits of a network function.
const NET: Limits = Limits { operations: limit(PACKETS), bytes: limit(BITS / 8) };

/// A card that is held to its limits, for 2 ms.
fn card(way: Way, shape: Shape) -> Result<Outcome, BenchError> {
    run(&Plan {
        queues: 4,
        shape,
        pace: Pace::Closed { depth: 128 },
        service: Service::Network { way },
        limits: Some(NET),
        window: Some(Window { after: Span::from_us(500), length: Span::from_us(2000) }),
        ..plan()
    })
}

/// A disk that is held to its limits and quicker than they are, for 40 ms.
fn disk(back: u32) -> Result<Outcome, BenchError> {
    run(&Plan {
        rings: RingSizes::BLK,
        shape: Shape { out: 16, back },
        pace: Pace::Closed { depth: 32 },
        limits: Some(Limits { operations: limit(IOPS), bytes: limit(BYTES) }),
        window: Some(Window { after: Span::from_us(10_000), length: Span::from_us(40_000) }),
        ..plan()
    })
}

pub(super) fn rows() -> Result<Vec<Row>, BenchError> {
    Ok([granted()?, measured()?].concat())
}

fn bits(outcome: &Outcome) -> f64 {
    outcome.boards.iter().map(|board| board.bytes as f64).sum::<f64>() * 8.0 / outcome.span.as_secs()
}

fn sending(frame: u32) -> Shape {
    Shape { out: NET_HEADER + frame, back: 0 }
}

/// What the limits come to.
fn granted() -> Result<Vec<Row>, BenchError> {
    let (sent, wide) = (card(Way::Transmit, sending(SHORTEST))?, card(Way::Transmit, sending(1514))?);
    let (small, large) = (disk(4096)?, disk(64 << 10)?);
    let published = |value: u64| Some(value as f64);
    Ok(vec![
        Row::new(
            "limit on packets: what a tenant gets",
            "packets/s",
            published(PACKETS),
            sent.rate(),
            "60-byte frames sent as fast as the buckets let them",
        ),
        Row::new(
            "limit on bits of packets: what a tenant gets",
            "bit/s",
            published(BITS),
            bits(&wide),
            "1514-byte frames, with the 12 bytes of virtio-net that IO-Bond carries and counts",
        ),
        Row::new(
            "limit on IOPS: what a tenant gets",
            "requests/s",
            published(IOPS),
            small.rate(),
            "4 KiB reads, 32 outstanding, from memory",
        ),
        Row::new(
            "limit on bytes of a disk: what a tenant gets",
            "bytes/s",
            published(BYTES),
            bits(&large) / 8.0,
            "64 KiB reads, 32 outstanding, from memory",
        ),
    ])
}

/// What the paper measured with them.
fn measured() -> Result<Vec<Row>, BenchError> {
    let flows = card(Way::Transmit, sending(HEADERS + SEGMENT))?;
    let receive = Way::Receive { rate: 2 * PACKETS };
    let received = card(receive, Shape { out: 0, back: NET_HEADER + SHORTEST })?;
    Ok(vec![
        Row::new(
            "UDP received with limits",
            "packets/s",
            Some(UDP),
            received.rate(),
            "twice the limit offered, 60-byte frames",
        )
        .because(
            "the limit is what is left here. The guest's kernel is not simulated; its network stack, which handles a datagram at a time, \
             likely explains what the paper measures below its own limit.",
        ),
        Row::new(
            "TCP with limits, segments of 1400 bytes",
            "bit/s",
            Some(TCP),
            bits(&flows) * f64::from(SEGMENT) / f64::from(NET_HEADER + HEADERS + SEGMENT),
            "payload of 1466-byte frames, the headers taken off; acknowledgements are left out",
        ),
    ])
}
