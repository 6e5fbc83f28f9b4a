//! Starts and stops the queues of a function: at its back end, the poll thread, and IO-Bond.

use iobond_spec::{
    queue_context::{QueueContext, QueueFeatures, Ring},
    registers::components::queue_error_e::QueueErrorE,
    ring::split::{AVAIL_NO_INTERRUPT, FLAGS, used_event_offset},
};
use virtio_bindings::{
    virtio_config::VIRTIO_F_NOTIFICATION_DATA,
    virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC},
};
use vmm_sys_util::eventfd::EventFd;

use super::Served;
use crate::{
    Error,
    control::{resources::Resources, statistics::error_name},
    device::{Role, control_queue::ControlQueue, features::has},
    poll::{HEAD_WORD, PolledQueue, Polling, channel::PollerStuck},
    pool::Place,
    port::Port,
    vhost_user::RingFeatures,
    virtio_pci::Queue,
};

/// A queue that runs.
pub(in crate::control) struct Running {
    pub(in crate::control) index: u16,
    pub(in crate::control) context: u8,
    pub(in crate::control) ticket: u32,
    pub(super) work: Work,
    /// The state of its polling, while it has no back end.
    pub(super) parked: Option<PolledQueue>,
    /// Whether IO-Bond was seen to have stopped it.
    pub(in crate::control) in_error: bool,
}

/// What serves a running queue.
pub(super) enum Work {
    BackEnd(u16),
    Control(ControlQueue),
}

/// Why a queue did not start.
enum Refusal {
    /// The driver set it up in a way that cannot work.
    Driver(&'static str),
    /// The back end, the poll thread or the device failed.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Running {
    /// Hands its queue to the poll thread, or parks it until there is a back end.
    pub(super) fn hand_over<P: Port>(
        &mut self,
        queue: PolledQueue,
        alive: bool,
        resources: &Resources<'_, P>,
    ) -> Result<(), PollerStuck> {
        if alive || matches!(self.work, Work::Control(_)) {
            return resources.end.add(queue);
        }
        self.parked = Some(queue);
        Ok(())
    }
}

impl Served {
    pub(super) fn start_queue<P: Port>(
        &mut self,
        index: u16,
        resources: &mut Resources<'_, P>,
    ) -> Result<(), Error> {
        match self.try_start_queue(index, resources) {
            Ok(running) => {
                tracing::debug!(function = %self.id, queue = index, context = running.context, "queue started");
                self.running.push(running);
                Ok(())
            }
            // The queue is started again when the loss is handled, and waits for the next back end.
            Err(Refusal::Failed(error)) if self.recovers_from(&error) => Err(error),
            Err(refusal) => {
                self.function.refuse_queue(index);
                match refusal {
                    Refusal::Failed(error) => Err(error),
                    Refusal::Driver(reason) => {
                        self.count_error(index, reason);
                        self.ask_for_reset(resources);
                        Ok(())
                    }
                }
            }
        }
    }

    fn try_start_queue<P: Port>(
        &mut self,
        index: u16,
        resources: &mut Resources<'_, P>,
    ) -> Result<Running, Refusal> {
        let negotiated = self.function.negotiated();
        let role = self.function.device().role(index, negotiated);
        let role = role.ok_or(Refusal::Driver("has no use under the features negotiated"))?;
        let context = self.first_context + index as u8;
        let place = resources.pool.take(context.into());
        let place = place.ok_or(Refusal::Driver("is not there"))?;
        let ring = match role {
            Role::Control => RingFeatures::default(),
            Role::BackEnd(_) => self.back_end.ring_features(),
        };
        // First the shadow vring and HEAD in the status page: the poll thread reads both as soon as it has
        // the queue.
        prepare_shadow(resources, &place, context, ring);
        let (work, kick) = match role {
            Role::Control => {
                let queue = ControlQueue::new(resources.pool.mapping().clone(), &place);
                (Work::Control(queue), Some(resources.end.wake().try_clone()?))
            }
            Role::BackEnd(vring) => {
                // The ring begins anew, so that what was in flight on a former one is none of this one's.
                // Cleared before the back end maps it again: it reads the region when the vring starts.
                self.back_end.forget_in_flight(vring)?;
                // Without a back end the vring starts when there is one, with the other parked queues.
                let kick = if self.alive { self.begin_vring(vring, &place, resources)? } else { None };
                (Work::BackEnd(vring), kick)
            }
        };
        // From here on there is something to undo: the vring runs, and the poll thread and IO-Bond follow.
        let ticket = resources.next_ticket();
        let mut running = Running { index, context, ticket, work, parked: None, in_error: false };
        match self.run(&mut running, &place, kick, ring, resources) {
            Ok(()) => Ok(running),
            Err(refusal) => {
                self.undo(&running, resources)?;
                Err(refusal)
            }
        }
    }

    /// Has the back end serve a vring from its beginning.
    fn begin_vring<P: Port>(
        &mut self,
        vring: u16,
        place: &Place,
        resources: &Resources<'_, P>,
    ) -> Result<Option<EventFd>, Error> {
        let kick = self.back_end.start_vring(vring, place, resources.pool, 0)?;
        let carries = self.carries(vring);
        self.back_end.enable_vring(vring, carries)?;
        Ok(kick)
    }

    /// Hands a queue that its worker has to the poll thread and to IO-Bond.
    fn run<P: Port>(
        &self,
        running: &mut Running,
        place: &Place,
        kick: Option<EventFd>,
        ring: RingFeatures,
        resources: &mut Resources<'_, P>,
    ) -> Result<(), Refusal> {
        let Running { index, context, ticket, .. } = *running;
        let Place { avail, used, sizes, .. } = *place;
        let (size, event_idx) = (sizes.shadow, ring.event_idx);
        let account = matches!(running.work, Work::BackEnd(_)) && self.back_end.needs_account();
        let queue = Polling { context, ticket, avail, used, size, kick, event_idx, account };
        // The poll thread before IO-Bond: once IO-Bond has the queue, what it publishes is kicked for, and
        // what is used is returned. A queue that the poll thread does not take IO-Bond never had.
        let added = running.hand_over(PolledQueue::new(queue), self.alive, resources);
        added.map_err(|_| Error::PollerStuck { function: self.id, queue: index })?;
        let described = self.context(index, place, ring, resources);
        resources.start_queue(context, &described).map_err(|error| match error {
            QueueErrorE::BadContext => {
                let reason = error_name(error).into();
                Refusal::Failed(Error::Queue { function: self.id, queue: index, reason })
            }
            _ => Refusal::Driver(error_name(error)),
        })
    }

    fn context<P: Port>(
        &self,
        index: u16,
        place: &Place,
        ring: RingFeatures,
        resources: &Resources<'_, P>,
    ) -> QueueContext {
        let negotiated = self.function.negotiated();
        let queue = self.function.queues().get(usize::from(index)).copied().unwrap_or_else(|| Queue::new(0));
        let iova = |offset| resources.pool.iova(offset);
        QueueContext {
            function: self.id,
            index,
            vector: queue.vector,
            guest: Ring { size: queue.size, desc: queue.desc, avail: queue.avail, used: queue.used },
            shadow: Ring {
                size: place.sizes.shadow,
                desc: iova(place.desc),
                avail: iova(place.avail),
                used: iova(place.used),
            },
            slots: iova(place.slots),
            slot_size: place.sizes.slot_size,
            slot_count: place.sizes.slots,
            features: QueueFeatures {
                indirect: has(negotiated, VIRTIO_RING_F_INDIRECT_DESC),
                event_idx: has(negotiated, VIRTIO_RING_F_EVENT_IDX),
                notification_data: has(negotiated, VIRTIO_F_NOTIFICATION_DATA),
                shadow_indirect: ring.indirect,
                copy_all: false,
                count_on_return: self.function.device().is_receive_queue(index, negotiated),
            },
        }
    }

    /// Stops every queue, also after an error, of which the first is returned.
    pub(in crate::control) fn stop_all<P: Port>(
        &mut self,
        resources: &mut Resources<'_, P>,
    ) -> Result<(), Error> {
        let running = std::mem::take(&mut self.running);
        running.iter().map(|queue| self.undo(queue, resources)).fold(Ok(()), Result::and)
    }

    /// Stops the queue of this index, if it runs.
    pub(in crate::control) fn stop_queue<P: Port>(
        &mut self,
        index: u16,
        resources: &mut Resources<'_, P>,
    ) -> Result<(), Error> {
        let Some(at) = self.running.iter().position(|queue| queue.index == index) else { return Ok(()) };
        let running = self.running.swap_remove(at);
        self.undo(&running, resources)
    }

    /// Takes a queue from the poll thread, then from the back end, then from IO-Bond; its place is free after
    /// that.
    fn undo<P: Port>(&mut self, running: &Running, resources: &mut Resources<'_, P>) -> Result<(), Error> {
        let polled = match running.parked {
            None => resources.end.remove(running.ticket).map(drop),
            Some(_) => Ok(()),
        };
        let stopped = match running.work {
            // The back end of a parked queue does not have it.
            Work::BackEnd(vring) if self.alive && running.parked.is_none() => self.back_end.stop_vring(vring),
            Work::BackEnd(_) | Work::Control(_) => Ok(()),
        };
        resources.stop_queue(running.context);
        polled.map_err(|_| Error::PollerStuck { function: self.id, queue: running.index })?;
        Ok(stopped?)
    }
}

/// Sets up what IO-Bond leaves alone. Used buffers are polled for, so the back end need not interrupt: by the
/// flag, or, where interrupts go by index, by a `used_event` that is a whole round of indices away (virtio
/// 1.3, 2.7.7). The poll thread writes them from then on. HEAD begins at zero again, whatever a former queue
/// left in the status page.
fn prepare_shadow<P: Port>(resources: &Resources<'_, P>, place: &Place, context: u8, ring: RingFeatures) {
    let mapping = resources.pool.mapping();
    let (at, value) = match ring.event_idx {
        true => (used_event_offset(place.sizes.shadow), u16::MAX),
        false => (FLAGS, AVAIL_NO_INTERRUPT),
    };
    mapping.write(place.avail + at, &value.to_le_bytes());
    mapping.write(4 * (HEAD_WORD as u64 + u64::from(context)), &[0; 4]);
}
