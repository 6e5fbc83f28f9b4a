//! Disks of Linux boards that break: an image that shrinks, a back end that dies. Nothing else does with
//! them.
//!
//! ```text
//!   board0: console
//!           dd -- vda -- IO-Bond -- bmhive backend blk -- breaks.img   <- is truncated, is killed
//!           dd -- vdb -- IO-Bond -- bmhive backend blk -- stays.img
//!   board1: console
//!           dd -- vda -- IO-Bond -- bmhive backend blk -- neighbour.img
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::fs::File;

use bmhive_server::instance::{BoardStatus, FunctionStatus, Status};
use rig::{
    linux::{Shell, Up},
    test_folder::{TestFolder, random_bytes},
    toml::{SERVER, blk, linux},
};
use rustix::process::{Pid, Signal, kill_process};

const MIB: usize = 1 << 20;
/// Where `breaks.img` is: function 1 of board 0, `board0.1`.
const BREAKS: usize = 1;

/// A board with a console and a disk for each image, of 8 MiB.
fn board(folder: &TestFolder, name: &str, images: &[&str]) -> String {
    const SEED: u64 = 0xfa17;
    let disk = |image: &&str| {
        folder.write(image, random_bytes(8 * MIB, SEED));
        blk(&format!("image = \"{image}\"\nserial = \"{image}\""))
    };
    linux(name, 1, 256, &images.iter().map(disk).collect::<Vec<_>>())
}

fn start(folder: TestFolder, boards: &str) -> Up {
    Up::start_in(folder, &(SERVER.to_owned() + boards), &["--accel", "tcg"])
}

/// Every byte of a disk can be read, and its first sectors can be written.
fn assert_works(shell: &mut Shell, disk: &str) {
    let all = "dd bs=1M iflag=direct if=/dev";
    assert!(shell.check(&format!("{all}/{disk} of=/dev/null")).contains("8+0 records in"));
    shell.check(&format!("dd if=/dev/zero bs=4k count=1 oflag=direct of=/dev/{disk}"));
}

fn end(mut up: Up) {
    up.signal(Signal::INT);
    let ended = up.finish();
    assert_eq!((ended.code, ended.signal), (Some(0), None), "{ended:#?}");
    up.assert_nothing_left();
}

/// ```text
///   breaks.img   |------------ 8 MiB ------------|
///   truncated    |---- 4 MiB ----|                  read before its end: as ever; behind: EIO
///   extended     |---- 4 MiB ----|---- zeroes ---|  as ever
/// ```
#[test]
fn an_image_that_shrinks_is_an_io_error() {
    let folder = TestFolder::new();
    let boards = board(&folder, "board0", &["breaks.img", "stays.img"]);
    let up = start(folder, &boards);
    let mut shell = up.shell("board0");
    let set_len = |mib: usize| {
        let image = File::options().write(true).open(up.folder.path("breaks.img")).unwrap();
        image.set_len((mib * MIB) as u64).unwrap();
    };
    assert_works(&mut shell, "vda");

    set_len(4);
    let read = "dd if=/dev/vda of=/dev/null iflag=direct";
    shell.check(&format!("{read} bs=1M count=4"));
    // Behind the end, and across it.
    for what in ["bs=64k skip=64 count=1", "bs=24k skip=170 count=1"] {
        let (code, said) = shell.run(&format!("{read} {what}"));
        assert!(code != 0 && said.contains("Input/output error"), "{what}: {said}");
    }
    assert_works(&mut shell, "vdb");
    let BoardStatus { failure, functions, .. } = up.board("board0");
    assert_eq!(
        (failure, functions[BREAKS].driver()),
        (None, "ready"),
        "an error of the image is the guest's"
    );

    set_len(8);
    assert_works(&mut shell, "vda");
    let zeroes = "dd if=/dev/vda bs=1M skip=4 iflag=direct status=none | tr -d '\\0' | wc -c";
    assert_eq!(shell.check(zeroes), "0\n");
    end(up);
}

/// ```text
///   backend blk breaks.img   ---- killed
///   vda                      .... reads ..|  the one under way never ends; DEVICE_NEEDS_RESET
///   vdb, console             .................. as ever
///   board1                   .................. as ever
///   board0 is reset                           | boots with what is left
///   bmhive status                         |  says which function stopped, and why
/// ```
#[test]
fn a_back_end_that_dies_takes_its_disk_along_and_nothing_else() {
    let folder = TestFolder::new();
    let boards = board(&folder, "board0", &["breaks.img", "stays.img"]);
    let boards = boards + &board(&folder, "board1", &["neighbour.img"]);
    let up = start(folder, &boards);
    let [mut shell, mut neighbour] = ["board0", "board1"].map(|name| up.shell(name));
    assert_eq!(functions(&up.status()), ["ready"; 5]);

    shell.check("(while dd if=/dev/vda of=/dev/null bs=64k iflag=direct; do :; done) >/dev/null 2>&1 &");
    let back_end = up.status().back_ends.into_iter().find(|back_end| back_end.name == "board0.1").unwrap();
    kill_process(Pid::from_raw(back_end.pid.unwrap().cast_signed()).unwrap(), Signal::KILL).unwrap();
    let told = up.await_board("board0", "told that a back end died", |board| {
        board.functions[BREAKS].failure.is_some()
    });

    assert_eq!(told.failure, None, "the board goes on");
    assert_works(&mut shell, "vdb");
    assert_works(&mut neighbour, "vda");
    let status = up.status();
    assert_eq!(functions(&status), ["ready", "needs reset", "ready", "ready", "ready"]);
    let [board, neighbour] = &status.boards[..] else { panic!("{status:#?}") };
    let failed: Vec<_> = board.functions.iter().map(|function| function.failure.as_deref()).collect();
    assert_eq!(failed, [None, Some("its back end ended (signal: 9 (SIGKILL))"), None]);
    assert_eq!(board.functions[BREAKS].queues, 0);
    assert!(neighbour.functions.iter().all(|function| function.failure.is_none()), "{neighbour:#?}");
    // Linux' driver has no answer to DEVICE_NEEDS_RESET: what it asked for last is under way for ever.
    let under_way = shell.check("cat /sys/block/vda/inflight");
    assert_eq!(under_way.split_whitespace().collect::<Vec<_>>(), ["1", "0"]);
    assert!(
        up.done(&["status"])
            .contains("board0: function 1 has stopped and asks its driver for a reset: its back end ended")
    );

    up.done(&["board", "board0", "reset"]);
    shell.await_ready();
    assert_eq!(shell.check("cat /sys/block/vd*/serial"), "stays.img", "one disk is left");
    assert_works(&mut shell, "vda");
    assert_eq!(functions(&up.status()), ["ready", "failed", "ready", "ready", "ready"]);
    end(up);
}

/// Who drives each function of each board.
fn functions(status: &Status) -> Vec<&'static str> {
    status.boards.iter().flat_map(|board| &board.functions).map(FunctionStatus::driver).collect()
}
