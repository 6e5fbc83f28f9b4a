//! Resumes a function that a previous bm-hypervisor process left.

use super::{
    Served,
    queues::{Running, Work},
};
use crate::{
    Error,
    control::resources::Resources,
    device::{Kind, Role, control_queue::ControlQueue},
    journal::FunctionRecord,
    poll::{PolledQueue, Polling},
    port::Port,
    vhost_user::InFlightPlace,
};

impl Served {
    /// Its state as the next process finds it in the journal.
    pub(in crate::control) fn record(&self) -> FunctionRecord {
        let place = self.back_end.in_flight_place().map(|(_, place)| place);
        let place = place.unwrap_or(InFlightPlace { offset: 0, size: 0, queues: 0, queue_size: 0 });
        FunctionRecord {
            pairs: self.pairs,
            link_up: self.link_up.into(),
            added: self.added.into(),
            in_flight_offset: place.offset,
            in_flight_size: place.size,
            in_flight_queues: place.queues,
            in_flight_queue_size: place.queue_size,
            ..self.function.record()
        }
    }

    /// Restores what the record says beside the virtio function's own.
    pub(in crate::control) fn recall(&mut self, record: &FunctionRecord) {
        let most = self.function.device().back_end_queues / 2;
        self.pairs = record.pairs.clamp(1, most.max(1));
        self.link_up = record.link_up != 0;
    }

    /// Takes over the queues that run in IO-Bond and should; those that should not are stopped. All are
    /// parked: the back end has none of them yet.
    ///
    /// # Errors
    /// A back end that spoiled its used ring; all queues are taken over then, too.
    pub(in crate::control) fn adopt_queues<P: Port>(
        &mut self,
        resources: &mut Resources<'_, P>,
    ) -> Result<(), Error> {
        let up = self.function.status().driver_ok();
        let intended: Vec<bool> = self.function.queues().iter().map(|queue| up && queue.enabled).collect();
        for (index, intended) in (0..).zip(intended) {
            let context = self.first_context + index as u8;
            let Some(tenant) = resources.registers.tenant(context) else { continue };
            if !intended || tenant != (self.id.index() as u8, index) {
                resources.stop_queue(context);
                continue;
            }
            self.adopt_queue(index, context, resources)?;
        }
        self.catch_up(resources)
    }

    fn adopt_queue<P: Port>(
        &mut self,
        index: u16,
        context: u8,
        resources: &mut Resources<'_, P>,
    ) -> Result<(), Error> {
        let role = self.function.device().role(index, self.function.negotiated());
        let (Some(role), Some(place)) = (role, resources.pool.place(context.into()).copied()) else {
            resources.stop_queue(context);
            return Ok(());
        };
        let ticket = resources.next_ticket();
        let (work, kick, ring) = match role {
            Role::Control => {
                let queue = ControlQueue::resumed(resources.pool.mapping().clone(), &place);
                let kick = resources.end.wake().try_clone()?;
                (Work::Control(queue), Some(kick), Default::default())
            }
            Role::BackEnd(vring) => (Work::BackEnd(vring), None, self.back_end.ring_features()),
        };
        let account = matches!(work, Work::BackEnd(_)) && self.back_end.needs_account();
        let (avail, used, size, event_idx) = (place.avail, place.used, place.sizes.shadow, ring.event_idx);
        let polling = Polling { context, ticket, avail, used, size, kick, event_idx, account };
        let words = resources.pool.mapping().words16();
        let polled = PolledQueue::resumed(polling, resources.registers.tail(context), words);
        let mut running = Running { index, context, ticket, work, parked: None, in_error: false };
        let added = running.hand_over(polled, false, resources);
        added.map_err(|_| Error::PollerStuck { function: self.id, queue: index })?;
        self.running.push(running);
        Ok(())
    }

    /// Has its back end begin where the last connection to it ended. Returns how many chains were
    /// outstanding.
    ///
    /// # Errors
    /// The back end fails.
    pub(in crate::control) fn resume<P: Port>(
        &mut self,
        resources: &mut Resources<'_, P>,
    ) -> Result<u32, Error> {
        let mut outstanding = 0;
        if self.does_not_know(resources) {
            tracing::warn!(function = %self.id, "what its back end had in flight is not known; the driver is asked for a reset");
            self.stop_all(resources)?;
            self.ask_for_reset(resources);
        } else if self.function.status().driver_ok() {
            self.settle(resources)?;
            outstanding = self.start_parked(resources)?;
            self.start_enabled(resources)?;
        }
        self.look_for_errors(resources);
        Ok(outstanding)
    }

    /// Whether chains are outstanding of which it is not known which they are: a disk may use them in any
    /// order (virtio 1.3, 2.7.8), its back end noted nothing, and the account that the poll pass kept went
    /// with the previous process. Frames and characters are used in order.
    fn does_not_know<P: Port>(&self, resources: &Resources<'_, P>) -> bool {
        let words = resources.pool.mapping().words16();
        let outstanding =
            |queue: &Running| queue.parked.as_ref().is_some_and(|polled| polled.outstanding(words) > 0);
        self.function.device().kind == Kind::Blk
            && !self.back_end.notes_in_flight()
            && self.running.iter().any(outstanding)
    }
}
