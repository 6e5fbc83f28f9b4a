//! `bmhive bench memory`: what a board costs its base beyond the board's own memory and its slots.

use std::{fs, io, path::Path};

use bmhive_server::Live;
use results::Figure;

use super::scenario;
use crate::workload::WorkloadError;

/// Boards of the bench.
const BOARDS: u64 = 4;
/// What a board may cost, in bytes.
const BUDGET: f64 = (16 << 20) as f64;

/// Runs the bench: anonymous memory of this process that four boards add, and the part of their pools that is
/// not slots.
///
/// # Errors
/// [`WorkloadError`].
pub fn run(program: &Path) -> Result<Vec<Figure>, WorkloadError> {
    let mut text = String::from("[server]\nname = \"bench memory\"\nexecution = \"inline\"\n");
    for board in 0..BOARDS {
        text += &format!(
            "[[board]]\nname = \"board{board}\"\nmemory_mib = 64\n\
             [[board.function]]\nkind = \"blk\"\nsize_mib = 16\n\
             [[board.function]]\nkind = \"net\"\nmac = \"52:54:00:be:0d:0{board}\"\n"
        );
    }
    let meter = |source| WorkloadError::File { path: "/proc/self/status".into(), source };
    let before = anonymous().map_err(meter)?;
    let live = Live::start(&scenario(&text)?, program, Path::new(""), None)?;
    let grown = anonymous().map_err(meter)?.saturating_sub(before);
    let pools: u64 =
        live.boards().iter().map(|board| board.statistics().memory).map(|m| m.total - m.slots).sum();
    let per_board = (grown + pools) as f64 / BOARDS as f64;
    Ok(vec![Figure::new("memory.per_board", per_board, "bytes", None).beside("budget of 16 MiB", BUDGET)])
}

/// Bytes of anonymous memory of this process that are resident: heaps and stacks, no mapped files and no
/// memfds.
fn anonymous() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kibibytes.map(|kibibytes| kibibytes << 10).ok_or_else(|| io::Error::other("there is no RssAnon in it"))
}
