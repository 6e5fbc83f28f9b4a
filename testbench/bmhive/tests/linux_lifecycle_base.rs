//! The base of a Linux board ends, or reaches the board's memory in the slow way only.
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{ffi::OsString, fs};

use bmhive_server::{
    Served,
    guest::{Accelerator, Machine, Qemu},
};
use rig::{
    bmhive::program,
    linux::{Shell, Up, guest_files},
    test_folder::TestFolder,
    toml::{SERVER, blk, linux, linux_pair},
};
use rustix::process::Signal;
use scenario::Scenario;

const MIB: usize = 1 << 20;

/// Everything that board 0's functions can do, until the board ends.
const TRAFFIC: &str = "
    while dd if=/dev/zero of=/dev/vda bs=256k count=64 oflag=direct; do :; done >/dev/null 2>&1 &
    while dd if=/dev/vda of=/dev/null bs=4k count=2048 iflag=direct; do :; done >/dev/null 2>&1 &
    while :; do nc 10.11.0.2 9001 </dev/zero; sleep .1; done >/dev/null 2>&1 &
    sleep .5; seq 100000 &";

fn under_traffic(folder: TestFolder) -> Up {
    let scenario = linux_pair(1, [&["size_mib = 64"], &[]]);
    let up = Up::start_in(folder, &scenario, &["--accel", "tcg"]);
    up.shell("board1").check("nc -ll -p 9001 -e dd of=/dev/null &");
    up.shell("board0").check(TRAFFIC);
    up
}

/// ```text
///   bmhive up: traffic -- SIGKILL: all processes end with it, its directory stays
///   bmhive up: takes the directory over; traffic -- SIGINT: nothing is left
/// ```
#[test]
fn a_base_that_ends_under_traffic_leaves_nothing() {
    let mut killed = under_traffic(TestFolder::new());
    killed.signal(Signal::KILL);
    assert_eq!(killed.finish().signal, Some(Signal::KILL.as_raw()));
    killed.folder.await_quiet();
    assert!(killed.run_directory().exists());

    let mut interrupted = under_traffic(std::mem::replace(&mut killed.folder, TestFolder::new()));
    interrupted.signal(Signal::INT);
    let ended = interrupted.finish();
    assert_eq!((ended.code, ended.signal), (Some(0), None), "{ended:#?}");
    interrupted.assert_nothing_left();
}

/// QEMU hands no descriptor of such memory out: IO-Bond asks it for every byte.
fn private_memory(board_bytes: u64) -> Vec<OsString> {
    let memory = format!("memory-backend-ram,id=private,size={board_bytes}");
    ["-object", &memory, "-machine", "memory-backend=private"].map(OsString::from).to_vec()
}

/// ```text
///   host: seeded image --> IO-Bond -- VFIO_USER_DMA_READ, DMA_WRITE --> QEMU: board memory of its own
///   board: the image's checksum; copies it behind itself; boots anew, the same --> host: the same twice
/// ```
#[test]
fn memory_that_is_not_shared_is_reached_by_messages() {
    const SEED: u64 = 0x5107;
    let folder = TestFolder::new();
    let mut image = folder.random_file("disk.img", 2 * MIB, SEED);
    let original = image.clone();
    image.resize(8 * MIB, 0);
    folder.write("disk.img", &image);
    let text = SERVER.to_owned() + &linux("board0", 1, 256, &[blk("image = \"disk.img\"")]);
    let scenario = Scenario::parse("a test", &text, &folder.path("")).unwrap();
    let served = Served::start(&scenario, program(), &folder.path(""), &|| false).unwrap();
    let machine = Machine {
        files: &guest_files(),
        board: &scenario.boards[0],
        guest: scenario.boards[0].guest.as_ref().unwrap(),
        index: 0,
        accelerator: Accelerator::Tcg,
        functions: served.boards()[0].function_sockets(),
        directory: &folder.path(""),
    };
    let memory = private_memory(scenario.boards[0].memory_bytes);
    let qemu = Qemu::start(program(), &machine, &memory).unwrap();
    let mut shell = Shell::connect(served.boards()[0].terminal().unwrap(), folder.path("serial.log"));
    let sum = "dd if=/dev/vda bs=64k count=32 iflag=direct status=none | sha256sum";
    let first = shell.check(sum);
    shell.check("dd if=/dev/vda of=/dev/vda bs=64k count=32 seek=64 iflag=direct oflag=direct status=none");
    shell.check("sync; echo 3 >/proc/sys/vm/drop_caches");
    assert_eq!(shell.check("dd if=/dev/vda bs=64k count=32 skip=64 status=none | sha256sum"), first);
    shell.send("reboot -f");
    shell.await_ready();
    assert_eq!(shell.check(sum), first);
    assert_eq!(served.boards()[0].failure().map(|failure| failure.to_string()), None);
    drop((shell, qemu, served));
    folder.await_quiet();
    let image = fs::read(folder.path("disk.img")).unwrap();
    assert!(image[..2 * MIB] == original && image[4 * MIB..][..2 * MIB] == original);
}
