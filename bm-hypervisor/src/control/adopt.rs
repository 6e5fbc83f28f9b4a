//! A board as an earlier life of this process left it, gone on with.
//!
//! IO-Bond has gone on meanwhile: it published what drivers made available and returned what TAIL allowed. The record says what
//! the drivers had set up; where IO-Bond does not have it yet, because the last life ended between writing down and carrying out,
//! it is carried out now. The mailbox request that stood when the last life ended stands still, and is answered once more.

use std::{sync::Arc, time::Instant};

use iobond_spec::address::FunctionId;

use super::{
    board::{Board, Parts, deal_out},
    notes::{Notes, layout_of},
    offer::{check_identity, connect},
    reconnect::Searches,
    registers::Registers,
    served::Served,
};
use crate::{
    Error,
    config::BoardConfig,
    journal::{FunctionRecord, Journal, Record},
    keep::{Keeper, SavedFds},
    lifecycle::Happening,
    poll::channel::ControlEnd,
    pool::{IOVA, Pool},
    port::Port,
    vhost_user::InFlightPlace,
    virtio_pci::{Function, transport_features},
};

/// Why a board cannot be gone on with: it begins anew then, as after a loss of power.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    /// What was left does not fit.
    #[error("{0}")]
    Legacy(String),
    /// The device does not answer, or a back end.
    #[error(transparent)]
    Failed(#[from] Error),
}

fn unfit(reason: impl ToString) -> Unfit {
    Unfit::Legacy(reason.to_string())
}

impl<P: Port> Board<P> {
    /// Goes on with what an earlier life left. Waits for back ends, each for at most its time-out.
    ///
    /// # Errors
    /// [`Unfit`]; IO-Bond is as it was then.
    pub(super) fn adopt(
        config: &BoardConfig,
        port: Arc<P>,
        end: ControlEnd,
        legacy: SavedFds,
        keeper: Box<dyn Keeper>,
    ) -> Result<Self, Unfit> {
        let began = Instant::now();
        config.check().map_err(Error::from)?;
        let registers = Registers::new(Arc::clone(&port));
        let identity = registers.identify()?;
        check_identity(config, &identity)?;
        let (journal, record) = Journal::open(legacy.journal).map_err(unfit)?;
        let (rooms, sizes) = deal_out(config);
        let layout = layout_of(&rooms, &sizes);
        if record.layout != layout {
            return Err(unfit("functions or rings are configured in another way than they were"));
        }
        let pool = Pool::adopt(legacy.pool, &sizes, config.hugepages).map_err(unfit)?;
        if !registers.is_programmed_for(IOVA, pool.length()) {
            return Err(unfit("the IO-Bond was reset"));
        }
        // Nobody asks for the back end of a function that was removed: it may have gone with it.
        let mut functions = connect(config, &identity, |index| is_configured(&record.functions[index]))?;
        let mut in_flight = legacy.in_flight;
        for served in functions.iter_mut().flatten() {
            let file = in_flight.iter().position(|(index, _)| *index == served.id.index());
            let file = file.map(|at| in_flight.swap_remove(at).1);
            recall(served, &record, transport_features(&identity.features), file)?;
        }
        let mut searches = Searches::new(&config.functions, end.wake()).map_err(Error::from)?;
        let absent = (0..functions.len()).filter(|index| functions[*index].is_none());
        absent.for_each(|index| searches.forget(index));
        let notes = Some(Notes::resumed(journal, keeper, layout, &functions));
        let parts = Parts { port, registers, identity, pool, functions, rooms, end, searches, notes };
        let mut board = Self::assemble(config, parts);
        board.go_on(&record);
        tracing::info!(board = board.name, took = ?began.elapsed(), "went on with the board as it was");
        Ok(board)
    }

    fn go_on(&mut self, record: &Record) {
        self.state.on(Happening::Prepared);
        if self.registers.has_power() {
            self.state.on(Happening::PowerOn);
        }
        self.remove_added(record);
        let name = self.name.clone();
        self.each(|served, tools| {
            served.adopt_queues(tools)?;
            let outstanding = served.go_on(tools)?;
            tracing::info!(board = name, function = %served.id, outstanding, "went on with a function");
            Ok(())
        });
        for served in self.functions.iter_mut().flatten() {
            if served.function.has_changed_since(&record.functions[served.id.index()])
                && let Some(vector) = served.function.change_vector()
            {
                self.registers.inject_config_change(served.id, vector);
            }
        }
        self.follow_drivers();
        self.note();
    }

    /// Removes functions of which only the last life knew what they are. Their queues end with them: their places are free.
    fn remove_added(&self, record: &Record) {
        let added = FunctionId::all().zip(&record.functions).filter(|(_, record)| record.added != 0);
        for (id, room) in added.filter_map(|(id, _)| Some((id, self.rooms.get(id.index())?))) {
            tracing::warn!(board = self.name, function = %id, "a function that was added is not configured, and is removed");
            self.registers.withdraw(id);
            let contexts = (room.first_context..).take(room.contexts.into());
            let running = contexts.filter(|context| self.registers.tenant(*context).is_some());
            running.for_each(|context| self.registers.stop_queue(context));
        }
    }
}

/// What was added by command is not in the configuration, not even where it has the number of one that is.
fn is_configured(record: &FunctionRecord) -> bool {
    record.present != 0 && record.added == 0
}

/// Takes a function up as the record has it.
fn recall(
    served: &mut Served,
    record: &Record,
    transport: u64,
    in_flight: Option<std::os::fd::OwnedFd>,
) -> Result<(), Unfit> {
    let (index, first) = (served.id.index(), usize::from(served.first_context));
    let written = &record.functions[index];
    served.recall(written);
    let device = served.as_changed(served.function.device().clone());
    let queues = record.queues.get(first..first + usize::from(device.queues())).unwrap_or_default();
    let of = |reason: &dyn std::fmt::Display| unfit(format!("{}: {reason}", served.id));
    let function = Function::recall(device, transport, written, queues).map_err(|error| of(&error))?;
    let place = InFlightPlace {
        offset: written.in_flight_offset,
        size: written.in_flight_size,
        queues: written.in_flight_queues,
        queue_size: written.in_flight_queue_size,
    };
    match in_flight {
        _ if place.size == 0 => {}
        None => return Err(of(&"what its back end had in flight is not known: that file was not kept")),
        Some(file) => served.back_end.recall_in_flight(file, place).map_err(unfit)?,
    }
    served.function = function;
    Ok(())
}
