//! A function without its back end, and with the next one.
//!
//! Its queues stay enabled in IO-Bond, which goes on publishing what the driver makes available; the poll thread does not look at
//! them meanwhile. The driver sees a pause.

use std::{io, time::Instant};

use super::{Running, Served, Work};
use crate::{
    Error,
    control::{board::Tools, statistics::BackEndState},
    device::Device,
    poll::PolledQueue,
    port::Port,
    vhost_user::{BackEnd, Problem},
};

impl Served {
    /// The back end is lost: takes its queues from the poll thread, and tells IO-Bond what was used before. Chains that are
    /// outstanding.
    ///
    /// # Errors
    /// The poll thread does not answer, or the back end spoiled a used ring before it went. Queues may then be taken or not.
    pub(in crate::control) fn part<P: Port>(&mut self, tools: &mut Tools<P>) -> Result<u32, Error> {
        self.alive = false;
        let words = tools.pool.mapping().words16();
        let Self { running, back_end, id, .. } = self;
        let mut outstanding = 0;
        for queue in running.iter_mut() {
            let Work::BackEnd(vring) = queue.work else { continue };
            // Nobody polls it: there was no back end, or none yet.
            if queue.parked.is_some() {
                continue;
            }
            let taken = tools.end.remove(queue.ticket);
            let taken = taken.map_err(|_| Error::PollerStuck { function: *id, queue: queue.index })?;
            // Without a poll thread the queue has ended.
            let Some(mut polled) = taken else { continue };
            let caught_up = catch_up(&mut polled, queue.context, tools);
            queue.parked = Some(polled);
            caught_up.map_err(|jump| back_end.error(jump.of(vring)))?;
            outstanding += queue.parked.as_ref().map_or(0, |polled| u32::from(polled.outstanding(words)));
        }
        self.start_without(tools)?;
        Ok(outstanding)
    }

    /// Starts the queues at whose start the back end was lost: the driver enabled them, and is not told of it.
    pub(super) fn start_without<P: Port>(&mut self, tools: &mut Tools<P>) -> Result<(), Error> {
        let status = self.function.status();
        if !status.driver_ok() || !status.is_sound() {
            return Ok(());
        }
        let runs = |index| self.running.iter().any(|queue| queue.index == index);
        let enabled = self.function.queues().iter().zip(0..).filter(|(queue, _)| queue.enabled);
        let missing: Vec<u16> = enabled.map(|(_, index)| index).filter(|index| !runs(*index)).collect();
        missing.into_iter().try_for_each(|index| self.start_queue(index, tools))
    }

    /// Whether the back end is lost by `error`, and waited for.
    pub(super) fn recovers_from(&self, error: &Error) -> bool {
        matches!(error, Error::BackEnd(error) if error.is_loss()) && self.back_end.may_return() && self.alive
    }

    /// The back end is looked for from now on, if that `began`.
    pub(in crate::control) fn await_return(&mut self, began: io::Result<()>) -> io::Result<()> {
        self.away = began.is_ok().then(Instant::now);
        began
    }

    /// Goes on with `back_end`, which makes `device`. Chains that were outstanding.
    ///
    /// # Errors
    /// It is not what the former one was, or was lost meanwhile; the queues still wait then.
    pub(in crate::control) fn resume<P: Port>(
        &mut self,
        mut back_end: BackEnd,
        device: &Device,
        tools: &mut Tools<P>,
    ) -> Result<u32, Error> {
        back_end.can_replace(device, &self.back_end, self.function.device())?;
        back_end.take_over(&mut self.back_end);
        self.back_end = back_end;
        let mut outstanding = 0;
        if self.running.iter().any(|queue| matches!(queue.work, Work::BackEnd(_))) {
            self.settle(tools)?;
            outstanding = self.start_parked(tools)?;
        }
        self.function.restore();
        self.alive = true;
        self.away = None;
        self.counted.reconnects += 1;
        Ok(outstanding)
    }

    /// Has the back end begin where the former one ended, on every queue, and hands them to the poll thread once all have begun.
    pub(super) fn start_parked<P: Port>(&mut self, tools: &mut Tools<P>) -> Result<u32, Error> {
        let words = tools.pool.mapping().words16();
        let vrings = self.running.iter().filter_map(|queue| match queue.work {
            Work::BackEnd(vring) => Some((vring, self.carries(vring))),
            Work::Control(_) => None,
        });
        let carries: Vec<_> = vrings.collect();
        let Self { running, back_end, id, .. } = self;
        let (mut outstanding, mut kicks) = (0, Vec::new());
        for queue in running.iter_mut() {
            let Work::BackEnd(vring) = queue.work else { continue };
            let (Some(polled), Some(place)) = (queue.parked.as_mut(), tools.pool.place(queue.context.into()))
            else {
                continue;
            };
            // One that ends in order may finish what it has in hand after it has closed its connection.
            catch_up(polled, queue.context, tools).map_err(|jump| back_end.error(jump.of(vring)))?;
            let base = polled.offer_again(words);
            let base = base.map_err(|_| back_end.error(Problem::Untold { vring }))?;
            // A queue that was started while nobody was there begins as any other does.
            let base = std::mem::replace(&mut queue.begun, true).then_some(base);
            outstanding += u32::from(polled.outstanding(words));
            let kick = back_end.start_vring(vring, place, tools.pool, base)?;
            back_end.enable_vring(vring, carries.contains(&(vring, true)))?;
            kicks.push((queue.ticket, kick));
        }
        for (ticket, kick) in kicks {
            let Some(queue) = running.iter_mut().find(|queue| queue.ticket == ticket) else { continue };
            let Some(mut polled) = queue.parked.take() else { continue };
            polled.kick_by(kick);
            let stuck = |_| Error::PollerStuck { function: *id, queue: queue.index };
            tools.end.add(polled).map_err(stuck)?;
        }
        Ok(outstanding)
    }

    /// Whether its back end is there.
    pub(super) fn back_end_state(&self) -> BackEndState {
        match self.away {
            _ if self.alive => BackEndState::Connected,
            Some(since) => BackEndState::Away { since },
            None => BackEndState::Lost,
        }
    }
}

/// A used index that jumped: from where, to where, and how long its ring is.
struct Jump(u16, u16, u16);

impl Jump {
    fn of(self, vring: u16) -> Problem {
        let Self(from, to, size) = self;
        Problem::UsedJump { vring, from, to, size }
    }
}

/// Tells IO-Bond of what was used on a queue that nobody polls.
fn catch_up<P: Port>(queue: &mut PolledQueue, context: u8, tools: &Tools<P>) -> Result<(), Jump> {
    let from = queue.last_used();
    match queue.catch_up(tools.pool.mapping().words16()) {
        Ok(None) => Ok(()),
        Ok(Some(used)) => {
            tools.registers.set_tail(context, used);
            Ok(())
        }
        Err(to) => {
            let size = tools.pool.place(context.into()).map_or(0, |place| place.sizes.shadow);
            Err(Jump(from, to, size))
        }
    }
}

impl Running {
    /// Hands its queue to the poll thread, or keeps it until there is a back end.
    pub(super) fn hand_over<P: Port>(
        &mut self,
        queue: PolledQueue,
        alive: bool,
        tools: &Tools<P>,
    ) -> Result<(), crate::poll::channel::PollerStuck> {
        if alive || matches!(self.work, Work::Control(_)) {
            return tools.end.add(queue);
        }
        self.parked = Some(queue);
        Ok(())
    }
}
