//! A pass over a [`Bond`]: forwards what guests were notified of and returns what TAIL says, within limits.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use iobond_spec::address::{BaseAddr, FunctionId};

use super::{
    Bond,
    bond::{HAS_DATA, NEVER, lock, read},
    limits::{Admission, Work},
    memory::{Interrupts, Memory},
};
use crate::{
    fabric::{Fabric, Gated, ready},
    shadow::{Progress, Queue, QueueError, Seen},
};

impl Bond {
    /// One bounded pass over everything that waits. Returns whether there was anything to do.
    pub fn pass(&self) -> bool {
        // The bits are taken before the rings are read: what comes while a queue is worked at sets its bit
        // again.
        let tails = take(&self.tails);
        let doorbells = take(&self.doorbells);
        let resumed = self.throttle.is_due(|| self.now()) && self.resume();
        // Returning first: it frees the slots and shadow descriptors that forwarding takes.
        bits(tails).for_each(|queue| self.run(Work::Retire(queue), false));
        bits(doorbells).for_each(|queue| self.run(Work::Forward(queue), false));
        let deadline = self.deadline.load(Ordering::Relaxed);
        if deadline != NEVER && deadline <= self.now() {
            self.with_device(|device, now, effects| device.tick(now, effects));
        }
        resumed || tails | doorbells != 0
    }

    /// How long it is until a [`Bond::pass`] has something to do of which no notification tells: limits admit
    /// a queue that waits, or an access ends at its deadline. A poll thread should not sleep longer.
    pub fn until_due(&self) -> Option<Duration> {
        let deadline = self.deadline.load(Ordering::Relaxed);
        let next = deadline.min(self.throttle.resume().unwrap_or(NEVER));
        (next != NEVER).then(|| Duration::from_nanos(next.saturating_sub(self.now())))
    }

    /// Gives a turn to all work that limits held up and that has waited long enough. Whether there was any.
    #[cold]
    fn resume(&self) -> bool {
        let now = self.now();
        let mut any = false;
        for function in FunctionId::all() {
            for _ in 0..self.throttle.waiting(function) {
                let Some(work) = self.throttle.take_turn(function, now) else { break };
                self.run(work, true);
                any = true;
            }
            self.throttle.note_waiting(function);
        }
        any
    }

    fn forward(
        &self,
        number: usize,
        queue: &mut Queue,
        fabric: &impl Fabric,
        head_at: Option<BaseAddr>,
        most: u16,
    ) -> Result<Progress, QueueError> {
        // Read with the queue locked, so that it is this queue's and no predecessor's.
        let data = self.doorbell_data[number].swap(0, Ordering::Relaxed);
        let seen = if data & HAS_DATA != 0 { Seen::Index(data as u16) } else { Seen::Nothing };
        let progress = ready(queue.forward(fabric, seen, head_at, most))?;
        if progress.more {
            self.doorbells.fetch_or(1 << number, Ordering::Relaxed);
        }
        if progress.chains > 0 {
            self.tell_base();
            self.environment.published(number);
        }
        Ok(progress)
    }

    fn retire(
        &self,
        number: usize,
        queue: &mut Queue,
        fabric: &impl Fabric,
        most: u16,
    ) -> Result<Progress, QueueError> {
        let tail = self.tail_index[number].load(Ordering::Acquire) as u16;
        let progress = ready(queue.retire(fabric, tail, most))?;
        if progress.more {
            self.tails.fetch_or(1 << number, Ordering::Relaxed);
        }
        if queue.is_stalled() {
            self.doorbells.fetch_or(1 << number, Ordering::Relaxed);
        }
        if progress.chains > 0 {
            self.environment.returned(number);
        }
        Ok(progress)
    }

    /// Does `work`, if its queue is enabled, and sees to what came of it once the queue is released. Work
    /// that has to wait for the board's host is noted as pending again, and work that has to wait for limits
    /// waits there, in front if it is its turn.
    fn run(&self, work: Work, in_turn: bool) {
        let (number, pending) = self.place_of(work);
        let interrupt = LastInterrupt::default();
        let result = {
            // Grants, queue and both leases are held until the work is done. So a base that takes a window
            // back, disables the queue or unmaps memory waits for this work, and when its call returns,
            // nothing of it is still under way. The device is not locked: a driver can notify, and the base
            // write TAIL, while payload is copied.
            let grants = read(&self.grants);
            let mut queue = lock(&self.queues[number]);
            let Some(running) = queue.as_mut() else { return };
            let (function, cost) = (running.context().function, work.cost(running));
            let reached = self.board_memory(function);
            let board = reached.lease();
            if reached.is_being_remapped() && !board.holds_index(running.context().guest.avail) {
                // The host gives back in a moment what it took. An access now would fault and stop the queue
                // for good.
                pending.fetch_or(1 << number, Ordering::Relaxed);
                return;
            }
            let most = match self.throttle.admit(function, work, cost, in_turn, || self.now()) {
                Admission::Admitted(most) => most,
                Admission::Delayed => {
                    // The delay is counted in the device, whose lock comes first.
                    drop(board);
                    drop(queue);
                    drop(grants);
                    return self.delayed(function);
                }
                Admission::Waiting => return,
            };
            let base = self.base.lease();
            let memory = Memory::new(&board, &base, &interrupt);
            // As of now: work that began before the driver cleared Bus Master Enable (PCIe 5.0, 7.5.1.1.3) is
            // finished.
            let bus_master = self.bus_masters.load(Ordering::Relaxed) & 1 << function.index() != 0;
            let fabric = Gated { fabric: &memory, windows: grants.windows(), bus_master };
            let result = match work {
                Work::Forward(_) => self.forward(number, running, &fabric, grants.head_address(number), most),
                Work::Retire(_) => self.retire(number, running, &fabric, most),
            };
            if let Ok(progress) = result {
                self.throttle.charge(function, cost, progress, || self.now());
            }
            result
        };
        if let Err(error) = result {
            self.with_device(|device, _, effects| {
                // Between the two locks the base may have replaced the queue; its successor has done nothing
                // wrong.
                if lock(&self.queues[number]).as_ref().is_some_and(Queue::has_failed) {
                    device.fail_queue(number, &error, effects);
                }
            });
        }
        // After the used index, which the work stored: an MSI-X message is a posted write and does not pass
        // it (PCIe 5.0, 2.4.1).
        if let Some((function, vector)) = interrupt.0.take() {
            self.with_device(|device, _, effects| effects.extend(device.raise(function, vector, false)));
        }
    }

    /// A queue of `function` waits for its limits from now on; a poll thread that sleeps may have meant to
    /// sleep longer.
    #[cold]
    fn delayed(&self, function: FunctionId) {
        lock(&self.device).delay(function);
        self.environment.wake_poller();
    }
}

/// Keeps the interrupt that a queue raised until the queue's lock is released. A call raises one at most.
#[derive(Default)]
struct LastInterrupt(Cell<Option<(FunctionId, u16)>>);

impl Interrupts for LastInterrupt {
    fn raise(&self, function: FunctionId, vector: u16) {
        self.0.set(Some((function, vector)));
    }
}

/// Takes every bit that is set. Looking first keeps an idle pass from writing to a cache line that others
/// write to.
fn take(set: &AtomicU64) -> u64 {
    if set.load(Ordering::Relaxed) == 0 { 0 } else { set.swap(0, Ordering::Acquire) }
}

fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| set.trailing_zeros() as usize)?;
        set &= set - 1;
        Some(lowest)
    })
}
