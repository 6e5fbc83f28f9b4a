//! What was counted, in Prometheus's text exposition format, version 0.0.4.

use std::fmt::{Display, Write};

use virtio_bindings::virtio_config::VIRTIO_CONFIG_S_DRIVER_OK;

use crate::{BoardState, FunctionStatistics, Handle, QueueState, QueueStatistics, Statistics};

/// `Content-Type` of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of a board. Those of queues are missing when its control thread does not answer, or has ended.
pub(super) fn render(handle: &Handle) -> String {
    text(&handle.statistics(), &handle.queues().unwrap_or_default())
}

/// What a metric is of, besides the board.
type Labels<'a> = Vec<(&'static str, &'a dyn Display)>;

/// The text while it is being written.
struct Page<'a> {
    text: String,
    board: &'a str,
}

impl Page<'_> {
    /// Begins a family of samples.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &Labels<'_>, value: impl Display) {
        let _ = write!(self.text, "{name}{{board=\"{}\"", escape(self.board));
        for (label, of) in labels {
            let _ = write!(self.text, ",{label}=\"{}\"", escape(&of.to_string()));
        }
        let _ = writeln!(self.text, "}} {value}");
    }
}

/// Backslash, quote and new line are what a label's value escapes.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn text(statistics: &Statistics, queues: &[QueueStatistics]) -> String {
    let mut page = Page { text: String::new(), board: &statistics.board };
    of_board(&mut page, statistics);
    of_functions(&mut page, &statistics.functions);
    of_queues(&mut page, queues);
    page.text
}

fn of_board(page: &mut Page<'_>, statistics: &Statistics) {
    page.family("bm_info", "gauge", "The program that serves the board.");
    page.sample("bm_info", &vec![("version", &env!("CARGO_PKG_VERSION"))], 1);
    page.family("bm_board_state", "gauge", "1 for the state that the board is in.");
    for state in BoardState::ALL {
        page.sample("bm_board_state", &vec![("state", &state)], u8::from(state == statistics.state));
    }
    let mailbox = &statistics.mailbox;
    let name = "bm_mailbox_accesses_total";
    page.family(name, "counter", "Forwarded accesses of the board, taken up or expired.");
    for (kind, count) in [
        ("read", mailbox.reads),
        ("write", mailbox.writes),
        ("reset", mailbox.resets),
        ("expired", mailbox.expired),
        ("misdirected", mailbox.misdirected),
    ] {
        page.sample(name, &vec![("kind", &kind)], count);
    }
    let poll = &statistics.poll;
    let name = "bm_poll_events_total";
    page.family(name, "counter", "What poll passes found and did.");
    for (event, count) in [
        ("request", poll.requests),
        ("published", poll.published),
        ("kicked", poll.kicked),
        ("returned", poll.returned),
    ] {
        page.sample(name, &vec![("event", &event)], count);
    }
    let memory = &statistics.memory;
    page.family("bm_pool_bytes", "gauge", "Base memory of the board.");
    for (part, bytes) in
        [("status_page", memory.status_page), ("rings", memory.rings), ("slots", memory.slots)]
    {
        page.sample("bm_pool_bytes", &vec![("part", &part)], bytes);
    }
}

/// Name, type, help, and value of one metric of `T`.
type Metric<T> = (&'static str, &'static str, &'static str, fn(&T) -> u64);

const OF_FUNCTIONS: [Metric<FunctionStatistics>; 5] = [
    ("bm_function_driver_ok", "gauge", "Whether a driver has set DRIVER_OK.", |function| {
        u64::from(u32::from(function.status) & VIRTIO_CONFIG_S_DRIVER_OK != 0)
    }),
    ("bm_function_running_queues", "gauge", "Queues that run.", |function| function.running_queues.into()),
    (
        "bm_function_refused_accesses_total",
        "counter",
        "Accesses that no field decodes, or out of order.",
        |function| function.refused_accesses,
    ),
    (
        "bm_function_needs_reset_total",
        "counter",
        "Times that the driver was asked for a reset.",
        |function| function.needs_reset,
    ),
    ("bm_function_queue_errors_total", "counter", "Queues that IO-Bond stopped.", |function| {
        function.queue_errors
    }),
];

fn of_functions(page: &mut Page<'_>, functions: &[FunctionStatistics]) {
    for (name, kind, help, value) in OF_FUNCTIONS {
        page.family(name, kind, help);
        for function in functions {
            page.sample(
                name,
                &vec![("function", &function.index), ("device", &function.device)],
                value(function),
            );
        }
    }
}

const OF_QUEUES: [Metric<QueueStatistics>; 9] = [
    ("bm_queue_running", "gauge", "Whether IO-Bond serves the queue.", |queue| {
        (queue.state == QueueState::Running).into()
    }),
    ("bm_queue_error", "gauge", "Whether IO-Bond stopped the queue.", |queue| {
        (queue.state == QueueState::Error).into()
    }),
    ("bm_queue_forwarded_total", "counter", "Chains published into the shadow vring.", |queue| {
        queue.counted.forwarded
    }),
    ("bm_queue_retired_total", "counter", "Chains returned to the guest.", |queue| queue.counted.retired),
    ("bm_queue_up_bytes_total", "counter", "Payload copied from board to base.", |queue| {
        queue.counted.bytes_up
    }),
    ("bm_queue_down_bytes_total", "counter", "Payload copied from base to board.", |queue| {
        queue.counted.bytes_down
    }),
    ("bm_queue_stalls_total", "counter", "Times that slots or shadow descriptors ran out.", |queue| {
        queue.counted.stalls
    }),
    ("bm_queue_doorbells_total", "counter", "Doorbell writes of the board.", |queue| queue.counted.doorbells),
    ("bm_queue_interrupts_total", "counter", "Interrupts for used buffers.", |queue| {
        queue.counted.interrupts
    }),
];

fn of_queues(page: &mut Page<'_>, queues: &[QueueStatistics]) {
    for (name, kind, help, value) in OF_QUEUES {
        page.family(name, kind, help);
        for queue in queues {
            page.sample(name, &vec![("function", &queue.function), ("queue", &queue.index)], value(queue));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QueueCounters;

    #[test]
    fn every_family_is_described_once_and_has_well_formed_samples() {
        let function =
            FunctionStatistics { index: 3, device: "net", status: 0xF, needs_reset: 2, ..Default::default() };
        let statistics = Statistics {
            board: "b\"0\\".into(),
            state: BoardState::Running,
            functions: vec![function],
            ..Default::default()
        };
        let queue = QueueStatistics {
            context: 7,
            function: 3,
            index: 1,
            state: QueueState::Running,
            error: None,
            guest_size: 256,
            shadow_size: 1024,
            head: 1,
            tail: 1,
            counted: QueueCounters { bytes_up: 1 << 40, ..Default::default() },
        };
        let text = text(&statistics, &[queue]);
        for line in [
            r#"bm_board_state{board="b\"0\\",state="running"} 1"#,
            r#"bm_board_state{board="b\"0\\",state="off"} 0"#,
            r#"bm_function_needs_reset_total{board="b\"0\\",function="3",device="net"} 2"#,
            r#"bm_function_driver_ok{board="b\"0\\",function="3",device="net"} 1"#,
            r#"bm_queue_up_bytes_total{board="b\"0\\",function="3",queue="1"} 1099511627776"#,
        ] {
            assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
        }
        let mut family = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split(' ').next().unwrap();
                assert_eq!(text.matches(&format!("# HELP {family} ")).count(), 1);
                assert_eq!(text.matches(&format!("# TYPE {family} ")).count(), 1);
            } else if !line.starts_with('#') {
                assert!(line.starts_with(&format!("{family}{{")), "{line} is not of {family}");
                assert!(line.rsplit(' ').next().unwrap().parse::<u64>().is_ok(), "{line}");
            }
        }
    }
}
