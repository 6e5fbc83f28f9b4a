//! Work for a disk: a stream of sectors to it and back, and random reads.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use results::measure::{LatencyRecorder, StageRecorder};
use scenario::Extent;
use software_board::{
    blk::{Blk, SECTOR},
    transport::BoardTransport,
};

use super::{Watch, WorkloadError, is_over};

/// Bytes of one request of a stream.
const CHUNK: usize = 64 << 10;
/// Requests of a stream in flight.
const DEPTH: usize = 8;
/// Bytes of a random read.
pub const BLOCK: usize = 4096;
/// Requests between two looks at the clock and two words to the progress bar.
const STRIDE: u64 = 256;

/// What came of a measurement.
#[derive(Debug)]
pub struct Measured {
    /// Latencies of all requests.
    pub latency: LatencyRecorder,
    /// How long it took altogether.
    pub elapsed: Duration,
}

/// Writes all that `from` yields to the disk from sector 0 on, and flushes. Returns the number of bytes; the
/// last sector is filled up with zeroes.
///
/// # Errors
/// [`WorkloadError`].
pub fn write_stream<T: BoardTransport>(
    disk: &mut Blk<T>,
    mut from: impl Read,
    source: &std::path::Path,
    watch: &mut Watch<'_>,
    mut progress: impl FnMut(u64),
) -> Result<u64, WorkloadError> {
    let (mut sent, mut done, mut end) = (0u64, 0u64, false);
    let mut sector = 0;
    let mut spare: Vec<Vec<u8>> = Vec::new();
    let mut in_flight = 0;
    while !end || in_flight > 0 {
        while !end && in_flight < DEPTH && disk.can_submit() {
            let mut buffer = spare.pop().unwrap_or_default();
            buffer.resize(CHUNK, 0);
            let read = fill(&mut from, &mut buffer)
                .map_err(|error| WorkloadError::File { path: source.to_owned(), source: error })?;
            end = read < CHUNK;
            if read == 0 {
                break;
            }
            sent += read as u64;
            let sectors = read.div_ceil(SECTOR);
            buffer[read..].fill(0);
            buffer.truncate(sectors * SECTOR);
            disk.submit_write(sector, buffer)?;
            sector += sectors as u64;
            in_flight += 1;
        }
        disk.kick();
        let mut failed = None;
        let finished = disk.poll_completions(|completion| {
            done += completion.buffer.len() as u64;
            failed = failed.take().or(completion.outcome.err());
            spare.push(completion.buffer);
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        in_flight -= finished;
        progress(done.min(sent));
        watch.look(finished > 0)?;
        if finished == 0 {
            disk.relax();
        }
    }
    flush(disk, watch)?;
    Ok(sent)
}

/// Has the disk commit what was written. The driver's own flush would wait for a back end that is dead.
fn flush<T: BoardTransport>(disk: &mut Blk<T>, watch: &mut Watch<'_>) -> Result<(), WorkloadError> {
    disk.submit_flush()?;
    disk.kick();
    let mut outcome = None;
    while outcome.is_none() {
        disk.poll_completions(|completion| outcome = Some(completion.outcome))?;
        watch.look(outcome.is_some())?;
        disk.relax();
    }
    Ok(outcome.unwrap_or(Ok(()))?)
}

/// Reads `bytes` bytes from sector 0 on, in order, into `to`.
///
/// # Errors
/// [`WorkloadError`].
pub fn read_stream<T: BoardTransport>(
    disk: &mut Blk<T>,
    bytes: u64,
    mut to: impl Write,
    watch: &mut Watch<'_>,
    mut progress: impl FnMut(u64),
) -> Result<(), WorkloadError> {
    let (mut asked, mut written) = (0u64, 0u64);
    let mut order: VecDeque<(u16, Option<Vec<u8>>)> = VecDeque::new();
    let mut spare: Vec<Vec<u8>> = Vec::new();
    while written < bytes {
        while asked < bytes && order.len() < DEPTH && disk.can_submit() {
            let length = (bytes - asked).min(CHUNK as u64) as usize;
            let mut buffer = spare.pop().unwrap_or_default();
            buffer.resize(length.div_ceil(SECTOR) * SECTOR, 0);
            order.push_back((disk.submit_read(asked / SECTOR as u64, buffer)?, None));
            asked += length as u64;
        }
        disk.kick();
        let mut failed = None;
        let finished = disk.poll_completions(|completion| {
            failed = failed.take().or(completion.outcome.err());
            // Requests may finish in any order; a token is used again only after its buffer was handed on.
            let slot =
                order.iter_mut().find(|(token, buffer)| *token == completion.token && buffer.is_none());
            if let Some((_, buffer)) = slot {
                *buffer = Some(completion.buffer);
            }
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        while let Some((_, Some(_))) = order.front() {
            let Some((_, Some(buffer))) = order.pop_front() else { break };
            let length = ((bytes - written) as usize).min(buffer.len());
            to.write_all(&buffer[..length]).map_err(|source| WorkloadError::File {
                path: "the copy that was read back".into(),
                source,
            })?;
            written += length as u64;
            spare.push(buffer);
        }
        progress(written);
        watch.look(finished > 0)?;
        if finished == 0 {
            disk.relax();
        }
    }
    Ok(())
}

/// Reads blocks of [`BLOCK`] bytes at random places, `depth` of them in flight. `seed` makes the places. At
/// depth 1, `stages` learns where the time of each went.
///
/// # Errors
/// [`WorkloadError`].
pub fn random_reads<T: BoardTransport>(
    disk: &mut Blk<T>,
    depth: u16,
    extent: Extent,
    seed: u64,
    mut stages: Option<&mut StageRecorder>,
    watch: &mut Watch<'_>,
    mut progress: impl FnMut(u64, Duration),
) -> Result<Measured, WorkloadError> {
    let mut random = fastrand::Rng::with_seed(seed);
    let blocks = (disk.capacity() * SECTOR as u64 / BLOCK as u64).max(1);
    let mut latency = LatencyRecorder::new();
    let mut begun = vec![Instant::now(); usize::from(u16::MAX) + 1];
    let mut spare: Vec<Vec<u8>> = (0..depth).map(|_| vec![0; BLOCK]).collect();
    let (mut submitted, mut done) = (0u64, 0u64);
    let start = Instant::now();
    let mut over = false;
    while !over || submitted > done {
        while !over && submitted - done < u64::from(depth) && disk.can_submit() {
            let Some(buffer) = spare.pop() else { break };
            let sector = random.u64(..blocks) * (BLOCK / SECTOR) as u64;
            let now = Instant::now();
            stages.as_deref_mut().into_iter().for_each(StageRecorder::begin);
            let token = disk.submit_read(sector, buffer)?;
            begun[usize::from(token)] = now;
            submitted += 1;
            over = is_over(extent, submitted, Duration::ZERO);
        }
        disk.kick();
        let mut failed = None;
        let finished = disk.poll_completions(|completion| {
            stages.as_deref_mut().into_iter().for_each(StageRecorder::finish);
            latency.record(begun[usize::from(completion.token)].elapsed());
            failed = failed.take().or(completion.outcome.err());
            spare.push(completion.buffer);
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        let before = done;
        done += finished as u64;
        if done / STRIDE != before / STRIDE {
            progress(done, start.elapsed());
        }
        if finished > 0 {
            over |= is_over(extent, submitted, start.elapsed());
        } else {
            disk.relax();
        }
        watch.look(finished > 0)?;
    }
    Ok(Measured { latency, elapsed: start.elapsed() })
}

/// Reads until `buffer` is full or there is no more.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
