//! One function with the back end behind it.

mod adopt;
mod queues;
pub(super) mod reconfigure;
mod reconnect;

use std::time::Instant;

use iobond_spec::{
    address::FunctionId,
    offsets::queues as offset,
    registers::components::{queue_error_e::QueueErrorE, queue_state_e::QueueStateE},
};

use self::queues::{Running, Work};
use super::{
    counters::Tallies,
    registers::Registers,
    resources::Resources,
    statistics::{FunctionStatistics, QueueState, QueueStatistics, error_name},
};
use crate::{
    Error,
    device::net,
    port::Port,
    register_writes,
    vhost_user::{BackEnd, Problem},
    virtio_pci::{Effect, Function},
};

/// A function that is served.
pub(super) struct Served {
    pub(super) id: FunctionId,
    pub(super) function: Function,
    pub(super) back_end: BackEnd,
    /// Whether the back end is connected.
    pub(super) alive: bool,
    /// Since when a back end is searched for.
    pub(super) away: Option<Instant>,
    /// Number of its first queue context; the others follow.
    pub(super) first_context: u8,
    pub(super) running: Vec<Running>,
    /// Queue pairs that the driver uses, of a network function with MQ.
    pub(super) pairs: u16,
    /// Whether the link of a network function is up.
    pub(super) link_up: bool,
    /// Whether it was added by a command, and is not in the configuration.
    pub(super) added: bool,
    pub(super) counted: FunctionStatistics,
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

    /// Carries out what a write of the driver's asked for. An error is the back end's or the device's, never
    /// the driver's; the driver has been asked for a reset then.
    pub(super) fn carry_out<P: Port>(
        &mut self,
        effect: Effect,
        resources: &mut Resources<'_, P>,
    ) -> Result<(), Error> {
        let result = match effect {
            Effect::None => Ok(()),
            Effect::Reset => {
                // Errors of the driver that ends here.
                self.counted.last_queue_error = None;
                self.stop_all(resources)
            }
            Effect::Start => self.start_enabled(resources),
            Effect::EnableQueue(index) => self.start_queue(index, resources),
            Effect::ResetQueue(index) => self.stop_queue(index, resources),
            Effect::NeedsReset => {
                self.ask_for_reset(resources);
                Ok(())
            }
        };
        if result.as_ref().is_err_and(|error| !self.recovers_from(error)) && effect != Effect::Reset {
            self.ask_for_reset(resources);
        }
        result
    }

    /// The driver is ready: settles with the back end what it chose, before any queue is started.
    ///
    /// # Errors
    /// The back end fails, or is lost and not searched for.
    pub(super) fn prepare<P: Port>(&mut self, resources: &mut Resources<'_, P>) -> Result<(), Error> {
        self.pairs = net::FIRST_PAIRS;
        match self.away {
            _ if self.alive => self.settle(resources),
            Some(_) => Ok(()),
            None => {
                self.ask_for_reset(resources);
                Err(self.back_end.error(Problem::Died).into())
            }
        }
    }

    /// Settles with the back end what the driver chose.
    fn settle<P: Port>(&mut self, resources: &Resources<'_, P>) -> Result<(), Error> {
        let Self { function, back_end, .. } = self;
        let device = function.device();
        let features = device.kind.back_end_features(function.negotiated(), back_end.offer());
        Ok(back_end.settle(features, resources.pool, device.back_end_queues, device.sizes.shadow)?)
    }

    /// Starts every queue that the driver enabled and that does not run: at DRIVER_OK, and where the back end
    /// was lost while they started.
    fn start_enabled<P: Port>(&mut self, resources: &mut Resources<'_, P>) -> Result<(), Error> {
        let status = self.function.status();
        if !status.driver_ok() || !status.is_sound() {
            return Ok(());
        }
        let runs = |index| self.running.iter().any(|queue| queue.index == index);
        let enabled = self.function.queues().iter().zip(0..).filter(|(queue, _)| queue.enabled);
        let missing: Vec<u16> = enabled.map(|(_, index)| index).filter(|index| !runs(*index)).collect();
        missing.into_iter().try_for_each(|index| self.start_queue(index, resources))
    }

    /// The back end is gone for good: its queues stop, and the driver is asked for a reset.
    pub(super) fn lose_back_end<P: Port>(&mut self, resources: &mut Resources<'_, P>) {
        self.alive = false;
        self.function.withdraw();
        if let Err(error) = self.stop_all(resources) {
            tracing::warn!(function = %self.id, %error, "while stopping the queues of a back end that is gone");
        }
        self.ask_for_reset(resources);
    }

    /// Asks the driver for a reset (virtio 1.3, 2.1.2).
    pub(super) fn ask_for_reset<P: Port>(&mut self, resources: &Resources<'_, P>) {
        let before = self.function.status();
        let vector = self.function.ask_for_reset();
        self.counted.needs_reset += u64::from(self.function.status() != before);
        if let Some(vector) = vector {
            resources.registers.write(register_writes::inject_config_change(self.id, vector));
        }
    }

    /// Handles queues that IO-Bond stopped since the last look.
    pub(super) fn look_for_errors<P: Port>(&mut self, resources: &Resources<'_, P>) {
        let mut found = Vec::new();
        for queue in self.running.iter_mut().filter(|queue| !queue.in_error) {
            if let Some(error) = resources.registers.queue_error(queue.context) {
                queue.in_error = true;
                found.push((queue.index, error_name(error)));
            }
        }
        for (index, reason) in found {
            self.count_error(index, reason);
            self.ask_for_reset(resources);
        }
    }

    fn count_error(&mut self, index: u16, reason: &'static str) {
        tracing::warn!(function = %self.id, queue = index, reason, "queue stopped; the driver is asked for a reset");
        self.counted.queue_errors += 1;
        self.counted.last_queue_error = Some((index, reason.into()));
    }

    /// Serves the requests in the control queue, if it runs.
    pub(super) fn work_control_queue<P: Port>(&mut self, resources: &Resources<'_, P>) -> Result<(), Error> {
        let Self { running, function, pairs, .. } = self;
        let most = function.device().back_end_queues / 2;
        let control = running.iter_mut().find_map(|queue| match &mut queue.work {
            Work::Control(control) => Some(control),
            Work::BackEnd(_) => None,
        });
        let Some(wanted) =
            control.and_then(|control| control.serve(most, || resources.end.poll_waker().wake()))
        else {
            return Ok(());
        };
        *pairs = wanted;
        self.enable_vrings()
    }

    /// What was counted of the function since it is there.
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

    /// How many virtqueues its device has.
    pub(super) fn queues(&self) -> u16 {
        self.function.device().queues()
    }

    /// Queue `index` as its registers have it, looked at now.
    pub(super) fn queue_statistics<P: Port>(
        &self,
        index: u16,
        registers: &Registers<P>,
        tallies: &mut Tallies,
    ) -> QueueStatistics {
        let context = self.first_context + index as u8;
        let runs = self.running.iter().any(|queue| queue.index == index);
        if runs {
            tallies.fold(registers, context);
        }
        let register = registers.queue_state(context);
        let state = match register.state() {
            Ok(QueueStateE::Running) if runs => QueueState::Running,
            Ok(QueueStateE::Error) if runs => QueueState::Error,
            _ => QueueState::Disabled,
        };
        let enabled = state != QueueState::Disabled;
        let read = |at: u32| if enabled { registers.queue_register(context, at) } else { 0 };
        let sizes = read(offset::SIZES);
        let error = || error_name(register.error().unwrap_or(QueueErrorE::None)).into();
        QueueStatistics {
            context,
            function: self.id.index() as u8,
            index,
            state,
            error: (state == QueueState::Error).then(error),
            guest_size: sizes as u16,
            shadow_size: (sizes >> 16) as u16,
            head: read(offset::HEAD) as u16,
            tail: read(offset::TAIL) as u16,
            counted: tallies.queue(context),
        }
    }
}
