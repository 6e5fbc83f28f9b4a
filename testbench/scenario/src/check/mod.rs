//! From a document to a scenario: every limit, and what belongs to which kind.

mod function;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Duration,
};

use iobond_model::timing::{Timing, TimingError};

use super::{
    BackEnd, Backing, Blk, BlkWorkload, Board, Device, Extent, Fault, Guest, MAX_BOARDS, NetWorkload,
    Scenario, Workload,
    document::{self, Document},
    locate::KeyPath,
    problem::{Checked, Problem, suggest, within},
};

/// Longest board name: it becomes part of a socket's path, of which Linux takes 107 bytes.
const NAME_LENGTH: usize = 32;
/// Ports of the switch.
const MAX_PORTS: usize = 16;
/// Above lies the hole in which a 32-bit root complex puts BARs.
const MEMORY_BELOW_4_GIB: u32 = 2048;
/// A guest's machine has memory above 4 GiB as well. It is bounded all the same, so that a typo does not ask
/// for a terabyte.
const GUEST_MEMORY: u32 = 65536;
/// What fits beside our own words into the 2048 bytes that Linux keeps of a command line (COMMAND_LINE_SIZE
/// on x86).
const CMDLINE_LENGTH: usize = 1024;
/// Longest adaptive polling, that of the back ends.
const LONGEST_POLL_US: u32 = 1_000_000;

pub(super) fn check(file: &str, text: &str, directory: &Path, document: Document) -> Checked<Scenario> {
    let Document { server, switch, boards, workload, faults, timing, design } = document;
    let name = KeyPath::root("server").key("name");
    within(&name, server.name.chars().count(), 1, 80, "characters")?;
    within(&KeyPath::root("server").key("poll_us"), server.poll_us, 0, LONGEST_POLL_US, "microseconds")?;
    within(&KeyPath::root("board"), boards.len(), 1, MAX_BOARDS.into(), "boards")?;
    let boards = boards
        .into_iter()
        .enumerate()
        .map(|(index, board)| check_board(board, directory, &KeyPath::root("board").index(index)))
        .collect::<Checked<Vec<_>>>()?;
    let functions = boards.iter().flat_map(|board| &board.functions);
    let ports = functions.filter(|function| matches!(function.device, Device::Net(_))).count();
    within(&KeyPath::root("board"), ports, 0, MAX_PORTS, "net functions, the ports of the switch")?;
    check_unique(&boards)?;
    let workload = check_workload(workload, directory)?;
    let names = back_ends(&boards);
    let faults = faults
        .into_iter()
        .enumerate()
        .map(|(index, fault)| check_fault(&fault, &names, &KeyPath::root("fault").index(index)))
        .collect::<Checked<Vec<_>>>()?;
    check_kills(&faults)?;
    check_timing(&timing)?;
    Ok(Scenario {
        file: file.to_owned(),
        text: text.to_owned(),
        name: server.name,
        execution: server.execution,
        poll: server.poll,
        poll_us: server.poll_us,
        restart: server.restart,
        capture: switch.capture,
        boards,
        workload,
        faults,
        timing,
        design,
    })
}

/// What is wrong is said of the last part of the key.
fn check_timing(timing: &Timing) -> Checked<()> {
    timing.check().map_err(|TimingError { field, found, expected }| {
        let path = field.split('.').fold(KeyPath::root("timing"), |path, step| path.key(step));
        let last = field.rsplit('.').next().unwrap_or_default();
        Problem::new(path, format!("{last} {found}"), expected)
    })
}

pub(super) fn back_ends(boards: &[Board]) -> Vec<(String, BackEnd)> {
    let mut names = Vec::new();
    let mut switch = false;
    for (board_index, board) in boards.iter().enumerate() {
        for (function_index, function) in board.functions.iter().enumerate() {
            let place = (board_index, function_index);
            let back_end = match (&function.device, place) {
                (Device::Net(_), _) => {
                    switch = true;
                    continue;
                }
                (Device::Blk(_), (board, function)) => BackEnd::Disk { board, function },
                (Device::Console(_), (board, function)) => BackEnd::Console { board, function },
            };
            names.push((format!("{}.{function_index}", board.name), back_end));
        }
    }
    if switch {
        names.push(("switch".to_owned(), BackEnd::Switch));
    }
    names
}

fn check_board(board: document::Board, directory: &Path, path: &KeyPath) -> Checked<Board> {
    let fits = board.name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    if !fits || board.name.is_empty() || board.name.len() > NAME_LENGTH {
        return Err(Problem::new(
            path.key("name"),
            format!("found {:?}", board.name),
            format!("expected 1 to {NAME_LENGTH} lower case letters, digits or '-'"),
        ));
    }
    let guest = board.guest.map(|guest| check_guest(guest, directory, &path.key("guest"))).transpose()?;
    let most = if guest.is_some() { GUEST_MEMORY } else { MEMORY_BELOW_4_GIB };
    // Below 16 MiB the queues of all functions do not fit.
    within(&path.key("memory_mib"), board.memory_mib, 16, most, "MiB")?;
    let functions_path = path.key("function");
    within(&functions_path, board.functions.len(), 1, iobond_spec::MAX_FUNCTIONS, "functions")?;
    let functions = board
        .functions
        .into_iter()
        .enumerate()
        .map(|(index, function)| function::check(function, directory, &functions_path.index(index)))
        .collect::<Checked<Vec<_>>>()?;
    let queues: usize = functions.iter().map(|function| usize::from(function.queues())).sum();
    within(
        &functions_path,
        queues,
        1,
        iobond_spec::MAX_QUEUES,
        "queues on the board, control queues counted",
    )?;
    Ok(Board { name: board.name, memory_bytes: u64::from(board.memory_mib) << 20, functions, guest })
}

fn check_guest(guest: document::Guest, directory: &Path, path: &KeyPath) -> Checked<Guest> {
    let document::Guest { cpus, kernel, initrd, cmdline, autostart } = guest;
    within(&path.key("cpus"), cpus, 1, 16, "processors")?;
    let file = |file: Option<PathBuf>, key: &str| {
        file.map(|file| existing(directory, &file, &path.key(key))).transpose()
    };
    if let Some(words) = &cmdline {
        let path = path.key("cmdline");
        within(&path, words.len(), 1, CMDLINE_LENGTH, "characters")?;
        if !words.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
            return Err(Problem::new(
                path,
                format!("found {words:?}"),
                "expected printable ASCII characters",
            ));
        }
    }
    Ok(Guest { cpus, kernel: file(kernel, "kernel")?, initrd: file(initrd, "initrd")?, cmdline, autostart })
}

/// Board names and MAC addresses are unique, and no image that is written has two users.
fn check_unique(boards: &[Board]) -> Checked<()> {
    let mut names = HashMap::new();
    let mut macs = HashMap::new();
    let mut images: HashMap<&Path, (KeyPath, bool)> = HashMap::new();
    let taken = |path: KeyPath, value: &dyn std::fmt::Display, by: &KeyPath, what: &str| {
        Problem::new(path, format!("{value} is {by} already"), format!("expected {what}"))
    };
    for (board_index, board) in boards.iter().enumerate() {
        let board_path = KeyPath::root("board").index(board_index);
        let path = board_path.key("name");
        if let Some(by) = names.insert(&board.name, path.clone()) {
            return Err(taken(path, &board.name, &by, "a name of its own"));
        }
        for (index, function) in board.functions.iter().enumerate() {
            let path = board_path.key("function").index(index);
            match &function.device {
                Device::Net(net) => {
                    let path = path.key("mac");
                    if let Some(by) = macs.insert(net.mac, path.clone()) {
                        return Err(taken(path, &net.mac, &by, "an address of its own"));
                    }
                }
                Device::Blk(Blk { backing: Backing::Image(image), read_only, .. }) => {
                    let path = path.key("image");
                    match images.insert(image, (path.clone(), *read_only)) {
                        Some((by, true)) if *read_only => drop(by),
                        Some((by, _)) => {
                            let expected = "an image of its own, or `read_only = true` for all of its users";
                            return Err(taken(path, &image.display(), &by, expected));
                        }
                        None => {}
                    }
                }
                Device::Blk(_) | Device::Console(_) => {}
            }
        }
    }
    Ok(())
}

fn check_workload(workload: document::Workload, directory: &Path) -> Checked<Workload> {
    let path = KeyPath::root("workload");
    let file = workload.file.map(|file| existing(directory, &file, &path.key("file"))).transpose()?;
    let blk = workload.blk.map(|blk| check_blk_workload(blk, &path.key("blk"))).transpose()?;
    let net = workload.net.map(|net| check_net_workload(&net, &path.key("net"))).transpose()?;
    Ok(Workload { file, blk, net })
}

fn check_blk_workload(blk: document::BlkWorkload, path: &KeyPath) -> Checked<BlkWorkload> {
    let depths_path = path.key("queue_depths");
    within(&depths_path, blk.queue_depths.len(), 1, 8, "queue depths")?;
    for (index, depth) in blk.queue_depths.iter().enumerate() {
        within(&depths_path.index(index), *depth, 1, 256, "requests in flight")?;
    }
    Ok(BlkWorkload { extent: extent(path, "reads", blk.reads, blk.seconds)?, queue_depths: blk.queue_depths })
}

fn check_net_workload(net: &document::NetWorkload, path: &KeyPath) -> Checked<NetWorkload> {
    Ok(NetWorkload { extent: extent(path, "round_trips", net.round_trips, net.seconds)? })
}

fn extent(path: &KeyPath, count_key: &str, count: Option<u64>, seconds: Option<f64>) -> Checked<Extent> {
    match (count, seconds) {
        (Some(count), None) => {
            within(&path.key(count_key), count, 1, 1_000_000_000, count_key.replace('_', " ").as_str())?;
            Ok(Extent::Count(count))
        }
        (None, Some(seconds)) => {
            within(&path.key("seconds"), seconds, 0.05, 600.0, "seconds")?;
            Ok(Extent::Time(Duration::from_secs_f64(seconds)))
        }
        (Some(_), Some(_)) => Err(Problem::both(path, count_key, "seconds")),
        (None, None) => Err(Problem::neither(path, count_key, "seconds")),
    }
}

fn check_fault(fault: &document::Fault, names: &[(String, BackEnd)], path: &KeyPath) -> Checked<Fault> {
    let after = path.key("after_ms");
    within(&after, fault.after_ms, 0, 600_000, "milliseconds")?;
    let Some((_, kill)) = names.iter().find(|(name, _)| *name == fault.kill) else {
        let known: Vec<&str> = names.iter().map(|(name, _)| name.as_str()).collect();
        let expected = suggest(&fault.kill, &known, &format!("one of {}", known.join(", ")));
        return Err(Problem::new(
            path.key("kill"),
            format!("no back end is called {:?}", fault.kill),
            expected,
        ));
    };
    if let Some(restart) = fault.restart_after_ms {
        within(&path.key("restart_after_ms"), restart, 10, 600_000, "milliseconds")?;
    }
    let restart_after = fault.restart_after_ms.map(Duration::from_millis);
    Ok(Fault { kill: *kill, after: Duration::from_millis(fault.after_ms), restart_after })
}

/// A fault kills the process that the run began with: once that was started again, another fault would miss
/// it.
fn check_kills(faults: &[Fault]) -> Checked<()> {
    for (index, fault) in faults.iter().enumerate() {
        let would_miss = |earlier: &Fault| {
            earlier.kill == fault.kill && earlier.restart_after.or(fault.restart_after).is_some()
        };
        if let Some(earlier) = faults.iter().take(index).position(would_miss) {
            return Err(Problem::new(
                KeyPath::root("fault").index(index).key("kill"),
                format!("{} kills the same back end", KeyPath::root("fault").index(earlier)),
                "expected one fault at most for a back end that is started again, by `restart_after_ms` of either",
            ));
        }
    }
    Ok(())
}

/// The path of a regular file, taken from `directory` unless it is absolute.
fn existing(directory: &Path, file: &Path, path: &KeyPath) -> Checked<PathBuf> {
    let full = directory.join(file);
    let expected = "expected a regular file, named relative to the scenario";
    match std::fs::metadata(&full) {
        Ok(metadata) if metadata.is_file() => Ok(full),
        Ok(_) => Err(Problem::new(path.clone(), format!("{} is not a file", full.display()), expected)),
        Err(error) => {
            Err(Problem::new(path.clone(), format!("cannot use {}: {error}", full.display()), expected))
        }
    }
}
