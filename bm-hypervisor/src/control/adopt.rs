//! Resumes a board that a previous bm-hypervisor process left running.
//!
//! IO-Bond continued meanwhile: it published what drivers made available and returned what TAIL allowed. The
//! record says what the drivers had set up; where IO-Bond does not have it yet, because the previous process
//! ended between note and act ([`Journaled`]), it is carried out now. The request that was in the mailbox
//! then is there still, and is answered.

use std::{sync::Arc, time::Instant};

use iobond_spec::address::FunctionId;

use super::{
    board::Board,
    contexts::layout_of,
    notes::{Journaled, Notes},
    offer::{check_identity, connect},
    registers::Registers,
    served::Served,
};
use crate::{
    Error,
    config::BoardConfig,
    journal::{FunctionRecord, Journal, Record},
    keep::{Keeper, SavedFds},
    lifecycle::BoardEvent,
    poll::channel::ControlEnd,
    pool::{IOVA, Pool},
    port::Port,
    register_writes,
    vhost_user::InFlightPlace,
    virtio_pci::{Function, transport_features},
};

/// Why a board cannot be resumed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResumeError {
    /// What was saved does not match the board: it starts anew, as after a loss of power.
    #[error("{0}")]
    Mismatch(String),
    /// The device or a back end does not answer: the board can be resumed later.
    #[error(transparent)]
    Failed(#[from] Error),
}

fn mismatch(reason: impl ToString) -> ResumeError {
    ResumeError::Mismatch(reason.to_string())
}

impl<P: Port> Board<P> {
    /// Resumes from what a previous process left. Waits for back ends, each for at most its time-out.
    ///
    /// # Errors
    /// [`ResumeError`]; IO-Bond is as it was then.
    pub(super) fn adopt(
        config: &BoardConfig,
        port: Arc<P>,
        end: ControlEnd,
        saved: SavedFds,
        keeper: Box<dyn Keeper>,
    ) -> Result<Self, ResumeError> {
        let began = Instant::now();
        config.check().map_err(Error::from)?;
        let registers = Registers::new(Arc::clone(&port));
        let identity = registers.identify()?;
        check_identity(config, &identity)?;
        let (journal, record) = Journal::open(saved.journal).map_err(mismatch)?;
        let layout = layout_of(config);
        if record.layout != layout {
            return Err(mismatch("functions or rings are configured in another way than they were"));
        }
        let pool = Pool::adopt(saved.pool, &config.queue_sizes(), config.hugepages).map_err(mismatch)?;
        if !registers.is_programmed_for(IOVA, pool.length()) {
            return Err(mismatch("the IO-Bond was reset"));
        }
        // The back end of a function that was removed is not asked for: it may have been stopped, too.
        let mut functions = connect(config, &identity, |index| is_configured(&record.functions[index]))?;
        let mut in_flight = saved.in_flight;
        for served in functions.iter_mut().flatten() {
            let file = in_flight.iter().position(|(index, _)| *index == served.id.index());
            let file = file.map(|at| in_flight.swap_remove(at).1);
            recall(served, &record, transport_features(&identity.features), file)?;
        }
        let mut board = Self::new(config, port, end, identity, pool)?;
        let absent = (0..functions.len()).filter(|index| functions[*index].is_none());
        absent.for_each(|index| board.searches.forget(index));
        board.notes = Some(Notes::resumed(journal, keeper, layout, &functions));
        board.place(functions);
        board.committed(|board| board.resume(&record));
        tracing::info!(board = board.name, took = ?began.elapsed(), "resumed the board");
        Ok(board)
    }

    /// Compares what the record says with what IO-Bond has, and carries out what is missing.
    fn resume(&mut self, record: &Record) {
        self.state.on(BoardEvent::Prepared);
        if self.registers.has_power() {
            self.state.on(BoardEvent::PowerOn);
        }
        self.remove_added(record);
        let name = self.name.clone();
        self.each(|served, resources| {
            served.adopt_queues(resources)?;
            let outstanding = served.resume(resources)?;
            tracing::info!(board = name, function = %served.id, outstanding, "resumed a function");
            Ok(())
        });
        for served in self.functions.iter_mut().flatten() {
            if served.function.has_changed_since(&record.functions[served.id.index()])
                && let Some(vector) = served.function.change_vector()
            {
                self.registers.write(register_writes::inject_config_change(served.id, vector));
            }
        }
        self.follow_drivers();
    }

    /// Removes functions of which only the previous process knew what they are, and stops their queues.
    fn remove_added(&self, record: &Record) {
        let added = FunctionId::all().zip(&record.functions).filter(|(_, record)| record.added != 0);
        for (id, contexts) in added.filter_map(|(id, _)| Some((id, *self.contexts.get(id.index())?))) {
            tracing::warn!(board = self.name, function = %id, "a function that was added is not configured, and is removed");
            self.registers.write(register_writes::withdraw(id));
            let running = contexts.numbers().filter(|context| self.registers.tenant(*context).is_some());
            running.for_each(|context| self.registers.stop_queue(context));
        }
    }
}

/// Whether a function is the one that the configuration has under its number: one that was added by a command
/// is not.
fn is_configured(record: &FunctionRecord) -> bool {
    record.present != 0 && record.added == 0
}

/// Restores a function as the record has it.
fn recall(
    served: &mut Served,
    record: &Record,
    transport: u64,
    in_flight: Option<std::os::fd::OwnedFd>,
) -> Result<(), ResumeError> {
    let (index, first) = (served.id.index(), usize::from(served.first_context));
    let written = &record.functions[index];
    served.recall(written);
    let device = served.as_changed(served.function.device().clone());
    let queues = record.queues.get(first..first + usize::from(device.queues())).unwrap_or_default();
    let of = |reason: &dyn std::fmt::Display| mismatch(format!("{}: {reason}", served.id));
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
        Some(file) => served.back_end.recall_in_flight(file, place).map_err(mismatch)?,
    }
    served.function = function;
    Ok(())
}
