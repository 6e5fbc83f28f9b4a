//! IO-Bond's counters of queues and of its mailbox, kept in 64 bits.
//!
//! A counter register has 32 bits. Bytes of a board whose link carries 32 Gbit/s wrap it about once a second,
//! which is as often as an idle control thread looks; tenants are limited to less.

use iobond_spec::{ALL_ONES, MAX_QUEUES, offsets::queues, registers::components::queue_state_e::QueueStateE};

use super::{registers::Registers, statistics::QueueCounters};
use crate::port::Port;

/// The counter registers of a queue context, in the order of [`QueueCounters`].
const COUNTERS: [u32; 7] = [
    queues::FORWARDED,
    queues::RETIRED,
    queues::BYTES_UP,
    queues::BYTES_DOWN,
    queues::STALLS,
    queues::DOORBELLS,
    queues::INTERRUPTS,
];

/// What some counters have counted.
#[derive(Clone, Copy, Debug)]
struct Tally<const N: usize> {
    /// What the registers said at the last look since they began at zero.
    last: [u32; N],
    sum: [u64; N],
}

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self { last: [0; N], sum: [0; N] }
    }
}

impl<const N: usize> Tally<N> {
    /// Adds what was counted since the last look. A counter that has wrapped once meanwhile is understood.
    fn add(&mut self, now: [u32; N]) {
        for ((sum, last), now) in self.sum.iter_mut().zip(&mut self.last).zip(now) {
            *sum += u64::from(now.wrapping_sub(*last));
            *last = now;
        }
    }
}

impl Tally<{ COUNTERS.len() }> {
    fn counted(&self) -> QueueCounters {
        let [forwarded, retired, bytes_up, bytes_down, stalls, doorbells, interrupts] = self.sum;
        QueueCounters { forwarded, retired, bytes_up, bytes_down, stalls, doorbells, interrupts }
    }
}

/// What was counted of every queue context, and of the mailbox.
#[derive(Debug)]
pub(super) struct Tallies {
    queues: [Tally<{ COUNTERS.len() }>; MAX_QUEUES],
    /// Reads and writes that ended at their deadline.
    expired: Tally<2>,
}

impl Default for Tallies {
    fn default() -> Self {
        Self { queues: [Tally::default(); MAX_QUEUES], expired: Tally::default() }
    }
}

impl Tallies {
    /// Looks at the counters of queue context `number`.
    pub(super) fn fold<P: Port>(&mut self, registers: &Registers<P>, number: u8) {
        let now = COUNTERS.map(|register| registers.queue_register(number, register));
        let state = registers.queue_state(number).state();
        let Some(tally) = self.queues.get_mut(usize::from(number)) else { return };
        match state {
            // Then they count since it was enabled. Of a device that is gone every register reads all ones.
            Ok(QueueStateE::Running | QueueStateE::Error) if now != [ALL_ONES; COUNTERS.len()] => {
                tally.add(now)
            }
            // IO-Bond stopped it for a reset of its function, and forgot.
            Ok(QueueStateE::Disabled) => tally.last = [0; COUNTERS.len()],
            Ok(QueueStateE::Running | QueueStateE::Error) | Err(_) => {}
        }
    }

    /// Queue context `number` is enabled anew, with which its registers count from zero.
    pub(super) fn restart(&mut self, number: u8) {
        if let Some(tally) = self.queues.get_mut(usize::from(number)) {
            tally.last = [0; COUNTERS.len()];
        }
    }

    /// Queue context `number` belongs to another function from now on.
    pub(super) fn forget(&mut self, number: u8) {
        if let Some(tally) = self.queues.get_mut(usize::from(number)) {
            *tally = Tally::default();
        }
    }

    /// What queue context `number` has counted, as far as it was looked at.
    pub(super) fn queue(&self, number: u8) -> QueueCounters {
        self.queues.get(usize::from(number)).map(Tally::counted).unwrap_or_default()
    }

    /// Expired accesses are counted from here on, without those of a previous hypervisor.
    pub(super) fn restart_expired<P: Port>(&mut self, registers: &Registers<P>) {
        self.expired.last = registers.expired_registers();
    }

    /// Looks at the counters of expired accesses.
    pub(super) fn fold_expired<P: Port>(&mut self, registers: &Registers<P>) {
        let now = registers.expired_registers();
        // As for queues.
        if now != [ALL_ONES; 2] {
            self.expired.add(now);
        }
    }

    /// Accesses that were seen to have expired, of either kind.
    pub(super) fn expired(&self) -> u64 {
        self.expired.sum.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_continue_when_their_registers_wrap_and_begin_anew() {
        let mut tally = Tally::<7>::default();
        tally.add([7; 7]);
        tally.add([u32::MAX, 8, 7, 7, 7, 7, 7]);
        tally.add([2, 9, 7, 7, 7, 7, 7]);
        assert_eq!((tally.counted().forwarded, tally.counted().retired), (u64::from(u32::MAX) + 3, 9));
        tally.last = [0; 7];
        tally.add([5; 7]);
        assert_eq!((tally.counted().retired, tally.counted().interrupts), (14, 12));
    }
}
