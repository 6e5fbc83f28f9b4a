//! Answers as people read them.

use bm_hypervisor::api::{
    Board, BoardStatistics, FunctionDescription, Limits, MethodDescription, QueueStatistics,
};
use comfy_table::{CellAlignment, Table, presets};

/// A table under these headings; columns from `numbers` on are aligned to the right.
fn table(headings: &[&str], numbers: usize, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(headings);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(numbers) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    lines(&table)
}

/// Without the blanks at the beginning and end of each line.
fn lines(table: &Table) -> String {
    table
        .to_string()
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned() + "\n")
        .collect()
}

/// A table of names and their values, without headings.
fn pairs(rows: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.add_rows(rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]));
    lines(&table)
}

fn or_dash<T: ToString>(value: &Option<T>) -> String {
    value.as_ref().map_or_else(|| "-".into(), ToString::to_string)
}

fn number(value: impl ToString) -> String {
    value.to_string()
}

pub(super) fn board(board: &Board) -> String {
    pairs([
        ("board", board.name.clone()),
        ("state", board.state.to_string()),
        ("functions", format!("{}, {} with a driver", board.functions, board.drivers)),
        ("failure", or_dash(&board.failure)),
        ("served by", format!("bm-hypervisor {}", board.version)),
    ])
}

pub(super) fn functions(functions: &[FunctionDescription]) -> String {
    let headings = ["function", "device", "back end", "status", "link", "bytes", "queues", "running"];
    let rows = functions.iter().map(|function| {
        let back_end = format!("{}{}", function.back_end, if function.alive { "" } else { " (gone)" });
        vec![
            number(function.index),
            function.device.clone(),
            back_end,
            format!("{:#04x}", function.status),
            or_dash(&function.link_up.map(|up| if up { "up" } else { "down" })),
            or_dash(&function.capacity),
            number(function.queues),
            number(function.running_queues),
        ]
    });
    table(&headings, 5, rows)
}

pub(super) fn queues(queues: &[QueueStatistics]) -> String {
    let headings = [
        "function",
        "queue",
        "context",
        "state",
        "guest",
        "shadow",
        "head",
        "tail",
        "forwarded",
        "retired",
        "bytes up",
        "bytes down",
        "stalls",
        "doorbells",
        "interrupts",
    ];
    let rows = queues.iter().map(|queue| {
        let state = match &queue.error {
            None => format!("{:?}", queue.state).to_lowercase(),
            Some(error) => format!("error: {error}"),
        };
        let counted = &queue.counted;
        let (indices, counters) = (
            [queue.guest_size, queue.shadow_size, queue.head, queue.tail].map(number),
            [
                counted.forwarded,
                counted.retired,
                counted.bytes_up,
                counted.bytes_down,
                counted.stalls,
                counted.doorbells,
                counted.interrupts,
            ]
            .map(number),
        );
        let mut row = vec![number(queue.function), number(queue.index), number(queue.context), state];
        row.extend(indices.into_iter().chain(counters));
        row
    });
    table(&headings, 4, rows)
}

pub(super) fn limits(limits: &Limits) -> String {
    let device = &limits.device;
    let has = pairs([
        ("functions", number(device.functions)),
        ("queue contexts", number(device.queues)),
        ("DMA windows", number(device.windows)),
        ("longest ring", format!("{} descriptors", device.ring)),
        ("pool", format!("{} bytes of base memory", device.pool)),
    ]);
    let headings = [
        "function",
        "device",
        "queues",
        "guest ring",
        "shadow vring",
        "slots",
        "slot bytes",
        "operations/s",
        "bytes/s",
        "delays",
    ];
    let rows = limits.functions.iter().map(|function| {
        let rings = &function.rings;
        vec![
            number(function.function),
            function.device.clone(),
            number(function.queues),
            number(rings.guest),
            number(rings.shadow),
            number(rings.slots),
            number(rings.slot_size),
            or_dash(&function.limits.and_then(|limits| limits.operations_per_second)),
            or_dash(&function.limits.and_then(|limits| limits.bytes_per_second)),
            number(function.delays),
        ]
    });
    let free = limits.free.iter().map(|place| {
        let mut row = vec![number(place.index), "free".into(), number(place.queues)];
        row.resize(headings.len(), "-".into());
        row
    });
    format!("{has}\n{}", table(&headings, 2, rows.chain(free)))
}

pub(super) fn statistics(counted: &BoardStatistics) -> String {
    let (mailbox, poll, memory) = (&counted.mailbox, &counted.poll, &counted.memory);
    let board = pairs([
        ("board", format!("{}, {}", counted.board, counted.state)),
        (
            "mailbox",
            format!(
                "{} reads, {} writes, {} resets, {} expired, {} misdirected",
                mailbox.reads, mailbox.writes, mailbox.resets, mailbox.expired, mailbox.misdirected
            ),
        ),
        (
            "poll",
            format!(
                "{} requests, {} published, {} kicked, {} returned",
                poll.requests, poll.published, poll.kicked, poll.returned
            ),
        ),
        ("memory", format!("{} bytes: {} of rings, {} of slots", memory.total, memory.rings, memory.slots)),
    ]);
    let headings = [
        "function",
        "device",
        "status",
        "last queue error",
        "running",
        "refused",
        "needs reset",
        "queue errors",
    ];
    let rows = counted.functions.iter().map(|function| {
        let last = function.last_queue_error.as_ref();
        vec![
            number(function.function),
            function.device.clone(),
            format!("{:#04x}", function.status),
            or_dash(&last.map(|fault| format!("queue {}: {}", fault.queue, fault.error))),
            number(function.running_queues),
            number(function.refused_accesses),
            number(function.needs_reset),
            number(function.queue_errors),
        ]
    });
    format!("{board}\n{}", table(&headings, 4, rows))
}

pub(super) fn methods(methods: &[MethodDescription]) -> String {
    let rows = methods
        .iter()
        .map(|method| vec![method.name.clone(), method.params.clone(), method.description.clone()]);
    table(&["method", "params", "what it does"], usize::MAX, rows)
}
