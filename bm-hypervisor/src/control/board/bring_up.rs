//! Brings a board up: connects its back ends, makes its memory, programs its IO-Bond.

use std::sync::Arc;

use super::Board;
use crate::{
    Error,
    config::BoardConfig,
    control::{
        back_end_search::Searches,
        contexts::{assign_contexts, layout_of},
        counters::Tallies,
        notes::{Journaled, Notes},
        offer::{check_identity, connect},
        registers::{Identity, Registers},
        served::Served,
        statistics::MailboxStatistics,
    },
    journal::Journal,
    keep::Keeper,
    lifecycle::{BoardEvent, BoardState},
    poll::channel::ControlEnd,
    pool::{IOVA, Pool},
    port::{Port, Region},
    register_writes,
};

impl<P: Port> Board<P> {
    /// Connects the back ends, makes the pool, and programs the functions. Without an error the board has
    /// power when this returns; with one, it reaches nothing of the base's.
    pub(in crate::control) fn bring_up(
        config: &BoardConfig,
        port: Arc<P>,
        end: ControlEnd,
        keeper: Option<Box<dyn Keeper>>,
    ) -> Result<Self, Error> {
        config.check()?;
        let identity = Registers::new(Arc::clone(&port)).identify()?;
        check_identity(config, &identity)?;
        let functions = connect(config, &identity, |_| true)?;
        let sizes = config.queue_sizes();
        let pool = Pool::new(&sizes, config.hugepages).map_err(|source| Error::Memory {
            bytes: sizes.iter().map(|sizes| u64::from(sizes.slots) * u64::from(sizes.slot_size)).sum(),
            kind: if config.hugepages { "huge pages" } else { "memory" },
            source,
        })?;
        let mut board = Self::new(config, port, end, identity, pool)?;
        let notes = |keeper| Journal::new().map(|journal| Notes::new(journal, keeper, layout_of(config)));
        board.notes = keeper.map(notes).transpose()?;
        board.place(functions);
        // Registers are written before the first note: until the journal is kept, a process that ends leaves
        // nothing to resume, and the next one begins by taking all of this back.
        board.committed(|board| board.program(config))?;
        // A journal is kept once there is a record in it.
        if let Some(notes) = &board.notes {
            notes.keep(board.pool.file());
        }
        Ok(board)
    }

    /// A board without functions, before anything is done with it.
    pub(in crate::control) fn new(
        config: &BoardConfig,
        port: Arc<P>,
        end: ControlEnd,
        identity: Identity,
        pool: Pool,
    ) -> Result<Self, Error> {
        let contexts = assign_contexts(config);
        Ok(Self {
            name: config.name.clone(),
            registers: Registers::new(Arc::clone(&port)),
            port,
            identity,
            tallies: Tallies::default(),
            pool,
            functions: contexts.iter().map(|_| None).collect(),
            contexts,
            searches: Searches::new(&config.functions, end.wake())?,
            end,
            tickets: 0,
            state: BoardState::default(),
            mailbox: MailboxStatistics::default(),
            failure: None,
            notes: None,
        })
    }

    /// Puts functions in the places of their numbers.
    pub(in crate::control) fn place(&mut self, functions: Vec<Option<Served>>) {
        for (place, served) in self.functions.iter_mut().zip(functions) {
            *place = served;
        }
    }

    fn program(&mut self, config: &BoardConfig) -> Result<(), Error> {
        self.registers.write(register_writes::quiesce(self.identity.sizes, self.identity.features));
        self.tallies.restart_expired(&self.registers);
        self.port.map_dma(&Region {
            file: self.pool.file(),
            file_offset: 0,
            length: self.pool.length(),
            iova: IOVA,
        })?;
        self.registers.write(register_writes::grant(IOVA, self.pool.length()));
        self.registers.write(register_writes::status_page(IOVA));
        self.registers.write(register_writes::mailbox_deadline(config.mailbox_deadline_us));
        for (served, function) in self.present().zip(&config.functions) {
            if let Some(rates) = function.limits().and_then(|limits| limits.rates()) {
                self.registers.write(register_writes::limit(served.id, Some(&rates)));
            }
            self.registers.write(register_writes::present(served.id, &self.image(served)));
        }
        self.state.on(BoardEvent::Prepared);
        self.power_on();
        tracing::info!(
            board = self.name,
            functions = config.functions.len(),
            memory = self.pool.length(),
            "board has power"
        );
        Ok(())
    }
}
