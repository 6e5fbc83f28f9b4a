//! How busy the links were.

use iobond_model::{
    cycle::{Bond, Time, Traffic},
    fabric::Fabric,
};

use super::board_tasks::BoardTasks;
use crate::{Outcome, Recorder, Usage};

/// What came out, with what only a simulation knows: how busy was what from `begin` to `now`.
pub(super) fn outcome<M: Fabric>(
    recorder: &Recorder,
    bonds: &[Bond<'_, M>],
    all_tasks: &[BoardTasks<'_>],
    (begin, now): (Time, Time),
    events: u64,
) -> Outcome {
    let all = now.since(begin).as_secs();
    let usage = bonds.iter().enumerate().flat_map(|(board, bond)| {
        let [to_board, to_base] = bond.sides();
        let wires = [
            ("to the board", to_board.out.traffic()),
            ("from the board", to_board.back.traffic()),
            ("to the base", to_base.out.traffic()),
            ("from the base", to_base.back.traffic()),
            ("DMA engine", Traffic { busy: bond.dma().busy(), ..Traffic::default() }),
        ];
        wires.map(|(what, Traffic { bytes, busy, .. })| Usage {
            name: format!("board{board}: {what}"),
            share: busy.as_secs() / all,
            bytes,
        })
    });
    Outcome {
        usage: usage.collect(),
        doorbells: all_tasks.iter().map(|tasks| tasks.doorbells.get()).sum(),
        interrupts: all_tasks.iter().map(|tasks| tasks.interrupted.get()).sum(),
        events,
        ..recorder.taken()
    }
}
