//! A result with something in every part, for tests. Deterministic, and no measurement.

use crate::{
    BoardRecord, Check, Curve, Figure, Latency, Machine, RunResult, ScenarioRecord, StageShare, Stages,
    Table,
    measure::{LatencyRecorder, STAGE_NAMES},
};

const TEXT: &str = include_str!("../../../scenarios/demo.toml");

pub(crate) fn machine() -> Machine {
    Machine {
        cpu: "Example CPU @ 2.5 GHz".to_owned(),
        cores: 2,
        kernel: "Linux 6.1.0 x86_64".to_owned(),
        memory_bytes: 24 << 30,
        governor: Some("performance".to_owned()),
    }
}

pub(crate) fn demonstration() -> RunResult {
    let scenario = ScenarioRecord::new("two boards, one switch", "demo.toml", TEXT);
    let mut result = RunResult::new("Two boards, one switch", Some(scenario), machine());
    result.started_unix_seconds = 1_700_000_000;
    result.boards = ["board0", "board1"].map(board).to_vec();
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned();
    result.checks = vec![
        Check::equal("SHA-256 of the file, read back from board0's disk", &hash, &hash),
        Check::equal("SHA-256 of the file, received by board1", &hash, &format!("0{}", &hash[1..])),
    ];
    result.figures = vec![
        Figure::new("disk.write", 1.234e9, "bytes/s", Some(0.91)),
        Figure::new("blk.randread.4k.qd1", 84_200.0, "requests/s", Some(0.97))
            .beside("same driver, direct", 104_000.0),
        Figure::new("blk.randread.4k.qd32", 312_000.0, "requests/s", Some(1.0))
            .beside("same driver, direct", 355_000.0),
        Figure::new("net.pingpong.64", 51_300.0, "round trips/s", Some(0.99))
            .beside("same driver, direct", 78_000.0),
        Figure::new("memory.per_board", 9.5 * 1024.0 * 1024.0, "bytes", None)
            .beside("limit", 16.0 * 1024.0 * 1024.0),
    ];
    result.latencies = vec![
        latency("blk.randread.4k.qd1", 11_000, 40),
        latency("blk.randread.4k.qd32", 96_000, 25),
        latency("net.pingpong.64", 19_000, 30),
    ];
    result.stages = vec![stages("blk.randread.4k.qd1", [310, 1_420, 640, 6_100, 480, 1_900, 270])];
    result.counters.entry("board0/blk0.q0".to_owned()).or_default().extend([
        ("forwarded".to_owned(), 48_211),
        ("interrupts".to_owned(), 40_007),
        ("stalls".to_owned(), 0),
    ]);
    result.curves = vec![load(), boards()];
    result.tables = vec![Table {
        name: "links.use".to_owned(),
        title: "How busy the links were".to_owned(),
        columns: ["link", "bytes", "busy"].map(str::to_owned).to_vec(),
        rows: [["board0 up", "12 345 678", "41 %"], ["base", "24 691 356", "82 %"]]
            .map(|row| row.map(str::to_owned).to_vec())
            .to_vec(),
    }];
    result.notes = vec!["The file is <the command's own> executable & nothing else.".to_owned()];
    result
}

/// Latency that climbs as a queue fills.
pub(crate) fn load() -> Curve {
    let loads = [50e3, 100e3, 150e3, 200e3, 250e3, 290e3];
    let climb = |base: f64, load: f64| (load, (base / (1.0 - load / 300e3)).round());
    let (x, y) = (("offered load", "requests/s"), ("latency", "ns"));
    let mut curve = Curve::new("blk.randread.4k.load", "Latency against load", x, y)
        .with("p50", loads.map(|load| climb(9_000.0, load)))
        .with("p99", loads.map(|load| climb(21_000.0, load)));
    curve.log_y = true;
    curve
}

/// Throughput that grows with the boards until one thing is full.
pub(crate) fn boards() -> Curve {
    let counts = [1.0, 2.0, 4.0, 8.0, 16.0];
    let mut curve = Curve::new(
        "net.stream.boards",
        "Throughput against boards",
        ("boards", ""),
        ("throughput", "bytes/s"),
    )
    .with("one core", counts.map(|n: f64| (n, (n * 1.2e9).min(3.1e9))))
    .with("two cores", counts.map(|n: f64| (n, (n * 1.2e9).min(6.0e9))));
    curve.log_x = true;
    curve
}

fn board(name: &str) -> BoardRecord {
    let function = |slot: u8, what: &str| {
        format!(
            "00:{slot:02x}.0 {what} (rev 01)\n\tMemory at e0000000 (64-bit, non-prefetchable) [size=32K]\n\tCapabilities: \
             [40] MSI-X: Enable+ Count=64 Masked-\n\tCapabilities: [8c] Vendor Specific Information: VirtIO: CommonCfg"
        )
    };
    let functions = vec![
        function(1, "SCSI storage controller: Red Hat, Inc. Virtio 1.0 block device"),
        function(2, "Ethernet controller: Red Hat, Inc. Virtio 1.0 network device"),
    ];
    BoardRecord { name: name.to_owned(), functions }
}

/// A body around `typical` nanoseconds and a tail of up to `tail` times as long.
fn latency(name: &str, typical: u64, tail: u64) -> Latency {
    let mut recorder = LatencyRecorder::new();
    for n in 0u64..20_000 {
        // A fixed permutation of 0..20000 spreads the requests without a random number.
        let spread = n * 7_919 % 20_000;
        let body = typical * 3 / 4 + typical * spread * spread / 600_000_000;
        let slow = if spread > 19_900 { typical * tail * (spread - 19_900) / 100 } else { 0 };
        recorder.record_ns(body + slow);
    }
    recorder.latency(name)
}

fn stages(name: &str, means: [u32; 7]) -> Stages {
    let row = |(name, mean): (&&str, u32)| StageShare {
        name: (*name).to_owned(),
        count: 20_000,
        mean: f64::from(mean),
        p50: u64::from(mean) * 9 / 10,
        p99: u64::from(mean) * 4,
    };
    Stages { name: name.to_owned(), stages: STAGE_NAMES.iter().zip(means).map(row).collect() }
}
