//! Detaches a function from a back end that is lost, and attaches the next one.
//!
//! In between its queues are parked: they stay enabled in IO-Bond, which publishes what the driver makes
//! available, and are not polled. The driver sees a pause.

use std::{io, time::Instant};

use super::{Served, queues::Work};
use crate::{
    Error,
    control::{resources::Resources, statistics::BackEndState},
    device::Device,
    poll::UsedJump,
    port::Port,
    register_writes,
    vhost_user::{BackEnd, Problem},
};

impl Served {
    /// The back end is lost: takes its queues from the poll thread, and tells IO-Bond what was used before.
    /// Returns how many chains are outstanding.
    ///
    /// # Errors
    /// The poll thread does not answer, or the back end spoiled a used ring before it went. Then some queues
    /// may be polled still.
    pub(in crate::control) fn detach_back_end<P: Port>(
        &mut self,
        resources: &mut Resources<'_, P>,
    ) -> Result<u32, Error> {
        self.alive = false;
        let words = resources.pool.mapping().words16();
        for queue in self.running.iter_mut() {
            // One that is parked is not polled: there was no back end, or none yet.
            if matches!(queue.work, Work::Control(_)) || queue.parked.is_some() {
                continue;
            }
            let taken = resources.end.remove(queue.ticket);
            // Without a poll thread the queue has ended.
            queue.parked = taken.map_err(|_| Error::PollerStuck { function: self.id, queue: queue.index })?;
        }
        self.catch_up(resources)?;
        let parked = self.running.iter().filter_map(|queue| queue.parked.as_ref());
        let outstanding = parked.map(|polled| u32::from(polled.outstanding(words))).sum();
        // If the back end was lost while queues started: the driver enabled those, and sees no error.
        self.start_enabled(resources)?;
        Ok(outstanding)
    }

    /// Tells IO-Bond of what was used on queues that are parked.
    ///
    /// # Errors
    /// The back end spoiled a used ring.
    pub(super) fn catch_up<P: Port>(&mut self, resources: &Resources<'_, P>) -> Result<(), Error> {
        let words = resources.pool.mapping().words16();
        let Self { running, back_end, .. } = self;
        for queue in running.iter_mut() {
            let (Work::BackEnd(vring), Some(polled)) = (&queue.work, queue.parked.as_mut()) else { continue };
            match polled.catch_up(words) {
                Ok(None) => {}
                Ok(Some(used)) => resources.registers.write(register_writes::tail(queue.context, used)),
                Err(UsedJump { from, to, size }) => {
                    return Err(back_end.error(Problem::UsedJump { vring: *vring, from, to, size }).into());
                }
            }
        }
        Ok(())
    }

    /// Whether the back end is lost by `error`, and may return.
    pub(super) fn recovers_from(&self, error: &Error) -> bool {
        matches!(error, Error::BackEnd(error) if error.is_loss()) && self.back_end.may_return() && self.alive
    }

    /// A back end is searched for from now on, if the search `began`.
    pub(in crate::control) fn await_return(&mut self, began: io::Result<()>) -> io::Result<()> {
        self.away = began.is_ok().then(Instant::now);
        began
    }

    /// Continues with `back_end`, which makes `device`. Returns how many chains were outstanding.
    ///
    /// # Errors
    /// The back end cannot replace the former one, or was lost meanwhile; the queues stay parked then.
    pub(in crate::control) fn attach_back_end<P: Port>(
        &mut self,
        mut back_end: BackEnd,
        device: Device,
        resources: &mut Resources<'_, P>,
    ) -> Result<u32, Error> {
        back_end.can_replace(&self.as_changed(device), &self.back_end, self.function.device())?;
        back_end.take_over(&mut self.back_end);
        self.back_end = back_end;
        let mut outstanding = 0;
        if self.running.iter().any(|queue| matches!(queue.work, Work::BackEnd(_))) {
            self.settle(resources)?;
            outstanding = self.start_parked(resources)?;
        }
        self.function.restore();
        self.alive = true;
        self.away = None;
        self.counted.reconnects += 1;
        Ok(outstanding)
    }

    /// Has the back end begin where the former one ended, on every queue, and hands them to the poll thread
    /// once all have begun.
    pub(super) fn start_parked<P: Port>(&mut self, resources: &mut Resources<'_, P>) -> Result<u32, Error> {
        // A back end that ends in order may finish what it has in hand after it has closed its connection.
        self.catch_up(resources)?;
        let words = resources.pool.mapping().words16();
        let vrings = self.running.iter().filter_map(|queue| match queue.work {
            Work::BackEnd(vring) => Some((vring, self.carries(vring))),
            Work::Control(_) => None,
        });
        let carries: Vec<_> = vrings.collect();
        let Self { running, back_end, id, .. } = self;
        let (mut outstanding, mut kicks) = (0, Vec::new());
        for queue in running.iter_mut() {
            let Work::BackEnd(vring) = queue.work else { continue };
            let (Some(polled), Some(place)) =
                (queue.parked.as_mut(), resources.pool.place(queue.context.into()))
            else {
                continue;
            };
            let base = polled.offer_again(words);
            let base = base.map_err(|_| back_end.error(Problem::Untold { vring }))?;
            outstanding += u32::from(polled.outstanding(words));
            let kick = back_end.start_vring(vring, place, resources.pool, base)?;
            back_end.enable_vring(vring, carries.contains(&(vring, true)))?;
            kicks.push((queue.ticket, kick));
        }
        for (ticket, kick) in kicks {
            let Some(queue) = running.iter_mut().find(|queue| queue.ticket == ticket) else { continue };
            let Some(mut polled) = queue.parked.take() else { continue };
            polled.kick_by(kick);
            let stuck = |_| Error::PollerStuck { function: *id, queue: queue.index };
            resources.end.add(polled).map_err(stuck)?;
        }
        Ok(outstanding)
    }

    /// Whether its back end is connected, searched for, or lost.
    pub(super) fn back_end_state(&self) -> BackEndState {
        match self.away {
            _ if self.alive => BackEndState::Connected,
            Some(since) => BackEndState::Away { since },
            None => BackEndState::Lost,
        }
    }
}
