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
    poll::{PolledQueue, UsedJump},
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
        for queue in self.running.iter_mut() {
            // Nobody polls one that is parked: there was no back end, or none yet.
            if matches!(queue.work, Work::Control(_)) || queue.parked.is_some() {
                continue;
            }
            let taken = tools.end.remove(queue.ticket);
            // Without a poll thread the queue has ended.
            queue.parked = taken.map_err(|_| Error::PollerStuck { function: self.id, queue: queue.index })?;
        }
        self.catch_up(tools)?;
        let parked = self.running.iter().filter_map(|queue| queue.parked.as_ref());
        let outstanding = parked.map(|polled| u32::from(polled.outstanding(words))).sum();
        // At whose start it was lost: the driver enabled them, and is not told of it.
        self.start_enabled(tools)?;
        Ok(outstanding)
    }

    /// Tells IO-Bond of what was used on queues that nobody polls.
    ///
    /// # Errors
    /// The back end spoiled a used ring.
    pub(super) fn catch_up<P: Port>(&mut self, tools: &Tools<P>) -> Result<(), Error> {
        let words = tools.pool.mapping().words16();
        let Self { running, back_end, .. } = self;
        for queue in running.iter_mut() {
            let (Work::BackEnd(vring), Some(polled)) = (&queue.work, queue.parked.as_mut()) else { continue };
            match polled.catch_up(words) {
                Ok(None) => {}
                Ok(Some(used)) => tools.registers.set_tail(queue.context, used),
                Err(UsedJump { from, to, size }) => {
                    return Err(back_end.error(Problem::UsedJump { vring: *vring, from, to, size }).into());
                }
            }
        }
        Ok(())
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
        device: Device,
        tools: &mut Tools<P>,
    ) -> Result<u32, Error> {
        back_end.can_replace(&self.as_changed(device), &self.back_end, self.function.device())?;
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
        // One that ends in order may finish what it has in hand after it has closed its connection.
        self.catch_up(tools)?;
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
            let base = polled.offer_again(words);
            let base = base.map_err(|_| back_end.error(Problem::Untold { vring }))?;
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
