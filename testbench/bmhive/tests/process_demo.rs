//! `bmhive run` and `bmhive demo` as a user starts them, on small scenarios: what they leave, and what they
//! say when they cannot.
//!
//! ```text
//!   scenario.toml -- bmhive run --out out --+-- bmhive backend blk, net
//!   file ---------------------------------/ \-> out/{result.json, report.html, port0.pcap}
//!                                               nothing else: no process, no temporary file
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    path::Path,
    process::Command,
};

use pcap_file::pcap::PcapReader;
use results::RunResult;
use rig::{
    bmhive::{Ended, program},
    test_folder::TestFolder,
    toml::{blk, board, net, server, workload},
};
use sha2::{Digest, Sha256};
use smoltcp::wire::{EthernetFrame, EthernetProtocol, IpProtocol, Ipv4Packet, TcpPacket};

/// Bytes of the file that is moved: no multiple of a sector or of a TCP segment.
const FILE: usize = 150_001;
/// Reads at each depth, and round trips.
const READS: u32 = 300;
/// Where the receiving board listens.
const PORT: u16 = 5001;

fn two_boards(execution: &str) -> String {
    let functions = |number| [blk("size_mib = 2"), net(number)];
    let boards = board("left", &functions(0)) + &board("right", &functions(1));
    server(execution) + &boards + &workload("file", READS)
}

/// A run that succeeded: its result. It has left nothing but that.
fn succeeded(folder: &TestFolder, ended: &Ended) -> RunResult {
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:#?}");
    nothing_is_left(folder);
    RunResult::read(&folder.out()).unwrap()
}

fn nothing_is_left(folder: &TestFolder) {
    folder.await_quiet();
    assert_eq!(folder.leftovers(), Vec::<std::path::PathBuf>::new());
}

fn names<'a>(items: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
    items.into_iter().map(String::as_str).collect()
}

fn check_names(result: &RunResult) -> Vec<&str> {
    assert!(result.checks.iter().all(|check| check.passed), "{:#?}", result.checks);
    names(result.checks.iter().map(|check| &check.name))
}

/// A workload that measures nothing.
const MOVES_THE_FILE: &str = "[workload]\nfile = \"file\"\n";
const DISK_CHECKS: [&str; 2] = ["SHA-256, read back from the disk", "SHA-256, image on the host"];
const TCP_CHECKS: [&str; 2] = ["bytes that arrived by TCP", "SHA-256, received by TCP"];

/// Everything that a run of [`two_boards`] finds, whatever the execution.
fn everything_was_done(result: &RunResult, file: &[u8]) {
    assert_eq!(check_names(result), [DISK_CHECKS, TCP_CHECKS].concat());
    let digest: String = Sha256::digest(file).iter().map(|byte| format!("{byte:02x}")).collect();
    for check in result.checks.iter().filter(|check| check.name.starts_with("SHA-256")) {
        assert_eq!(check.actual, digest, "{}", check.name);
    }
    let measured = ["blk.randread.4k.qd1", "blk.randread.4k.qd4", "net.pingpong.64"];
    let figures = ["file.write", "file.read", "file.tcp"].iter().chain(&measured);
    assert!(names(result.figures.iter().map(|figure| &figure.name)).iter().eq(figures));
    assert!(result.figures.iter().all(|figure| figure.value > 0.0), "{:#?}", result.figures);

    assert_eq!(names(result.latencies.iter().map(|latency| &latency.name)), measured);
    for latency in &result.latencies {
        assert_eq!(latency.count, u64::from(READS), "{}", latency.name);
        let rising = [1, latency.p50, latency.p90, latency.p99, latency.p999, latency.max];
        assert!(rising.is_sorted(), "{}: {rising:?}", latency.name);
        assert_eq!(latency.buckets.iter().map(|bucket| bucket.1).sum::<u64>(), latency.count);
    }
    let [stages] = &result.stages[..] else { panic!("{:#?}", result.stages) };
    assert_eq!(stages.name, "blk.randread.4k.qd1");
    assert!(stages.stages.len() > 3 && stages.stages.iter().all(|stage| stage.count > 0), "{stages:#?}");
    // The stages are parts of the request: together they take no longer than it.
    let sum: f64 = stages.stages.iter().map(|stage| stage.mean).sum();
    assert!(sum <= 1.1 * result.latencies[0].mean, "{sum} of {}", result.latencies[0].mean);
}

/// The queues of both boards were used, by chains that all came back, and nothing went wrong.
fn counters_are_sound(counters: &BTreeMap<String, BTreeMap<String, u64>>) {
    let used: Vec<&str> = names(counters.keys());
    // Contexts of each board: its disk's queue, then receive and transmit queue. The second board's disk lay
    // idle.
    assert_eq!(used, ["left", "left/0", "left/1", "left/2", "right", "right/1", "right/2"]);
    // The file in requests of 64 KiB, there and back, a flush, and the reads at both depths: all forwarded,
    // all returned.
    let requests = 2 * (FILE as u64).div_ceil(64 << 10) + 1 + 2 * u64::from(READS);
    assert_eq!([counters["left/0"]["forwarded"], counters["left/0"]["retired"]], [requests; 2]);
    assert!(counters["left/0"]["doorbells"] > u64::from(READS), "each read alone rings its own");
    assert!(counters["left/2"]["retired"] >= u64::from(READS), "frames of the ping-pong that left sent");
    assert!(
        counters["right/1"]["interrupts"] >= u64::from(READS),
        "frames of the ping-pong that right received"
    );
    for (name, counters) in counters {
        for (counter, count) in counters {
            let bad = counter.starts_with("expired")
                || ["dma_faults", "unsupported_requests"].contains(&counter.as_str());
            assert!(!bad || *count == 0, "{name}: {count} {counter}");
        }
    }
}

#[test]
fn a_run_on_one_thread_leaves_a_result_a_report_captures_and_nothing_else() {
    let folder = TestFolder::new();
    let file = folder.random_file("file", FILE, 1);
    let result = succeeded(&folder, &folder.run(&two_boards("inline")));
    everything_was_done(&result, &file);
    counters_are_sound(&result.counters);
    let left: BTreeSet<_> =
        folder.out().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().eq(["plots", "port0.pcap", "port1.pcap", "report.html", "result.json"]), "{left:?}");
    the_report_stands_by_itself(&fs::read_to_string(folder.out().join("report.html")).unwrap(), &result);
    for port in ["port0.pcap", "port1.pcap"] {
        assert!(tcp_stream(&folder.out().join(port)) == file, "{port} does not hold the file");
    }
    let boards: Vec<_> =
        result.boards.iter().map(|board| (board.name.as_str(), board.functions.len())).collect();
    assert_eq!(boards, [("left", 2), ("right", 2)]);
    let [disk, card] = &result.boards[0].functions[..] else { unreachable!() };
    assert!(disk.starts_with("00:01.0 SCSI storage controller: Red Hat, Inc. Virtio"), "{disk}");
    assert!(card.starts_with("00:02.0 Ethernet controller: Red Hat, Inc. Virtio"), "{card}");
}

#[test]
fn a_run_on_threads_finds_the_same() {
    let folder = TestFolder::new();
    let file = folder.random_file("file", FILE, 2);
    let result = succeeded(&folder, &folder.run(&two_boards("threads")));
    everything_was_done(&result, &file);
}

/// One file, no script, and no other resource: no address but the name of the SVG namespace.
fn the_report_stands_by_itself(page: &str, result: &RunResult) {
    assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
    assert_eq!(page.matches("<svg").count(), 2, "latencies, and the stages of a read");
    let rest = page.replace("http://www.w3.org/2000/svg", "").to_lowercase();
    for foreign in ["<script", "<link", "<img", "<iframe", "src=", "@import", "url(", "http://", "https://"] {
        assert!(!rest.contains(foreign), "{foreign:?} in the report");
    }
    for check in &result.checks {
        assert!(page.contains(&check.actual) && page.contains(&check.name), "{check:?}");
    }
}

/// What was sent to [`PORT`] by TCP, put together from a capture: every byte where its sequence number says.
fn tcp_stream(capture: &Path) -> Vec<u8> {
    let mut reader = PcapReader::new(fs::File::open(capture).unwrap()).unwrap();
    let (mut origin, mut stream, mut covered) = (None, Vec::new(), 0);
    while let Some(packet) = reader.next_packet() {
        let packet = packet.unwrap();
        assert_eq!(packet.data.len(), packet.orig_len as usize, "a frame was cut");
        let frame = EthernetFrame::new_checked(&packet.data[..]).unwrap();
        if frame.ethertype() != EthernetProtocol::Ipv4 {
            continue;
        }
        let ip = Ipv4Packet::new_checked(frame.payload()).unwrap();
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        assert!(ip.verify_checksum() && ip.next_header() == IpProtocol::Tcp);
        if tcp.dst_port() != PORT {
            continue;
        }
        let first = *origin.get_or_insert(tcp.seq_number() + 1);
        let payload = tcp.payload();
        if !payload.is_empty() {
            let at = usize::try_from((tcp.seq_number() - first) as isize).unwrap();
            stream.resize(stream.len().max(at + payload.len()), 0);
            stream[at..at + payload.len()].copy_from_slice(payload);
            covered += payload.len();
        }
    }
    assert!(covered >= stream.len(), "{covered} bytes of a stream of {}", stream.len());
    stream
}

#[test]
fn quiet_says_nothing_but_the_result_and_otherwise_the_steps_are_on_standard_error() {
    let folder = TestFolder::new();
    folder.random_file("file", FILE, 3);
    let scenario = folder.write("scenario.toml", two_boards("inline"));
    let out = folder.out();
    let arguments = [OsStr::new("run"), scenario.as_os_str(), OsStr::new("--out"), out.as_os_str()];
    let quiet = folder.bmhive(["--quiet".as_ref()].into_iter().chain(arguments)).finish();
    let loud = folder.bmhive(arguments).finish();
    assert_eq!((quiet.code, quiet.stderr.as_str(), loud.code), (Some(0), "", Some(0)), "{quiet:#?}");
    assert!(loud.stderr.contains("file from board to board, by TCP"), "no step in\n{}", loud.stderr);
    let [record, page] = ["result.json", "report.html"].map(|name| out.join(name).display().to_string());
    for ended in [quiet, loud] {
        for said in
            ["00:02.0 Ethernet controller", "SHA-256, received by TCP", "blk.randread.4k.qd1", &record, &page]
        {
            assert!(ended.stdout.contains(said), "{said:?} is missing in\n{}", ended.stdout);
        }
    }
}

#[test]
fn boards_without_disks_send_the_file_and_say_what_was_left_out() {
    let folder = TestFolder::new();
    let file = folder.random_file("file", FILE, 4);
    let boards = board("left", &[net(0)]) + &board("right", &[net(1)]);
    let result = succeeded(&folder, &folder.run(&(server("inline") + &boards + MOVES_THE_FILE)));
    assert_eq!(check_names(&result), TCP_CHECKS);
    assert_eq!(names(result.figures.iter().map(|figure| &figure.name)), ["file.tcp"]);
    assert_eq!(result.notes.len(), 1, "{:?}", result.notes);
    assert!(tcp_stream(&folder.out().join("port0.pcap")) == file);
}

#[test]
fn a_board_without_a_network_writes_the_file_and_says_what_was_left_out() {
    let folder = TestFolder::new();
    folder.random_file("file", FILE, 5);
    let scenario = server("inline") + &board("only", &[blk("size_mib = 1")]) + MOVES_THE_FILE;
    let result = succeeded(&folder, &folder.run(&scenario));
    assert_eq!(check_names(&result), DISK_CHECKS);
    assert_eq!(result.notes.len(), 1, "{:?}", result.notes);
    assert!(!folder.out().join("port0.pcap").exists());
}

#[test]
fn three_boards_of_which_the_third_has_the_disk() {
    let folder = TestFolder::new();
    let file = folder.random_file("file", FILE, 6);
    let boards = [board("a", &[net(0)]), board("b", &[net(1)]), board("c", &[blk("size_mib = 1"), net(2)])];
    let result =
        succeeded(&folder, &folder.run(&(server("inline") + &boards.concat() + &workload("file", 50))));
    assert_eq!(check_names(&result), [DISK_CHECKS, TCP_CHECKS].concat());
    assert_eq!(names(result.boards.iter().map(|board| &board.name)), ["a", "b", "c"]);
    assert!(
        result.counters.contains_key("c/0") && !result.counters.contains_key("c/1"),
        "{:?}",
        result.counters
    );
    // A learning switch: the third port saw the address requests, and nothing of the file.
    assert!(tcp_stream(&folder.out().join("port1.pcap")) == file);
    assert!(tcp_stream(&folder.out().join("port2.pcap")).is_empty());
}

#[test]
fn an_image_of_ones_own_holds_the_file_afterwards_and_a_read_only_one_is_as_it_was() {
    let folder = TestFolder::new();
    let file = folder.random_file("file", FILE, 7);
    let [frozen, image] = ["frozen", "image"].map(|name| folder.random_file(name, 1 << 20, 8));
    let disks = [blk("image = \"frozen\"\nread_only = true"), blk("image = \"image\"")];
    let [first, second] = disks.map(|disk| [disk]);
    let boards = board("first", &first) + &board("second", &second);
    let reads = "[workload]\nfile = \"file\"\n[workload.blk]\nreads = 100\nqueue_depths = [4]\n";
    let result = succeeded(&folder, &folder.run(&(server("inline") + &boards + reads)));
    assert_eq!(check_names(&result), DISK_CHECKS);
    // The first disk is read, though it cannot be written.
    assert!(result.counters["first/0"]["retired"] >= 100, "{:?}", result.counters);
    assert!(fs::read(folder.path("frozen")).unwrap() == frozen, "the read-only image was written to");
    let after = fs::read(folder.path("image")).unwrap();
    let end = FILE.next_multiple_of(512);
    assert_eq!(after.len(), image.len());
    assert!(after[..FILE] == file && after[end..] == image[end..]);
    assert!(after[FILE..end].iter().all(|byte| *byte == 0), "the last sector is filled up with zeroes");
}

#[test]
fn a_disk_of_two_queues_of_which_the_driver_uses_one() {
    let folder = TestFolder::new();
    folder.random_file("file", FILE, 9);
    let disk = blk("size_mib = 1\nqueues = 2");
    let scenario = server("inline") + &board("only", &[disk]) + MOVES_THE_FILE;
    let result = succeeded(&folder, &folder.run(&scenario));
    assert_eq!(check_names(&result), DISK_CHECKS);
}

#[test]
fn rings_and_slots_of_every_size_that_a_scenario_may_ask_for() {
    let sizes = [
        "queue_size = 256",
        "queue_size = 1024",
        "slot_size = 65536\nslots = 20",
        "slot_size = 512\nslots = 200",
    ];
    for (keys, seed) in sizes.into_iter().zip(14..) {
        let folder = TestFolder::new();
        folder.random_file("file", FILE, seed);
        let functions = |number| [blk(&format!("size_mib = 1\n{keys}")), net(number) + keys + "\n"];
        let boards = board("left", &functions(0)) + &board("right", &functions(1));
        let result = succeeded(&folder, &folder.run(&(server("inline") + &boards + MOVES_THE_FILE)));
        assert_eq!(check_names(&result), [DISK_CHECKS, TCP_CHECKS].concat(), "{keys}");
    }
}

#[test]
fn the_largest_server_and_the_fullest_board() {
    let folder = TestFolder::new();
    folder.random_file("file", FILE, 18);
    let full: Vec<_> = (0..8).map(|_| blk("size_mib = 1\nqueues = 8")).collect();
    let rest = (1..16).map(|number| board(&format!("board{number}"), &[net(number)]));
    let boards = board("full", &full) + &rest.collect::<String>();
    let result = succeeded(&folder, &folder.run(&(server("threads") + &boards + MOVES_THE_FILE)));
    assert_eq!(check_names(&result), [DISK_CHECKS, TCP_CHECKS].concat());
    assert_eq!((result.boards.len(), result.boards[0].functions.len()), (16, 8));
}

#[test]
fn cards_of_several_queue_pairs_of_which_the_driver_uses_one() {
    let folder = TestFolder::new();
    let file = folder.random_file("file", FILE, 19);
    let cards = [net(0) + "queue_pairs = 8\n", net(1) + "queue_pairs = 2\n"];
    let [left, right] = cards.map(|card| [card]);
    let boards = board("left", &left) + &board("right", &right);
    let result = succeeded(&folder, &folder.run(&(server("inline") + &boards + MOVES_THE_FILE)));
    assert_eq!(check_names(&result), TCP_CHECKS);
    assert!(tcp_stream(&folder.out().join("port1.pcap")) == file);
}

#[test]
fn a_file_that_is_not_there_is_one_line() {
    let folder = TestFolder::new();
    let (missing, out) = (folder.path("no-such-file"), folder.out());
    let demo = |file: &Path| {
        let arguments =
            ["--quiet".as_ref(), "demo".as_ref(), "--file".as_ref(), file.as_os_str(), "--out".as_ref()];
        folder.bmhive(arguments.into_iter().chain([out.as_os_str()])).finish()
    };
    let ended = demo(&missing);
    assert!(ended.complaint().contains("no-such-file: No such file or directory"), "{ended:#?}");
    let ended = demo(&folder.temporary());
    assert!(ended.complaint().ends_with("tmp: is a directory"), "{ended:#?}");
    nothing_is_left(&folder);
    assert!(!out.join("result.json").exists(), "a run that failed left a result");
}

#[test]
fn a_scenario_that_is_not_there_or_names_what_is_not_there_is_an_error_with_its_name() {
    let folder = TestFolder::new();
    let ended = folder.bmhive(["run", "no-such.toml"]).finish();
    assert!(ended.complaint().contains("cannot read scenario no-such.toml: No such file"), "{ended:#?}");
    let ended = folder.bmhive(["run", "tmp"]).finish();
    assert!(ended.complaint().contains("cannot read scenario tmp: Is a directory"), "{ended:#?}");
    for (scenario, key) in [
        (server("inline") + &board("b", &[blk("image = \"no-such.img\"")]), "board[0].function[0].image"),
        (server("inline") + &board("b", &[net(0)]) + &workload("no-such-file", 1), "workload.file"),
    ] {
        let ended = folder.run(&scenario);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:#?}");
        assert!(ended.stderr.contains(key) && ended.stderr.contains("no-such"), "{ended:#?}");
    }
    nothing_is_left(&folder);
}

#[test]
fn a_file_that_does_not_fit_on_the_disk_is_one_line() {
    let folder = TestFolder::new();
    folder.random_file("file", (1 << 20) + 1, 10);
    let scenario = server("inline") + &board("only", &[blk("size_mib = 1")]) + MOVES_THE_FILE;
    let ended = folder.run(&scenario);
    for said in ["1048577 bytes", "only", "1048576", "size_mib"] {
        assert!(ended.complaint().contains(said), "{said:?} is missing in {ended:#?}");
    }
    nothing_is_left(&folder);
}

#[test]
fn a_workload_that_the_boards_cannot_do_is_one_line() {
    let folder = TestFolder::new();
    folder.random_file("file", 1000, 11);
    for (functions, lacks) in
        [([blk("size_mib = 1")], "two boards with a network card"), ([net(0)], "a disk")]
    {
        let ended = folder.run(&(server("inline") + &board("only", &functions) + &workload("file", 10)));
        assert!(ended.complaint().contains(&format!("the workload needs {lacks}")), "{ended:#?}");
    }
    nothing_is_left(&folder);
}

#[test]
fn an_output_directory_that_cannot_be_is_one_line() {
    let folder = TestFolder::new();
    folder.random_file("file", 1000, 12);
    folder.write("out", "a file, where a directory is to be");
    let ended = folder.run(&two_boards("inline"));
    assert!(
        ended.complaint().contains("cannot make the directory") && ended.complaint().contains("out: "),
        "{ended:#?}"
    );
    nothing_is_left(&folder);
}

#[test]
fn a_full_disk_is_one_line() {
    let folder = TestFolder::new();
    folder.random_file("file", FILE, 13);
    let (out, scenario) = (folder.out(), folder.write("scenario.toml", two_boards("inline")));
    fs::create_dir(&out).unwrap();
    // A disk of 32 KiB that only this run sees; captures alone take more.
    let mount = "mount -t tmpfs -o size=32k none \"$1\"";
    let unshare = || {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "--", "sh", "-ec"]);
        unshare
    };
    if !unshare().arg(mount).arg("sh").arg(&out).status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: this machine lets no user mount a tmpfs in a namespace of its own");
        return;
    }
    let mut command = unshare();
    command.arg(format!("{mount}; exec \"$2\" --quiet run \"$3\" --out \"$1\"")).arg("sh");
    let ended = folder
        .start({
            command.arg(&out).arg(program()).arg(&scenario);
            command
        })
        .finish();
    let complaint = ended.complaint();
    assert!(
        complaint.contains("cannot write") && complaint.contains("No space left on device"),
        "{ended:#?}"
    );
    nothing_is_left(&folder);
}
