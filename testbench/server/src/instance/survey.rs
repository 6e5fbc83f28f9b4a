//! An instance's [`Status`], put together from its boards, their IO-Bonds and hypervisors, and the back ends.

use std::path::Path;

use iobond_spec::{offsets::queues, register_access::RegisterIo};
use scenario::Board;

use super::{
    BackEndStatus, BoardStatus, FunctionStatus, Instance, Options, Status, board::PoweredBoard,
    health::board_failure,
};
use crate::ServedBoard;

impl Instance {
    /// How everything is, as of the last [`Instance::step`].
    #[must_use]
    pub fn status(&self) -> Status {
        let Options { name, scenario, accelerator, .. } = &self.options;
        let powered = scenario.boards.iter().zip(&self.boards).zip(self.served.boards());
        let mut boards: Vec<_> =
            powered.map(|((board, power), base)| board_status(board, power, base)).collect();
        for (index, board) in boards.iter_mut().enumerate() {
            for (number, function) in board.functions.iter_mut().enumerate() {
                function.failure = self.watch.function_failure(&self.served, index, number);
            }
        }
        Status {
            instance: name.clone(),
            pid: std::process::id(),
            scenario: scenario.file.clone(),
            uptime: self.started.elapsed().as_secs_f64(),
            accelerator: accelerator.accelerator,
            accelerator_reason: accelerator.reason.clone(),
            boards,
            back_ends: self.back_ends(),
        }
    }

    fn back_ends(&self) -> Vec<BackEndStatus> {
        let watched = self.served.back_ends().zip(self.watch.back_ends());
        watched
            .map(|((_, process), back_end)| {
                let sockets = back_end.functions.iter().filter_map(|&(board, function)| {
                    self.served.boards().get(board)?.back_end_sockets().get(function).cloned()
                });
                BackEndStatus {
                    name: process.name().to_owned(),
                    pid: back_end.ended.is_none().then(|| process.pid()),
                    ended: back_end.ended.clone(),
                    sockets: sockets.collect(),
                }
            })
            .collect()
    }
}

fn board_status(board: &Board, power: &PoweredBoard, base: &ServedBoard) -> BoardStatus {
    let machine = power.machine();
    let in_directory = |name| board.guest.as_ref().map(|_| power.directory.join(name));
    BoardStatus {
        name: board.name.clone(),
        power: power.power(),
        failure: board_failure(base),
        pid: machine.map(crate::guest::Qemu::pid),
        uptime: machine.map(|machine| machine.started().elapsed().as_secs_f64()),
        drivers_up_after: power.drivers_up_after().map(|after| after.as_secs_f64()),
        terminal: base.terminal().map(Path::to_owned),
        serial: machine.and_then(|_| in_directory(crate::guest::SERIAL_SOCKET)),
        serial_log: in_directory(crate::guest::SERIAL_LOG),
        functions: functions(board, base),
    }
}

/// The functions of a board. Queue contexts are handed out in the functions' order.
fn functions(board: &Board, base: &ServedBoard) -> Vec<FunctionStatus> {
    let mut first_queue = 0;
    let sockets = base.function_sockets().iter().zip(base.back_end_sockets());
    let counted = base.statistics().functions.into_iter().zip(&board.functions).zip(sockets);
    counted
        .enumerate()
        .map(|(number, ((counted, function), (socket, back_end_socket)))| {
            let own = first_queue..first_queue + u32::from(function.queues());
            first_queue = own.end;
            let sum = |register| {
                let read = |queue| base.bond().read32(queues::BASE + queue * queues::STRIDE + register);
                own.clone().map(read).map(u64::from).sum()
            };
            FunctionStatus {
                device: counted.device.to_owned(),
                socket: socket.clone(),
                back_end_socket: back_end_socket.clone(),
                status: counted.status,
                features: counted.negotiated,
                queues: counted.running_queues,
                interrupts: base.interrupts(number).into(),
                requests: sum(queues::RETIRED),
                bytes_up: sum(queues::BYTES_UP),
                bytes_down: sum(queues::BYTES_DOWN),
                queue_error: counted.last_queue_error.map(|(queue, error)| format!("queue {queue}: {error}")),
                failure: None,
            }
        })
        .collect()
}
