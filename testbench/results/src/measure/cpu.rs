//! How much of a processor a thread or a process used while something was measured.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// The thread or process of which the processor time is counted, user and system together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    /// The thread that starts and reads the meter; resolution one nanosecond.
    ThisThread,
    /// A thread of this process, by its kernel thread id; resolution one clock tick (10 ms).
    Thread(u32),
    /// This process with all its threads; resolution one nanosecond.
    ThisProcess,
    /// Another process with all its threads, by process id; resolution one clock tick (10 ms).
    Process(u32),
}

/// Counts from the moment it is made.
#[derive(Clone, Copy, Debug)]
pub struct CpuMeter {
    worker: Worker,
    since: Instant,
    used: Duration,
}

impl CpuMeter {
    /// Starts counting.
    ///
    /// # Errors
    /// The worker does not exist (any more), or `/proc` is not what proc(5) says.
    pub fn start(worker: Worker) -> io::Result<Self> {
        Ok(Self { worker, since: Instant::now(), used: used(worker)? })
    }

    /// Processor time over wall time since the start: 1 is a whole core, a process of several threads may
    /// exceed it.
    ///
    /// # Errors
    /// As [`CpuMeter::start`]; a worker that has ended meanwhile is one that does not exist.
    pub fn share(&self) -> io::Result<f64> {
        let used = used(self.worker)?.saturating_sub(self.used);
        let wall = self.since.elapsed();
        Ok(if wall.is_zero() { 0.0 } else { used.as_secs_f64() / wall.as_secs_f64() })
    }

    /// Wall time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

fn used(worker: Worker) -> io::Result<Duration> {
    match worker {
        Worker::ThisThread => clock(ClockId::ThreadCPUTime),
        Worker::ThisProcess => clock(ClockId::ProcessCPUTime),
        Worker::Thread(thread) => stat(&format!("/proc/self/task/{thread}/stat")),
        Worker::Process(process) => stat(&format!("/proc/{process}/stat")),
    }
}

fn clock(id: ClockId) -> io::Result<Duration> {
    Duration::try_from(clock_gettime(id)).map_err(io::Error::other)
}

fn stat(path: &str) -> io::Result<Duration> {
    let text = fs::read_to_string(path)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot read {path}: {error}")))?;
    let ticks = ticks(&text).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{path} has no utime and stime"))
    })?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// utime and stime, fields 14 and 15 of proc_pid_stat(5). Field 2, the name, may hold blanks and parentheses,
/// so fields are counted from the last closing one.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spin(wall: Duration) {
        let until = Instant::now() + wall;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) R 1 7 7 0 -1 0 0 0 0 0 30 12 0 0 20 0 1 0 5 0 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a"), None);
        assert_eq!(ticks("7 (a) R 1 2"), None);
    }

    #[test]
    fn a_thread_that_sleeps_uses_less_than_one_that_spins() {
        let meter = CpuMeter::start(Worker::ThisThread).unwrap();
        std::thread::sleep(Duration::from_millis(60));
        let asleep = meter.share().unwrap();
        let meter = CpuMeter::start(Worker::ThisThread).unwrap();
        spin(Duration::from_millis(60));
        let busy = meter.share().unwrap();
        assert!(asleep < busy && busy <= 1.01, "asleep {asleep}, busy {busy}");
    }

    #[test]
    fn other_processes_are_read_and_missing_ones_are_named() {
        assert!(CpuMeter::start(Worker::Process(std::process::id())).is_ok());
        let thread = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
        assert!(CpuMeter::start(Worker::Thread(thread)).unwrap().share().is_ok());
        let error = CpuMeter::start(Worker::Process(u32::MAX)).unwrap_err();
        assert!(error.to_string().contains("/proc/4294967295/stat"), "{error}");
    }
}
