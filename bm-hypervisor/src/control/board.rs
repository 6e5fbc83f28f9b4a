//! The board as the control thread has it: brought up, served, and taken down.

use std::sync::Arc;

use iobond_spec::{
    register_access::decode,
    registers::components::{mailbox_kind_e::MailboxKindE, mailbox_t},
};

use super::{
    offer::{check_identity, connect},
    registers::{Identity, Registers},
    served::Served,
    statistics::{MailboxStatistics, Statistics},
};
use crate::{
    Error,
    config::BoardConfig,
    lifecycle::{BoardState, Happening},
    poll::channel::{ControlEnd, Event, Request},
    pool::{IOVA, Pool},
    port::{Port, Region},
    vhost_user::{BackEnd, Problem},
    virtio_pci::config_image::ConfigImage,
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

/// A board.
pub(super) struct Board<P: Port> {
    name: String,
    port: Arc<P>,
    registers: Registers<P>,
    identity: Identity,
    pool: Pool,
    functions: Vec<Served>,
    end: ControlEnd,
    tickets: u32,
    state: BoardState,
    mailbox: MailboxStatistics,
    failure: Option<Arc<Error>>,
}

impl<P: Port> Board<P> {
    /// Connects the back ends, makes the pool, and programs the functions. Without an error the board has power when this
    /// returns; with one, nothing of the base's can be reached from it.
    pub(super) fn bring_up(config: &BoardConfig, port: Arc<P>, end: ControlEnd) -> Result<Self, Error> {
        config.check()?;
        let registers = Registers::new(Arc::clone(&port));
        let identity = registers.identify()?;
        check_identity(config, &identity)?;
        let functions = connect(config, &identity)?;
        let sizes: Vec<_> = functions
            .iter()
            .flat_map(|served| {
                (0..served.function.device().queues()).map(|index| served.function.device().sizes(index))
            })
            .collect();
        let pool = Pool::new(&sizes, config.hugepages).map_err(|source| Error::Memory {
            bytes: sizes.iter().map(|sizes| u64::from(sizes.slots) * u64::from(sizes.slot_size)).sum(),
            kind: if config.hugepages { "huge pages" } else { "memory" },
            source,
        })?;
        let mut board = Self {
            name: config.name.clone(),
            port,
            registers,
            identity,
            pool,
            functions,
            end,
            tickets: 0,
            state: BoardState::default(),
            mailbox: MailboxStatistics::default(),
            failure: None,
        };
        board.program(config)?;
        Ok(board)
    }

    fn program(&mut self, config: &BoardConfig) -> Result<(), Error> {
        self.registers.quiesce(&self.identity);
        self.port.map_dma(&Region {
            file: self.pool.file(),
            file_offset: 0,
            length: self.pool.length(),
            host_address: self.pool.user_address(0),
            iova: IOVA,
        })?;
        self.registers.grant(IOVA, self.pool.length());
        self.registers.set_mailbox_deadline(config.mailbox_deadline_us);
        for served in &self.functions {
            let space = ConfigImage::new(served.function.device(), served.id, self.functions.len());
            self.registers.present(served.id, &space);
        }
        self.registers.set_power(true);
        self.state.on(Happening::Prepared);
        tracing::info!(
            board = self.name,
            functions = self.functions.len(),
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

    /// Functions whose back end can be talked to.
    pub(super) fn connected(&self) -> impl Iterator<Item = (usize, &BackEnd)> {
        self.functions
            .iter()
            .enumerate()
            .filter(|(_, served)| served.alive)
            .map(|(index, served)| (index, &served.back_end))
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
        if self.state == BoardState::Serving && !self.registers.is_there() {
            self.lose_device();
        }
    }

    /// Looks why the connection of function `index` woke the thread.
    pub(super) fn look_at_back_end(&mut self, index: usize) {
        let looked =
            self.functions.get(index).filter(|served| served.alive).and_then(|served| served.back_end.look());
        if let Some(error) = looked {
            self.with(index, |_, _| Err(error.into()));
        }
    }

    /// Answers one forwarded access, after carrying out what it asks for: a read never passes a write.
    fn answer(&mut self, request: Request) {
        let word: mailbox_t::request::Request = decode(request.word);
        let index = usize::from(word.function_id());
        let Some(served) = self.functions.get_mut(index) else {
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
                    self.mailbox.expired += 1;
                    return;
                }
                self.mailbox.writes += 1;
                let value = request.data & low_bytes(word.width());
                let effect = served.function.write(request.offset, word.width(), value);
                self.with(index, |served, tools| served.carry_out(effect, tools));
                self.registers.answer(word.sequence(), None);
            }
            MailboxKindE::Reset => {
                self.mailbox.resets += 1;
                served.function.reset();
                self.with(index, |served, tools| served.stop_all(tools));
                self.registers.answer(word.sequence(), None);
            }
        }
    }

    fn stop_broken_ring(&mut self, context: u8, ticket: u32, from: u16, to: u16) {
        let is_it = |served: &Served| {
            served.running.iter().find(|queue| queue.ticket == ticket).map(|queue| queue.index)
        };
        let Some((index, queue)) =
            self.functions.iter().zip(0..).find_map(|(served, index)| Some((index, is_it(served)?)))
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

    /// Does something with each function.
    fn each(&mut self, mut what: impl FnMut(&mut Served, &mut Tools<'_, P>) -> Result<(), Error>) {
        for index in 0..self.functions.len() {
            self.with(index, &mut what);
        }
    }

    /// Does something with function `index`. A back end that fails in it is given up.
    fn with(&mut self, index: usize, what: impl FnOnce(&mut Served, &mut Tools<'_, P>) -> Result<(), Error>) {
        let Self { functions, registers, pool, end, tickets, .. } = self;
        let Some(served) = functions.get_mut(index) else { return };
        let mut tools = Tools { registers, pool, end, tickets };
        let Err(error) = what(served, &mut tools) else { return };
        if matches!(error, Error::BackEnd(_)) && served.alive {
            served.lose_back_end(&mut tools);
        }
        self.fail(error);
    }

    /// Keeps the first failure, and reports each.
    fn fail(&mut self, error: Error) {
        tracing::error!(board = self.name, %error);
        self.failure.get_or_insert(Arc::new(error));
    }

    /// The first failure.
    pub(super) fn failure(&self) -> Option<&Arc<Error>> {
        self.failure.as_ref()
    }

    /// Takes power from the board, stops its queues, and withdraws the base's memory from its device; once.
    pub(super) fn take_down(&mut self) {
        if !self.state.on(Happening::StopAsked) {
            return;
        }
        self.registers.set_power(false);
        self.each(|served, tools| served.stop_all(tools));
        self.registers.quiesce(&self.identity);
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
            mailbox: self.mailbox,
            poll: self.end.counters().read(),
            memory: self.pool.usage(),
            functions: self.functions.iter().map(Served::statistics).collect(),
        }
    }
}

/// Whatever ends the control thread, the board does not keep power and memory.
impl<P: Port> Drop for Board<P> {
    fn drop(&mut self) {
        self.take_down();
    }
}

/// The low `width` bytes of a word.
fn low_bytes(width: u8) -> u32 {
    match width {
        1 => 0xFF,
        2 => 0xFFFF,
        _ => u32::MAX,
    }
}
