//! The board as the control thread has it: brought up, served, and taken down.

mod away;

use std::sync::Arc;

use iobond_spec::{
    register_access::decode,
    registers::components::{mailbox_kind_e::MailboxKindE, mailbox_t},
};

use super::{
    notes::{Notes, layout_of},
    offer::{check_identity, connect},
    reconnect::Searches,
    registers::{Identity, Registers},
    served::Served,
    statistics::{MailboxStatistics, Statistics},
};
use crate::{
    Error,
    config::{BoardConfig, FunctionConfig, RingSizes},
    journal::Journal,
    keep::Keeper,
    lifecycle::{BoardState, Happening},
    poll::channel::{ControlEnd, Event, Request},
    pool::{IOVA, Pool},
    port::{Port, Region},
    vhost_user::{BackEnd, Problem},
    virtio_pci::{Effect, config_image::ConfigImage},
};

/// What serving a function takes.
pub(super) struct Tools<'a, P> {
    pub(super) registers: &'a Registers<P>,
    pub(super) pool: &'a Pool,
    pub(super) end: &'a ControlEnd,
    tickets: &'a mut u32,
}

impl<P> Tools<'_, P> {
    /// A number that no queue had lately.
    pub(super) fn next_ticket(&mut self) -> u32 {
        *self.tickets = self.tickets.wrapping_add(1);
        *self.tickets
    }
}

/// What a function, whichever it is, may take: dealt out when the board starts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Number of its first queue context; the others follow.
    pub(super) first_context: u8,
    pub(super) contexts: u16,
}

/// A board.
pub(super) struct Board<P: Port> {
    pub(super) name: String,
    pub(super) port: Arc<P>,
    pub(super) registers: Registers<P>,
    pub(super) identity: Identity,
    pub(super) pool: Pool,
    /// By number: those that are there, with room for those that are not.
    pub(super) functions: Vec<Option<Served>>,
    /// One for each number.
    pub(super) rooms: Vec<Room>,
    pub(super) end: ControlEnd,
    pub(super) tickets: u32,
    pub(super) state: BoardState,
    pub(super) mailbox: MailboxStatistics,
    pub(super) failure: Option<Arc<Error>>,
    pub(super) searches: Searches,
    /// If anybody keeps them.
    pub(super) notes: Option<Notes>,
}

/// What a board is made from, whether it begins or goes on.
pub(super) struct Parts<P: Port> {
    pub(super) port: Arc<P>,
    pub(super) registers: Registers<P>,
    pub(super) identity: Identity,
    pub(super) pool: Pool,
    /// Those that are configured.
    pub(super) functions: Vec<Option<Served>>,
    pub(super) rooms: Vec<Room>,
    pub(super) end: ControlEnd,
    pub(super) searches: Searches,
    pub(super) notes: Option<Notes>,
}

impl<P: Port> Board<P> {
    /// Connects the back ends, makes the pool, and programs the functions. Without an error the board has power when this
    /// returns; with one, nothing of the base's can be reached from it.
    pub(super) fn bring_up(
        config: &BoardConfig,
        port: Arc<P>,
        end: ControlEnd,
        keeper: Option<Box<dyn Keeper>>,
    ) -> Result<Self, Error> {
        config.check()?;
        let registers = Registers::new(Arc::clone(&port));
        let identity = registers.identify()?;
        check_identity(config, &identity)?;
        let functions = connect(config, &identity, |_| true)?;
        let (rooms, sizes) = deal_out(config);
        let pool = Pool::new(&sizes, config.hugepages).map_err(|source| Error::Memory {
            bytes: sizes.iter().map(|sizes| u64::from(sizes.slots) * u64::from(sizes.slot_size)).sum(),
            kind: if config.hugepages { "huge pages" } else { "memory" },
            source,
        })?;
        let searches = Searches::new(&config.functions, end.wake())?;
        let layout = layout_of(&rooms, &sizes);
        let notes = |keeper| Journal::new().map(|journal| Notes::new(journal, keeper, layout));
        let notes = keeper.map(notes).transpose()?;
        let parts = Parts { port, registers, identity, pool, functions, rooms, end, searches, notes };
        let mut board = Self::assemble(config, parts);
        board.program(config)?;
        board.note();
        if let Some(notes) = &board.notes {
            notes.keep(board.pool.file());
        }
        Ok(board)
    }

    /// A board before anything is done with it.
    pub(super) fn assemble(config: &BoardConfig, parts: Parts<P>) -> Self {
        let Parts { port, registers, identity, pool, functions, rooms, end, searches, notes } = parts;
        Self {
            name: config.name.clone(),
            port,
            registers,
            identity,
            pool,
            functions: functions.into_iter().chain(config.spares.iter().map(|_| None)).collect(),
            rooms,
            end,
            tickets: 0,
            state: BoardState::default(),
            mailbox: MailboxStatistics::default(),
            failure: None,
            searches,
            notes,
        }
    }

    fn program(&mut self, config: &BoardConfig) -> Result<(), Error> {
        self.registers.quiesce(&self.identity);
        self.registers.restart_expired();
        self.port.map_dma(&Region {
            file: self.pool.file(),
            file_offset: 0,
            length: self.pool.length(),
            iova: IOVA,
        })?;
        self.registers.grant(IOVA, self.pool.length());
        self.registers.set_mailbox_deadline(config.mailbox_deadline_us);
        for (served, function) in self.present().zip(&config.functions) {
            if let Some(rates) = function.limits().and_then(|limits| limits.rates()) {
                self.registers.limit(served.id, Some(&rates));
            }
            self.registers.present(served.id, &self.image(served));
        }
        self.state.on(Happening::Prepared);
        self.power_on();
        tracing::info!(
            board = self.name,
            functions = config.functions.len(),
            memory = self.pool.length(),
            "board has power"
        );
        Ok(())
    }

    /// The board's memory.
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What wakes the control thread, and the connections to watch.
    pub(super) fn end(&self) -> &ControlEnd {
        &self.end
    }

    /// Functions that are there.
    pub(super) fn present(&self) -> impl Iterator<Item = &Served> {
        self.functions.iter().flatten()
    }

    /// What the board finds of a function.
    pub(super) fn image(&self, served: &Served) -> ConfigImage {
        ConfigImage::new(served.function.device(), served.id, self.functions.len())
    }

    /// Functions whose back end can be talked to.
    pub(super) fn connected(&self) -> impl Iterator<Item = (usize, &BackEnd)> {
        self.present().filter(|served| served.alive).map(|served| (served.id.index(), &served.back_end))
    }

    /// Takes up everything that the poll thread told, and the control queues.
    pub(super) fn take_events(&mut self) {
        // Drained first, so that what comes from here on wakes the thread again. Nothing to read is not an error.
        let _ = self.end.wake().read();
        while let Some(event) = self.end.next_event() {
            match event {
                Event::Request(request) => self.answer(request),
                Event::QueueErrors => self.each(|served, tools| {
                    served.look_for_errors(tools);
                    Ok(())
                }),
                Event::UsedJump { context, ticket, from, to } => {
                    self.stop_broken_ring(context, ticket, from, to)
                }
                Event::Gone => self.lose_device(),
            }
        }
        self.each(|served, tools| served.work_control_queue(tools));
    }

    /// Looks whether the device is still there.
    pub(super) fn check_device(&mut self) {
        let expected = !matches!(self.state, BoardState::Absent | BoardState::Failed);
        if expected && !self.registers.is_there() {
            self.lose_device();
        }
    }

    /// Looks why the connection of function `index` woke the thread.
    pub(super) fn look_at_back_end(&mut self, index: usize) {
        let served = self.functions.get(index).and_then(Option::as_ref);
        let looked = served.filter(|served| served.alive).and_then(|served| served.back_end.look());
        if let Some(error) = looked {
            self.with(index, |_, _| Err(error.into()));
        }
    }

    /// Answers one forwarded access, after carrying out what it asks for: a read never passes a write.
    fn answer(&mut self, request: Request) {
        let word: mailbox_t::request::Request = decode(request.word);
        let index = usize::from(word.function_id());
        let Some(served) = self.functions.get_mut(index).and_then(Option::as_mut) else {
            self.mailbox.misdirected += 1;
            self.registers.answer(word.sequence(), Some(0));
            return;
        };
        match word.kind() {
            MailboxKindE::None => {}
            MailboxKindE::Read => {
                self.mailbox.reads += 1;
                let data = served.function.read(request.offset, word.width());
                self.registers.answer(word.sequence(), Some(data));
            }
            MailboxKindE::Write => {
                // Should it have expired, the next request's body may have been read with this one's word.
                if self.registers.request() != request.word {
                    return;
                }
                self.mailbox.writes += 1;
                let value = request.data & low_bytes(word.width());
                let effect = served.function.write(request.offset, word.width(), value);
                self.note();
                self.take_effect(index, effect);
                self.note();
                self.registers.answer(word.sequence(), None);
            }
            MailboxKindE::Reset => {
                self.mailbox.resets += 1;
                served.function.reset();
                self.note();
                self.with(index, |served, tools| served.stop_all(tools));
                self.registers.answer(word.sequence(), None);
            }
        }
    }

    /// Carries out what a driver's write asked for.
    fn take_effect(&mut self, index: usize, effect: Effect) {
        if effect == Effect::Start {
            let failed = self.with(index, |served, tools| served.prepare(tools));
            // Where the back end notes what is in flight is kept before anything is.
            self.note();
            // Its queues wait for another back end by now, or the driver has been asked for a reset.
            if failed.is_some() {
                return;
            }
        }
        self.with(index, |served, tools| served.carry_out(effect, tools));
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
        self.with(index, |served, tools| {
            error = Some(served.back_end.error(Problem::UsedJump { vring: queue, from, to, size }));
            let stopped = served.stop_queue(queue, tools);
            served.ask_for_reset(tools);
            stopped
        });
        if let Some(error) = error {
            self.fail(error.into());
        }
    }

    fn lose_device(&mut self) {
        if self.state.on(Happening::DeviceGone) {
            self.fail(Error::DeviceGone);
            self.each(|served, tools| served.stop_all(tools));
        }
    }

    /// Notes whether the board has a driver by now, or none any more.
    pub(super) fn follow_drivers(&mut self) {
        let up = self.present().any(|served| served.function.status().driver_ok());
        let moved = self.state.on(if up { Happening::DriverUp } else { Happening::DriversGone });
        if moved {
            tracing::info!(board = self.name, state = %self.state, "drivers came or went");
        }
    }

    /// Looks at IO-Bond's counters of the mailbox, and of every queue that runs.
    pub(super) fn fold_counters(&self) {
        self.registers.fold_expired();
        self.present()
            .flat_map(|served| &served.running)
            .for_each(|queue| self.registers.fold(queue.context));
    }

    /// Gives the board power, if it is off; whether it was.
    pub(super) fn power_on(&mut self) -> bool {
        let moved = self.state.on(Happening::PowerOn);
        if moved {
            self.registers.set_power(true);
        }
        moved
    }

    /// Takes power from the board and stops its queues, if it has any; whether it had. What is to be done first, `before` does:
    /// back ends may take their time.
    pub(super) fn power_off(&mut self, before: impl FnOnce(&mut Self)) -> bool {
        if !self.state.on(Happening::PowerOff) {
            return false;
        }
        self.fold_counters();
        before(self);
        self.registers.set_power(false);
        self.each(|served, tools| served.stop_all(tools));
        self.state.on(Happening::Drained);
        true
    }

    /// Does something with each function.
    pub(super) fn each(&mut self, mut what: impl FnMut(&mut Served, &mut Tools<'_, P>) -> Result<(), Error>) {
        for index in 0..self.functions.len() {
            self.with(index, &mut what);
        }
    }

    /// Does something with function `index`; what failed, if anything did. A back end that fails in it is lost.
    pub(super) fn with(
        &mut self,
        index: usize,
        what: impl FnOnce(&mut Served, &mut Tools<'_, P>) -> Result<(), Error>,
    ) -> Option<Arc<Error>> {
        let Self { functions, registers, pool, end, tickets, .. } = self;
        let served = functions.get_mut(index).and_then(Option::as_mut)?;
        let mut tools = Tools { registers, pool, end, tickets };
        let error = what(served, &mut tools).err()?;
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

    /// The first failure.
    pub(super) fn failure(&self) -> Option<&Arc<Error>> {
        self.failure.as_ref()
    }

    /// Takes power from the board, stops its queues, and withdraws the base's memory from its device; once.
    pub(super) fn take_down(&mut self) {
        self.power_off(|_| {});
        if !self.state.on(Happening::StopAsked) {
            return;
        }
        self.each(|served, tools| served.stop_all(tools));
        self.registers.quiesce(&self.identity);
        if let Some(notes) = &mut self.notes {
            notes.release();
        }
        if let Err(error) = self.port.unmap_dma(IOVA) {
            self.fail(error.into());
        }
        tracing::info!(board = self.name, "board stopped");
    }

    /// What was counted.
    pub(super) fn statistics(&self) -> Statistics {
        Statistics {
            board: self.name.clone(),
            state: self.state,
            mailbox: MailboxStatistics { expired: self.registers.expired(), ..self.mailbox },
            poll: self.end.counters().read(),
            memory: self.pool.usage(),
            functions: self.present().map(Served::statistics).collect(),
        }
    }
}

/// Whatever ends the control thread, the board does not keep power and memory.
impl<P: Port> Drop for Board<P> {
    fn drop(&mut self) {
        self.take_down();
    }
}

/// Deals queue contexts out: to functions in order, then to spare ones. What each number has, and the sizes of each context's rings.
pub(super) fn deal_out(config: &BoardConfig) -> (Vec<Room>, Vec<RingSizes>) {
    let functions = config.functions.iter().map(FunctionConfig::queues);
    let wanted = functions.chain(config.spares.iter().map(|spare| spare.queues));
    let mut first_context = 0;
    let deal = |contexts| {
        let room = Room { first_context, contexts };
        first_context += contexts as u8;
        room
    };
    (wanted.map(deal).collect(), config.queue_sizes())
}

/// The low `width` bytes of a word.
fn low_bytes(width: u8) -> u32 {
    match width {
        1 => 0xFF,
        2 => 0xFFFF,
        _ => u32::MAX,
    }
}
