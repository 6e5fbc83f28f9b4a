//! An instance, as `bmhive status` shows it.

use results::report::{columns, grouped, quantity};

use super::{BackEndStatus, BoardStatus, FunctionStatus, Power, Status};

/// `status` as tables: boards, their functions, back ends; and, below, whatever is wrong.
#[must_use]
pub fn render(status: &Status) -> String {
    let Status { instance, pid, scenario, uptime, accelerator, accelerator_reason, boards, back_ends } =
        status;
    let head = format!(
        "{instance}: {scenario}, process {pid}, up {}, {accelerator} ({accelerator_reason})\n",
        seconds(*uptime)
    );
    let functions: Vec<_> = boards
        .iter()
        .flat_map(|board| {
            board.functions.iter().enumerate().map(|(number, function)| function_row(board, number, function))
        })
        .collect();
    let function_header =
        ["function", "device", "driver", "queues", "irqs", "requests", "to base", "to board"];
    [
        head,
        columns(
            &["board", "state", "up", "drivers after", "process"],
            &["state"],
            boards.iter().map(board_row),
        ),
        columns(&function_header, &["device", "driver"], functions),
        columns(&["back end", "process", "state"], &["state"], back_ends.iter().map(back_end_row)),
        sockets(boards),
        troubles(boards),
    ]
    .into_iter()
    .filter(|part| !part.is_empty())
    .collect::<Vec<_>>()
    .join("\n")
}

fn board_row(board: &BoardStatus) -> Vec<String> {
    vec![
        board.name.clone(),
        board.power.word().into(),
        board.uptime.map_or_else(dash, seconds),
        board.drivers_up_after.map_or_else(dash, seconds),
        board.pid.map_or_else(dash, |pid| pid.to_string()),
    ]
}

fn function_row(board: &BoardStatus, number: usize, function: &FunctionStatus) -> Vec<String> {
    let bytes = |count: u64| quantity(count as f64, "bytes");
    vec![
        format!("{}.{number}", board.name),
        function.device.clone(),
        function.driver().into(),
        function.queues.to_string(),
        grouped(function.interrupts),
        grouped(function.requests),
        bytes(function.bytes_up),
        bytes(function.bytes_down),
    ]
}

fn back_end_row(back_end: &BackEndStatus) -> Vec<String> {
    vec![
        back_end.name.clone(),
        back_end.pid.map_or_else(dash, |pid| pid.to_string()),
        back_end.ended.as_ref().map_or_else(|| "running".into(), |how| format!("ended ({how})")),
    ]
}

/// Where a terminal finds each board.
fn sockets(boards: &[BoardStatus]) -> String {
    let rows = boards.iter().flat_map(|board| {
        let terminal = board.terminal.iter().map(|path| ("console", path));
        let serial = board.serial.iter().map(|path| ("serial", path));
        terminal
            .chain(serial)
            .map(|(what, path)| vec![board.name.clone(), what.into(), path.display().to_string()])
    });
    let rows: Vec<_> = rows.collect();
    if rows.is_empty() {
        String::new()
    } else {
        columns(&["board", "terminal", "socket"], &["terminal", "socket"], rows)
    }
}

fn troubles(boards: &[BoardStatus]) -> String {
    let mut lines = String::new();
    for board in boards {
        let mut line = |what: &str| lines.push_str(&format!("{}: {what}\n", board.name));
        if let Power::Crashed { reason } = &board.power {
            line(reason);
        }
        if let Some(reason) = &board.failure {
            line(&format!("the base has ended the board: {reason}"));
        }
        for (number, function) in board.functions.iter().enumerate() {
            if let Some(reason) = &function.failure {
                line(&format!("function {number} has stopped and asks its driver for a reset: {reason}"));
            }
            if let Some(error) = &function.queue_error {
                line(&format!("function {number}: IO-Bond stopped {error}"));
            }
        }
    }
    lines
}

fn seconds(time: f64) -> String {
    if time < 60.0 {
        format!("{time:.1} s")
    } else {
        format!("{:.0} min {:02.0} s", (time / 60.0).floor(), (time % 60.0).floor())
    }
}

fn dash() -> String {
    "-".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::Accelerator;

    /// How a process ended.
    const KILLED: &str = "signal: 9 (SIGKILL)";

    fn function(device: &str, status: u8) -> FunctionStatus {
        FunctionStatus {
            device: device.into(),
            socket: "/run/x.vfio".into(),
            back_end_socket: "/run/x.sock".into(),
            status,
            features: 1 << 32,
            queues: if status & 4 == 0 { 0 } else { 2 },
            interrupts: 12_345,
            requests: 9_876_543,
            bytes_up: 123 << 20,
            bytes_down: 4567,
            queue_error: (status & 64 != 0).then(|| "queue 1: bad_address".into()),
            failure: None,
        }
    }

    fn board(name: &str, power: Power, status: u8) -> BoardStatus {
        let on = power.is_on();
        BoardStatus {
            name: name.into(),
            power,
            failure: None,
            pid: on.then_some(4321),
            uptime: on.then_some(83.2),
            drivers_up_after: on.then_some(8.24),
            terminal: Some(format!("/run/{name}.term").into()),
            serial: on.then(|| format!("/run/{name}/serial.sock").into()),
            serial_log: None,
            functions: vec![function("console", status), function("blk", status)],
        }
    }

    fn back_end(name: &str, pid: Option<u32>) -> BackEndStatus {
        let ended = pid.is_none().then(|| KILLED.into());
        BackEndStatus { name: name.into(), pid, ended, sockets: vec![format!("/run/{name}.sock").into()] }
    }

    #[test]
    fn a_status_reads_like_this() {
        let crash = Power::Crashed { reason: "QEMU ended with status 1: no memory".into() };
        let mut boards = vec![board("board0", Power::Running, 15), board("board1", crash, 79)];
        let failure = Some(format!("its back end ended ({KILLED})"));
        boards[0].functions[1] = FunctionStatus { queue_error: None, failure, ..function("blk", 79) };
        let status = Status {
            instance: "default".into(),
            pid: 1234,
            scenario: "linux.toml (built in)".into(),
            uptime: 84.0,
            accelerator: Accelerator::Tcg,
            accelerator_reason: "as asked".into(),
            boards,
            back_ends: vec![back_end("board0.0", Some(77)), back_end("board0.1", None)],
        };
        insta::assert_snapshot!(render(&status));
    }
}
