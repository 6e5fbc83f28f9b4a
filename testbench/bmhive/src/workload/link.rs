//! Work for two network cards: a ping-pong of single frames, a stream of frames one way, and a file by TCP.

use std::{
    cell::Cell,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddrV4},
    rc::Rc,
    time::{Duration, Instant},
};

use results::measure::LatencyRecorder;
use scenario::Extent;
use software_board::{
    net::Net,
    tcp::{Host, Progress, Stream},
    transport::BoardTransport,
};

use super::{Watch, WorkloadError, disk::Measured, is_over};

/// EtherType of the frames of a measurement: local experimental (IEEE 802.3, 802a).
const EXPERIMENTAL: [u8; 2] = [0x88, 0xB5];
/// Where the payload of a frame begins.
const PAYLOAD: usize = 14;
/// Shortest frame without its check sequence (IEEE 802.3, 3.2.7).
const SHORTEST: usize = 60;
/// Number of the frames that are sent before counting.
const GREETING: u64 = u64::MAX;
/// Round trips between two words to the progress bar.
const STRIDE: u64 = 64;
/// Where the receiving board listens.
const PORT: u16 = 5001;
/// Where the sending board sends from; ephemeral by RFC 6335.
const FROM_PORT: u16 = 49152;

/// The two boards' addresses, a network of documentation (RFC 5737).
const NETWORK: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];

/// Sends a frame of `bytes` bytes from `a` to `b` and back, one at a time.
///
/// # Errors
/// [`WorkloadError`].
pub fn ping_pong<T: BoardTransport>(
    a: &mut Net<T>,
    b: &mut Net<T>,
    bytes: usize,
    extent: Extent,
    watch: &mut Watch<'_>,
    mut progress: impl FnMut(u64, Duration),
) -> Result<Measured, WorkloadError> {
    acquaint(a, b, watch)?;
    acquaint(b, a, watch)?;
    let mut latency = LatencyRecorder::new();
    let start = Instant::now();
    let mut done = 0u64;
    while !is_over(extent, done, start.elapsed()) {
        let begun = Instant::now();
        send(a, b.mac(), bytes, done)?;
        await_frame(b, a.mac(), done, watch)?;
        send(b, a.mac(), bytes, done)?;
        await_frame(a, b.mac(), done, watch)?;
        latency.record(begun.elapsed());
        done += 1;
        if done.is_multiple_of(STRIDE) {
            progress(done, start.elapsed());
        }
    }
    Ok(Measured { latency, elapsed: start.elapsed() })
}

/// Sends frames from `a` to `b` until one arrives: a switch drops what comes for a port that it has only just
/// been told of.
fn acquaint<T: BoardTransport>(
    a: &mut Net<T>,
    b: &mut Net<T>,
    watch: &mut Watch<'_>,
) -> Result<(), WorkloadError> {
    /// How long a frame may take before the next one is sent.
    const AGAIN: Duration = Duration::from_millis(20);
    loop {
        send(a, b.mac(), SHORTEST, GREETING)?;
        let sent = Instant::now();
        while sent.elapsed() < AGAIN {
            let Some(frame) = b.receive()? else {
                watch.look(false)?;
                b.relax();
                continue;
            };
            let arrived = frame_number(frame.bytes(), a.mac()) == Some(GREETING);
            b.recycle(frame)?;
            b.kick();
            if arrived {
                return watch.look(true);
            }
        }
    }
}

/// Sends frame `number` to `to`.
fn send<T: BoardTransport>(
    net: &mut Net<T>,
    to: [u8; 6],
    bytes: usize,
    number: u64,
) -> Result<(), WorkloadError> {
    let from = net.mac();
    let mut frame = net.frame(bytes);
    write_frame(frame.bytes_mut(), to, from, number);
    // One frame is in flight at a time, so the queue is not full.
    net.queue(frame)?;
    net.kick();
    Ok(())
}

fn write_frame(frame: &mut [u8], to: [u8; 6], from: [u8; 6], number: u64) {
    frame[..6].copy_from_slice(&to);
    frame[6..12].copy_from_slice(&from);
    frame[12..PAYLOAD].copy_from_slice(&EXPERIMENTAL);
    frame[PAYLOAD..PAYLOAD + 8].copy_from_slice(&number.to_le_bytes());
}

/// Waits for frame `number` from `from`; others are passed over.
fn await_frame<T: BoardTransport>(
    net: &mut Net<T>,
    from: [u8; 6],
    number: u64,
    watch: &mut Watch<'_>,
) -> Result<(), WorkloadError> {
    loop {
        let Some(frame) = net.receive()? else {
            watch.look(false)?;
            net.relax();
            continue;
        };
        let wanted = frame_number(frame.bytes(), from) == Some(number);
        net.recycle(frame)?;
        if wanted {
            watch.look(true)?;
            return Ok(());
        }
    }
}

fn frame_number(frame: &[u8], from: [u8; 6]) -> Option<u64> {
    let ours = frame.get(6..12)? == from && frame.get(12..PAYLOAD)? == EXPERIMENTAL;
    let number = frame.get(PAYLOAD..PAYLOAD + 8)?;
    ours.then(|| number.try_into().map(u64::from_le_bytes).ok()).flatten()
}

/// What came of a stream of frames.
#[derive(Clone, Copy, Debug)]
pub struct Streamed {
    /// Frames that arrived at the second board.
    pub frames: u64,
    /// From the first frame sent to the last that arrived.
    pub elapsed: Duration,
}

/// Sends frames of `bytes` bytes from `a` to `b` as fast as the two take them, with at most a ring of them
/// under way, so that the switch drops none.
///
/// # Errors
/// [`WorkloadError`].
pub fn stream<T: BoardTransport>(
    a: &mut Net<T>,
    b: &mut Net<T>,
    bytes: usize,
    extent: Extent,
    watch: &mut Watch<'_>,
) -> Result<Streamed, WorkloadError> {
    /// Frames under way at most; half of the receiving ring.
    const WINDOW: u64 = 128;
    acquaint(a, b, watch)?;
    acquaint(b, a, watch)?;
    let start = Instant::now();
    let (mut sent, mut arrived, mut over) = (0u64, 0u64, false);
    let (to, from) = (b.mac(), a.mac());
    while !over || arrived < sent {
        while !over && sent - arrived < WINDOW && a.can_transmit()? {
            let mut frame = a.frame(bytes);
            write_frame(frame.bytes_mut(), to, from, sent);
            a.queue(frame)?;
            sent += 1;
            over = is_over(extent, sent, Duration::ZERO);
        }
        a.kick();
        let before = arrived;
        while let Some(frame) = b.receive()? {
            // A late greeting does not belong to the stream.
            arrived += u64::from(frame_number(frame.bytes(), from).is_some_and(|number| number != GREETING));
            b.recycle(frame)?;
        }
        if arrived > before {
            b.kick();
            over |= is_over(extent, arrived, start.elapsed());
        } else {
            b.relax();
        }
        watch.look(arrived > before)?;
    }
    Ok(Streamed { frames: arrived, elapsed: start.elapsed() })
}

/// Sends all that `from` yields by TCP from `a` to `b`, which writes it to `to`, and calls `at_end` while
/// both cards are still driven. Returns the number of bytes that arrived.
///
/// # Errors
/// [`WorkloadError`].
pub fn transfer<T: BoardTransport>(
    a: Net<T>,
    b: Net<T>,
    from: impl Read,
    to: impl Write,
    seed: u64,
    watch: &mut Watch<'_>,
    at_end: impl FnOnce(),
) -> Result<u64, WorkloadError> {
    let mut sender = Host::new(a, NETWORK[0], 24, seed);
    let mut receiver = Host::new(b, NETWORK[1], 24, seed + 1);
    let counted = Rc::new(Cell::new(0));
    let mut receiving = receiver.receive_stream(PORT, Counting(to, Rc::clone(&counted)))?;
    let mut sending = sender.send_stream(from, SocketAddrV4::new(NETWORK[1], PORT), FROM_PORT)?;
    let (mut sent, mut received) = (Progress::Running, Progress::Running);
    loop {
        if sent == Progress::Running {
            sent = sending.step(&mut sender)?;
        } else {
            sender.poll()?;
        }
        if received == Progress::Running {
            received = receiving.step(&mut receiver)?;
        } else {
            receiver.poll()?;
        }
        if let (Progress::Done(_), Progress::Done(bytes)) = (sent, received) {
            at_end();
            return Ok(bytes);
        }
        let arrived = counted.replace(0);
        watch.look(arrived > 0)?;
        receiver.net().relax();
    }
}

/// Counts what passes, for the watch over the transfer.
struct Counting<W>(W, Rc<Cell<u64>>);

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.0.write(buffer)?;
        self.1.set(self.1.get() + written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
