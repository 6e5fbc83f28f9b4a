//! One function with the back end behind it: its queues are started and stopped here.

mod adopt;
mod away;
mod reconfigure;

use std::time::Instant;

use iobond_spec::{
    address::FunctionId,
    register_access::decode,
    registers::components::{queue_error_e::QueueErrorE, queue_t},
    ring::split::{AVAIL_NO_INTERRUPT, FLAGS, used_event_offset},
};
use virtio_bindings::{
    virtio_config::VIRTIO_F_NOTIFICATION_DATA,
    virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC},
};

use vmm_sys_util::eventfd::EventFd;

use super::{board::Tools, registers::Context, statistics::FunctionStatistics};
use crate::{
    Error,
    device::{Role, control_queue::ControlQueue, features::has, net},
    poll::{HEAD_WORD, PolledQueue, Polling},
    pool::Place,
    port::Port,
    vhost_user::{BackEnd, Problem, RingFeatures},
    virtio_pci::{Effect, Function, Queue},
};

/// A function that is served.
pub(super) struct Served {
    pub(super) id: FunctionId,
    pub(super) function: Function,
    pub(super) back_end: BackEnd,
    /// Whether the back end can still be talked to.
    pub(super) alive: bool,
    /// Since when it is looked for.
    pub(super) away: Option<Instant>,
    /// Number of its first queue context; the others follow.
    pub(super) first_context: u8,
    pub(super) running: Vec<Running>,
    /// Pairs that the driver uses, if it is a network driver with MQ.
    pub(super) pairs: u16,
    /// Whether the link of a network function is up.
    pub(super) link_up: bool,
    /// By a command, which the configuration does not know of.
    pub(super) added: bool,
    pub(super) counted: FunctionStatistics,
}

/// A queue that runs.
pub(super) struct Running {
    pub(super) index: u16,
    pub(super) context: u8,
    pub(super) ticket: u32,
    work: Work,
    /// Where its polling stands, while it has no back end.
    parked: Option<PolledQueue>,
    /// IO-Bond stopped it, and that was noticed.
    pub(super) in_error: bool,
}

/// Who works a running queue.
enum Work {
    BackEnd(u16),
    Control(ControlQueue),
}

/// Why a queue did not start.
enum Refusal {
    /// The driver set it up in a way that cannot work.
    Driver(String),
    /// It is not the driver's fault.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Served {
    pub(super) fn new(id: FunctionId, function: Function, back_end: BackEnd, first_context: u8) -> Self {
        let counted = FunctionStatistics {
            index: id.index() as u8,
            device: function.device().kind.name(),
            ..FunctionStatistics::default()
        };
        let pairs = net::FIRST_PAIRS;
        let (alive, away, running, link_up, added) = (true, None, Vec::new(), true, false);
        Self { id, function, back_end, alive, away, first_context, running, pairs, link_up, added, counted }
    }

    /// Carries out what a write of the driver's asked for. An error is the back end's or the device's, never the driver's; the
    /// driver has been asked for a reset then.
    pub(super) fn carry_out<P: Port>(&mut self, effect: Effect, tools: &mut Tools<P>) -> Result<(), Error> {
        let result = match effect {
            Effect::None => Ok(()),
            Effect::Reset => {
                // What went wrong belongs to the life that ends here.
                self.counted.last_queue_error = None;
                self.stop_all(tools)
            }
            Effect::Start => self.start_enabled(tools),
            Effect::EnableQueue(index) => self.start_queue(index, tools),
            Effect::ResetQueue(index) => self.stop_queue(index, tools),
            Effect::NeedsReset => {
                self.ask_for_reset(tools);
                Ok(())
            }
        };
        if result.as_ref().is_err_and(|error| !self.recovers_from(error)) && effect != Effect::Reset {
            self.ask_for_reset(tools);
        }
        result
    }

    /// The driver is ready: settles with the back end what it chose, before any queue is started.
    ///
    /// # Errors
    /// The back end fails, or is lost and nobody looks for it.
    pub(super) fn prepare<P: Port>(&mut self, tools: &mut Tools<P>) -> Result<(), Error> {
        self.pairs = net::FIRST_PAIRS;
        match self.away {
            _ if self.alive => self.settle(tools),
            Some(_) => Ok(()),
            None => {
                self.ask_for_reset(tools);
                Err(self.back_end.error(Problem::Died).into())
            }
        }
    }

    /// Settles with the back end what the driver chose.
    fn settle<P: Port>(&mut self, tools: &Tools<P>) -> Result<(), Error> {
        let Self { function, back_end, .. } = self;
        let device = function.device();
        let features = device.kind.back_end_features(function.negotiated(), back_end.offer());
        Ok(back_end.settle(features, tools.pool, device.back_end_queues, device.sizes.shadow)?)
    }

    /// Starts every queue that the driver enabled and that does not run: at DRIVER_OK, and where the back end was lost at that.
    fn start_enabled<P: Port>(&mut self, tools: &mut Tools<P>) -> Result<(), Error> {
        let status = self.function.status();
        if !status.driver_ok() || !status.is_sound() {
            return Ok(());
        }
        let runs = |index| self.running.iter().any(|queue| queue.index == index);
        let enabled = self.function.queues().iter().zip(0..).filter(|(queue, _)| queue.enabled);
        let missing: Vec<u16> = enabled.map(|(_, index)| index).filter(|index| !runs(*index)).collect();
        missing.into_iter().try_for_each(|index| self.start_queue(index, tools))
    }

    fn start_queue<P: Port>(&mut self, index: u16, tools: &mut Tools<P>) -> Result<(), Error> {
        match self.try_start_queue(index, tools) {
            Ok(running) => {
                tracing::debug!(function = %self.id, queue = index, context = running.context, "queue started");
                self.running.push(running);
                Ok(())
            }
            // It is started again without the back end.
            Err(Refusal::Failed(error)) if self.recovers_from(&error) => Err(error),
            Err(refusal) => {
                self.function.refuse_queue(index);
                match refusal {
                    Refusal::Failed(error) => Err(error),
                    Refusal::Driver(reason) => {
                        self.count_error(index, reason);
                        self.ask_for_reset(tools);
                        Ok(())
                    }
                }
            }
        }
    }

    fn try_start_queue<P: Port>(&mut self, index: u16, tools: &mut Tools<P>) -> Result<Running, Refusal> {
        let negotiated = self.function.negotiated();
        let role = self.function.device().role(index, negotiated);
        let role = role.ok_or_else(|| Refusal::Driver("has no use under the features negotiated".into()))?;
        let context = self.first_context + index as u8;
        let place = tools.pool.take(context.into());
        let place = place.ok_or_else(|| Refusal::Driver("is not there".into()))?;
        let ring = match role {
            Role::Control => RingFeatures::default(),
            Role::BackEnd(_) => self.back_end.ring_features(),
        };
        prepare_shadow(tools, &place, context, ring);
        let (work, kick) = match role {
            Role::Control => {
                let queue = ControlQueue::new(tools.pool.mapping().clone(), &place);
                (Work::Control(queue), Some(tools.end.wake().try_clone()?))
            }
            Role::BackEnd(vring) => {
                self.back_end.forget_in_flight(vring)?;
                // It begins when there is a back end.
                let kick = if self.alive { self.begin_vring(vring, &place, tools)? } else { None };
                (Work::BackEnd(vring), kick)
            }
        };
        let ticket = tools.next_ticket();
        let mut running = Running { index, context, ticket, work, parked: None, in_error: false };
        match self.run(&mut running, &place, kick, ring, tools) {
            Ok(()) => Ok(running),
            Err(refusal) => {
                self.undo(&running, tools)?;
                Err(refusal)
            }
        }
    }

    /// Has the back end work a fresh vring.
    fn begin_vring<P: Port>(
        &mut self,
        vring: u16,
        place: &Place,
        tools: &Tools<P>,
    ) -> Result<Option<EventFd>, Error> {
        let kick = self.back_end.start_vring(vring, place, tools.pool, 0)?;
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
        tools: &Tools<P>,
    ) -> Result<(), Refusal> {
        let Running { index, context, ticket, .. } = *running;
        let Place { avail, used, sizes, .. } = *place;
        let (size, event_idx) = (sizes.shadow, ring.event_idx);
        let account = matches!(running.work, Work::BackEnd(_)) && self.back_end.needs_account();
        let queue = Polling { context, ticket, avail, used, size, kick, event_idx, account };
        let added = running.hand_over(PolledQueue::new(queue), self.alive, tools);
        added.map_err(|_| Error::PollerStuck { function: self.id, queue: index })?;
        let started = tools.registers.start_queue(context, &self.context(index, place, ring, tools));
        started.map_err(|error| {
            let reason = format!("{error:?}");
            match error {
                QueueErrorE::BadContext => {
                    Refusal::Failed(Error::Queue { function: self.id, queue: index, reason })
                }
                _ => Refusal::Driver(reason),
            }
        })
    }

    fn context<P: Port>(&self, index: u16, place: &Place, ring: RingFeatures, tools: &Tools<P>) -> Context {
        let negotiated = self.function.negotiated();
        let queue = self.function.queues().get(usize::from(index)).copied().unwrap_or_else(|| Queue::new(0));
        let mut features: queue_t::features::Features = decode(0);
        features.set_indirect(has(negotiated, VIRTIO_RING_F_INDIRECT_DESC));
        features.set_event_idx(has(negotiated, VIRTIO_RING_F_EVENT_IDX));
        features.set_notification_data(has(negotiated, VIRTIO_F_NOTIFICATION_DATA));
        features.set_shadow_indirect(ring.indirect);
        features.set_count_on_return(self.function.device().is_receive_queue(index, negotiated));
        Context {
            function: self.id,
            index,
            vector: queue.vector,
            guest_size: queue.size,
            guest: [queue.desc, queue.avail, queue.used],
            shadow_size: place.sizes.shadow,
            shadow: [place.desc, place.avail, place.used].map(|offset| tools.pool.iova(offset)),
            slots: tools.pool.iova(place.slots),
            slot_size: place.sizes.slot_size,
            slot_count: place.sizes.slots,
            features,
        }
    }

    /// Stops every queue, as far as that goes; the first error is returned.
    pub(super) fn stop_all<P: Port>(&mut self, tools: &mut Tools<P>) -> Result<(), Error> {
        let running = std::mem::take(&mut self.running);
        running.iter().map(|queue| self.undo(queue, tools)).fold(Ok(()), Result::and)
    }

    /// Stops the queue of this index, if it runs.
    pub(super) fn stop_queue<P: Port>(&mut self, index: u16, tools: &mut Tools<P>) -> Result<(), Error> {
        let Some(at) = self.running.iter().position(|queue| queue.index == index) else { return Ok(()) };
        let running = self.running.swap_remove(at);
        self.undo(&running, tools)
    }

    /// Takes a queue from the poll thread, then from the back end, then from IO-Bond; its place is free after that.
    fn undo<P: Port>(&mut self, running: &Running, tools: &mut Tools<P>) -> Result<(), Error> {
        let polled = match running.parked {
            None => tools.end.remove(running.ticket).map(drop),
            Some(_) => Ok(()),
        };
        let stopped = match running.work {
            // One that waits its back end does not have.
            Work::BackEnd(vring) if self.alive && running.parked.is_none() => self.back_end.stop_vring(vring),
            Work::BackEnd(_) | Work::Control(_) => Ok(()),
        };
        tools.registers.stop_queue(running.context);
        polled.map_err(|_| Error::PollerStuck { function: self.id, queue: running.index })?;
        Ok(stopped?)
    }

    /// The back end is gone: whatever it works is stopped, and the driver learns of it.
    pub(super) fn lose_back_end<P: Port>(&mut self, tools: &mut Tools<P>) {
        self.alive = false;
        self.function.withdraw();
        if let Err(error) = self.stop_all(tools) {
            tracing::warn!(function = %self.id, %error, "while stopping the queues of a back end that is gone");
        }
        self.ask_for_reset(tools);
    }

    /// Asks the driver for a reset (virtio 1.3, 2.1.2).
    pub(super) fn ask_for_reset<P: Port>(&mut self, tools: &Tools<P>) {
        let before = self.function.status();
        let vector = self.function.ask_for_reset();
        self.counted.needs_reset += u64::from(self.function.status() != before);
        if let Some(vector) = vector {
            tools.registers.inject_config_change(self.id, vector);
        }
    }

    /// Looks which queues IO-Bond stopped since the last look.
    pub(super) fn look_for_errors<P: Port>(&mut self, tools: &Tools<P>) {
        let mut found = Vec::new();
        for queue in self.running.iter_mut().filter(|queue| !queue.in_error) {
            if let Some(error) = tools.registers.queue_error(queue.context) {
                queue.in_error = true;
                found.push((queue.index, format!("{error:?}")));
            }
        }
        for (index, reason) in found {
            self.count_error(index, reason);
            self.ask_for_reset(tools);
        }
    }

    fn count_error(&mut self, index: u16, reason: String) {
        tracing::warn!(function = %self.id, queue = index, reason, "queue stopped; the driver is asked for a reset");
        self.counted.queue_errors += 1;
        self.counted.last_queue_error = Some((index, reason));
    }

    /// Works the control queue, if it runs.
    pub(super) fn work_control_queue<P: Port>(&mut self, tools: &Tools<P>) -> Result<(), Error> {
        let Self { running, function, pairs, .. } = self;
        let most = function.device().back_end_queues / 2;
        let control = running.iter_mut().find_map(|queue| match &mut queue.work {
            Work::Control(control) => Some(control),
            Work::BackEnd(_) => None,
        });
        let Some(wanted) = control.and_then(|control| control.serve(most, || tools.end.poll_waker().wake()))
        else {
            return Ok(());
        };
        *pairs = wanted;
        self.enable_vrings()
    }

    /// What was counted of the function.
    pub(super) fn statistics(&self) -> FunctionStatistics {
        FunctionStatistics {
            status: self.function.status().bits(),
            negotiated: self.function.negotiated(),
            running_queues: self.running.len() as u16,
            refused_accesses: self.function.refused(),
            back_end: self.back_end_state(),
            ..self.counted.clone()
        }
    }
}

/// Sets up what IO-Bond leaves alone. Used buffers are polled for, so the back end need not interrupt: by the flag, or, where
/// interrupts go by index, by a `used_event` that is a whole round of indices away (virtio 1.3, 2.7.7). The poll thread writes them
/// from then on. HEAD begins at zero again, whatever the queue's former life left in the status page.
fn prepare_shadow<P: Port>(tools: &Tools<P>, place: &Place, context: u8, ring: RingFeatures) {
    let mapping = tools.pool.mapping();
    let (at, value) = match ring.event_idx {
        true => (used_event_offset(place.sizes.shadow), u16::MAX),
        false => (FLAGS, AVAIL_NO_INTERRUPT),
    };
    mapping.write(place.avail + at, &value.to_le_bytes());
    mapping.write(4 * (HEAD_WORD as u64 + u64::from(context)), &[0; 4]);
}
