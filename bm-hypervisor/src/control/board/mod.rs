//! The board as the control thread has it: brought up, served, and taken down.

mod bring_up;
mod forwarded;
mod reconnect;

use std::sync::Arc;

use super::{
    back_end_search::Searches,
    contexts::ContextRange,
    counters::Tallies,
    notes::{Journaled, Notes},
    registers::{Identity, Registers},
    resources::Resources,
    served::Served,
    statistics::{MailboxStatistics, Statistics},
};
use crate::{
    Error,
    lifecycle::{BoardEvent, BoardState},
    poll::channel::{ControlEnd, Event},
    pool::{IOVA, Pool},
    port::Port,
    register_writes,
    vhost_user::{BackEnd, Problem},
    virtio_pci::config_image::ConfigImage,
};

/// A board with its functions: what the control thread alone may change.
pub(super) struct Board<P: Port> {
    pub(super) name: String,
    pub(super) port: Arc<P>,
    pub(super) registers: Registers<P>,
    pub(super) identity: Identity,
    pub(super) tallies: Tallies,
    pub(super) pool: Pool,
    /// By number: none where a function was removed, or may be added.
    pub(super) functions: Vec<Option<Served>>,
    /// The queue contexts of each number.
    pub(super) contexts: Vec<ContextRange>,
    pub(super) end: ControlEnd,
    pub(super) tickets: u32,
    pub(super) state: BoardState,
    pub(super) mailbox: MailboxStatistics,
    pub(super) failure: Option<Arc<Error>>,
    pub(super) searches: Searches,
    /// If there is a keeper.
    pub(super) notes: Option<Notes>,
}

impl<P: Port> Journaled for Board<P> {
    fn note(&mut self) {
        if let Some(notes) = &mut self.notes {
            notes.write(&self.functions);
        }
    }
}

impl<P: Port> Board<P> {
    /// The memory that holds the rings and slots of all functions.
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The control thread's end of its channels with the poll thread.
    pub(super) fn end(&self) -> &ControlEnd {
        &self.end
    }

    /// Functions that the board has.
    pub(super) fn present(&self) -> impl Iterator<Item = &Served> {
        self.functions.iter().flatten()
    }

    /// The configuration space in which the board finds a function.
    pub(super) fn image(&self, served: &Served) -> ConfigImage {
        ConfigImage::new(served.function.device(), served.id, self.functions.len())
    }

    /// The functions whose back end is connected, by number.
    pub(super) fn connected(&self) -> impl Iterator<Item = (usize, &BackEnd)> {
        self.present().filter(|served| served.alive).map(|served| (served.id.index(), &served.back_end))
    }

    /// Handles all events of the poll thread, and the requests in control queues.
    pub(super) fn take_events(&mut self) {
        // Drained first, so that what comes from here on wakes the thread again. Nothing to read is not an
        // error.
        let _ = self.end.wake().read();
        while let Some(event) = self.end.next_event() {
            match event {
                Event::Request(request) => self.answer(request),
                Event::QueueErrors => self.each(|served, resources| {
                    served.look_for_errors(resources);
                    Ok(())
                }),
                Event::UsedJump { context, ticket, from, to } => {
                    self.stop_broken_ring(context, ticket, from, to)
                }
                Event::Gone => self.lose_device(),
            }
        }
        self.each(|served, resources| served.work_control_queue(resources));
    }

    /// Fails the board if its device is gone.
    pub(super) fn check_device(&mut self) {
        let expected = !matches!(self.state, BoardState::Absent | BoardState::Failed);
        if expected && !self.registers.is_there() {
            self.lose_device();
        }
    }

    /// Handles an event of the connection of function `index`.
    pub(super) fn look_at_back_end(&mut self, index: usize) {
        let served = self.functions.get(index).and_then(Option::as_ref);
        let looked = served.filter(|served| served.alive).and_then(|served| served.back_end.look());
        if let Some(error) = looked {
            self.with(index, |_, _| Err(error.into()));
        }
    }

    fn stop_broken_ring(&mut self, context: u8, ticket: u32, from: u16, to: u16) {
        let is_it = |served: &Served| {
            served.running.iter().find(|queue| queue.ticket == ticket).map(|queue| queue.index)
        };
        let Some((index, queue)) =
            self.present().find_map(|served| Some((served.id.index(), is_it(served)?)))
        else {
            return;
        };
        let size = self.pool.place(context.into()).map_or(0, |place| place.sizes.shadow);
        let mut error = None;
        self.with(index, |served, resources| {
            error = Some(served.back_end.error(Problem::UsedJump { vring: queue, from, to, size }));
            let stopped = served.stop_queue(queue, resources);
            served.ask_for_reset(resources);
            stopped
        });
        if let Some(error) = error {
            self.fail(error.into());
        }
    }

    fn lose_device(&mut self) {
        if self.state.on(BoardEvent::DeviceGone) {
            self.fail(Error::DeviceGone);
            self.each(|served, resources| served.stop_all(resources));
        }
    }

    /// Follows drivers: the board is running while a function has DRIVER_OK.
    pub(super) fn follow_drivers(&mut self) {
        let up = self.present().any(|served| served.function.status().driver_ok());
        let moved = self.state.on(if up { BoardEvent::DriverUp } else { BoardEvent::DriversGone });
        if moved {
            tracing::info!(board = self.name, state = %self.state, "drivers came or went");
        }
    }

    /// Looks at IO-Bond's counters of the mailbox, and of every queue that runs.
    pub(super) fn fold_counters(&mut self) {
        let Self { tallies, registers, functions, .. } = self;
        tallies.fold_expired(registers);
        let running = functions.iter().flatten().flat_map(|served| &served.running);
        running.for_each(|queue| tallies.fold(registers, queue.context));
    }

    /// Gives the board power, if it is off. Returns whether it was.
    pub(super) fn power_on(&mut self) -> bool {
        let moved = self.state.on(BoardEvent::PowerOn);
        if moved {
            self.registers.write(register_writes::power(true));
        }
        moved
    }

    /// Takes power from a board that has it, and stops its queues. Returns whether it had. `before` runs
    /// while the board is quiescing and has power still: stopping queues waits for back ends.
    pub(super) fn power_off(&mut self, before: impl FnOnce(&mut Self)) -> bool {
        if !self.state.on(BoardEvent::PowerOff) {
            return false;
        }
        self.fold_counters();
        before(self);
        self.registers.write(register_writes::power(false));
        self.each(|served, resources| served.stop_all(resources));
        self.state.on(BoardEvent::Drained);
        true
    }

    /// Function `index`, if it is there, and what serving it takes.
    pub(super) fn served(&mut self, index: usize) -> Option<(&mut Served, Resources<'_, P>)> {
        let Self { functions, registers, tallies, pool, end, tickets, .. } = self;
        let served = functions.get_mut(index).and_then(Option::as_mut)?;
        Some((served, Resources { registers, tallies, pool, end, tickets }))
    }

    /// Does something with each function.
    pub(super) fn each(
        &mut self,
        mut act: impl FnMut(&mut Served, &mut Resources<'_, P>) -> Result<(), Error>,
    ) {
        for index in 0..self.functions.len() {
            self.with(index, &mut act);
        }
    }

    /// Does something with function `index`. Returns the error, if there was one; a back end that fails is
    /// lost.
    pub(super) fn with(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut Served, &mut Resources<'_, P>) -> Result<(), Error>,
    ) -> Option<Arc<Error>> {
        let (served, mut resources) = self.served(index)?;
        let error = act(served, &mut resources).err()?;
        match error {
            Error::BackEnd(_) => self.lose(index, error),
            _ => Some(self.fail(error)),
        }
    }

    /// Keeps the first failure, and reports each.
    fn fail(&mut self, error: Error) -> Arc<Error> {
        tracing::error!(board = self.name, %error);
        let error = Arc::new(error);
        self.failure.get_or_insert_with(|| Arc::clone(&error));
        error
    }

    /// The first failure, which the board keeps.
    pub(super) fn failure(&self) -> Option<&Arc<Error>> {
        self.failure.as_ref()
    }

    /// Takes power from the board, stops its queues, and withdraws the base's memory from its device; once.
    pub(super) fn take_down(&mut self) {
        self.power_off(|_| {});
        if !self.state.on(BoardEvent::StopAsked) {
            return;
        }
        self.each(|served, resources| served.stop_all(resources));
        self.registers.write(register_writes::quiesce(self.identity.sizes, self.identity.features));
        if let Some(notes) = &mut self.notes {
            notes.release();
        }
        if let Err(error) = self.port.unmap_dma(IOVA) {
            self.fail(error.into());
        }
        tracing::info!(board = self.name, "board stopped");
    }

    /// What was counted since the start.
    pub(super) fn statistics(&self) -> Statistics {
        Statistics {
            board: self.name.clone(),
            state: self.state,
            mailbox: MailboxStatistics { expired: self.tallies.expired(), ..self.mailbox },
            poll: self.end.counters().read(),
            memory: self.pool.usage(),
            functions: self.present().map(Served::statistics).collect(),
        }
    }
}

/// However the control thread ends, the board does not keep power and memory.
impl<P: Port> Drop for Board<P> {
    fn drop(&mut self) {
        self.take_down();
    }
}
