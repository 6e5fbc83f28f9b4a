//! Disks of a Linux board: what is written stays, queues share the work, and requests are what they are on
//! the host.
//!
//! ```text
//!   board0: ext4, fio, dd -- virtio_blk -- vda -- IO-Bond -- bmhive backend blk -- scratch.img
//!                                       \- vdb -- IO-Bond -- bmhive backend blk -- seeded.img (read only)
//!   host: the same bytes in the images
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{fmt::Write, fs, os::unix::fs::MetadataExt};

use bmhive_server::instance::{FunctionStatus, Power};
use rig::{
    linux::{Shell, Up},
    test_folder::{TestFolder, random_bytes, sha256},
    toml::{SERVER, blk, linux},
};
use rustix::process::Signal;

const MIB: usize = 1 << 20;
const SECTOR: usize = 512;
/// Where the functions of [`scenario`]'s board are.
const SCRATCH: usize = 1;

/// One board with a console and two disks. vda is `scratch.img` with two queues, vdb is `seeded.img`, read
/// only.
fn scenario(cpus: u8, memory_mib: u32) -> String {
    let disks = [
        blk("image = \"scratch.img\"\nserial = \"scratch-of-board0-20\"\nqueues = 2"),
        blk("image = \"seeded.img\"\nserial = \"seeded\"\nread_only = true"),
    ];
    SERVER.to_owned() + &linux("board0", cpus, memory_mib, &disks)
}

/// Starts the board of [`scenario`] with these images.
fn start(cpus: u8, memory_mib: u32, scratch: &[u8], seeded: &[u8]) -> (Up, Shell) {
    let folder = TestFolder::new();
    folder.write("scratch.img", scratch);
    folder.write("seeded.img", seeded);
    let up = Up::start_in(folder, &scenario(cpus, memory_mib), &["--accel", "tcg"]);
    let shell = up.shell("board0");
    (up, shell)
}

fn image(up: &Up, name: &str) -> Vec<u8> {
    fs::read(up.folder.path(name)).unwrap()
}

/// The same of all that a command of the guest's says.
fn sha256_of(shell: &mut Shell, command: &str) -> String {
    shell.check(&format!("{command} | sha256sum | cut -d' ' -f1")).trim_end().into()
}

/// The same of a whole disk as the guest sees it, of which nothing comes from its page cache.
fn sha256_of_disk(shell: &mut Shell, disk: &str) -> String {
    sha256_of(shell, &format!("dd if=/dev/{disk} bs=1M iflag=direct status=none"))
}

/// The scratch disk as `bmhive status` has it.
fn scratch(up: &Up) -> FunctionStatus {
    up.board("board0").functions.swap_remove(SCRATCH)
}

/// Interrupts that the guest took from vda, for each vector: configuration changes, queue 0, queue 1.
fn interrupts(shell: &mut Shell) -> Vec<u64> {
    let lines = shell.check("grep $(basename $(readlink /sys/block/vda/device))- /proc/interrupts");
    let cpus =
        |line: &str| line.split_whitespace().skip(1).map_while(|count| count.parse::<u64>().ok()).sum();
    lines.lines().map(cpus).collect()
}

/// Field `number`, from 1, of /sys/block/vda/stat: 12 discards, 16 flushes (Linux,
/// Documentation/block/stat.rst).
fn counted(shell: &mut Shell, number: usize) -> u64 {
    let fields = shell.check("cat /sys/block/vda/stat");
    fields.split_whitespace().nth(number - 1).unwrap().parse().unwrap()
}

/// The guest has no request in its log that failed.
fn assert_no_errors(shell: &mut Shell) {
    assert_eq!(shell.run("dmesg | grep 'error, dev vd'"), (1, String::new()));
}

fn end(mut up: Up) {
    up.signal(Signal::INT);
    let ended = up.finish();
    assert_eq!((ended.code, ended.signal), (Some(0), None), "{ended:#?}");
    up.assert_nothing_left();
}

/// ```text
///   host:  seeded bytes -> vdb -> board: files on ext4 on vda -> umount, mount -> the same files, fsck clean
///                                        power off           -> host: both images are what the board saw
/// ```
#[test]
fn an_ext4_file_system_keeps_what_was_written() {
    const SEED: u64 = 0x0e47;
    let bytes = random_bytes(16 * MIB, SEED);
    // Files of 1 byte to 2 MiB, from anywhere in them.
    let mut dice = fastrand::Rng::with_seed(SEED);
    let lengths: Vec<usize> = (0..24).map(|number| dice.usize(1..=1 << (number % 22))).collect();
    let (mut copy, mut expected) = (String::new(), String::new());
    for (number, length) in lengths.iter().enumerate() {
        let from = dice.usize(0..=bytes.len() - length);
        let flags = "iflag=skip_bytes,count_bytes bs=64k status=none";
        writeln!(copy, "dd if=/dev/vdb of=/mnt/{number:02} skip={from} count={length} {flags} || exit")
            .unwrap();
        writeln!(expected, "{}  /mnt/{number:02}", sha256(&bytes[from..from + length])).unwrap();
    }
    let (up, mut shell) = start(1, 512, &vec![0xa5; 64 * MIB], &bytes);

    shell.check("mke2fs -q -t ext4 /dev/vda && mount -t ext4 /dev/vda /mnt");
    shell.check(&format!("({copy})"));
    assert_eq!(shell.check("sha256sum /mnt/??"), expected, "seed {SEED:#x}, from the page cache");
    shell.check("umount /mnt && e2fsck -f -n /dev/vda && mount -t ext4 /dev/vda /mnt");
    assert_eq!(shell.check("sha256sum /mnt/??"), expected, "seed {SEED:#x}, from the disk");
    shell.check("rm /mnt/1? && umount /mnt && e2fsck -f -n /dev/vda");

    let seen = ["vda", "vdb"].map(|disk| sha256_of_disk(&mut shell, disk));
    assert_no_errors(&mut shell);
    shell.send("poweroff");
    up.await_power("board0", &Power::Off);
    assert_eq!(seen, [sha256(&image(&up, "scratch.img")), sha256(&bytes)]);
    assert!(image(&up, "seeded.img") == bytes, "a read-only image was written to");
    end(up);
}

/// ```text
///   CPU 0: dd, one request at a time: interrupts that the guest took = those that IO-Bond sent = requests
///   CPU 0: fio -- queue 0 --\
///   CPU 1: fio -- queue 1 --- vda: every block that was written is read back and verified
///   memory: half of it above 4 GiB, where Linux takes pages from first
/// ```
#[test]
fn two_queues_carry_what_two_processors_write() {
    const REQUESTS: u64 = 200;
    let (up, mut shell) = start(2, 4096, &vec![0; 64 * MIB], &[0; SECTOR]);
    let processors = shell.check("for queue in /sys/block/vda/mq/*; do cat $queue/cpu_list; done | sort");
    assert_eq!(processors, "0\n1\n", "a queue for each");
    shell.check("grep '^ *1[0-9a-f]\\{8\\}-.*System RAM' /proc/iomem");
    assert_eq!(scratch(&up).queues, 2);

    let (guest, bond) = (interrupts(&mut shell), scratch(&up).interrupts);
    shell.check(&format!("dd if=/dev/vda of=/dev/null bs=4k iflag=direct count={REQUESTS}"));
    let (guest_then, bond_then) = (interrupts(&mut shell), scratch(&up).interrupts);
    assert_eq!(
        guest_then.iter().sum::<u64>() - guest.iter().sum::<u64>(),
        REQUESTS,
        "{guest:?} {guest_then:?}"
    );
    assert_eq!(bond_then - bond, REQUESTS);

    let fio = "fio --name=verify --filename=/dev/vda --ioengine=libaio --direct=1 --iodepth=16 --rw=randrw \
        --bsrange=512-256k --size=24m --numjobs=2 --offset_increment=32m --cpus_allowed=0,1 \
        --cpus_allowed_policy=split --verify=crc32c --verify_fatal=1 --randseed=1503 --minimal";
    let before = scratch(&up);
    let said = shell.check(fio);
    let after = scratch(&up);
    // Of two times 24 MiB about a half is written, and all of it read: what was written, to verify it.
    assert!(after.bytes_up - before.bytes_up > 16 * MIB as u64, "{before:#?} {after:#?} {said}");
    assert!(after.bytes_down - before.bytes_down > 40 * MIB as u64, "{before:#?} {after:#?} {said}");
    let guest = interrupts(&mut shell);
    let grown: Vec<_> = guest.iter().zip(&guest_then).map(|(now, then)| now - then).collect();
    let [0, first, second] = grown[..] else { panic!("configuration, queue 0, queue 1: {grown:?}") };
    // With more than one request under way two messages may become one at the guest's interrupt controller.
    assert!(
        first > 0 && second > 0 && first + second <= after.interrupts - bond_then,
        "{grown:?} {after:#?}"
    );
    assert_no_errors(&mut shell);
    end(up);
}

/// ```text
///   scenario: size, serial, read_only     -- /sys/block has the same
///   read, write to the last sector        -- the image's last bytes
///   fsync                                 -- FLUSH
///   blkdiscard                            -- DISCARD: the image has fewer blocks
///   mke2fs zeroes tables                  -- WRITE_ZEROES: zeroes in the image that never crossed IO-Bond
/// ```
#[test]
fn a_disk_does_what_it_says() {
    const SEED: u64 = 0xd15c;
    const BYTES: usize = 64 * MIB;
    // An odd number of sectors: the last request is no whole page.
    let bytes = random_bytes(BYTES + SECTOR, SEED);
    let sectors = bytes.len() / SECTOR;
    let (up, mut shell) = start(1, 512, &bytes, &bytes[..3 * SECTOR]);

    assert_eq!(
        shell.check("cd /sys/block; cat vda/size vda/ro vdb/size vdb/ro; cd /"),
        format!("{sectors}\n0\n3\n1\n")
    );
    assert_eq!(
        shell.check("cat /sys/block/vda/serial; echo; cat /sys/block/vdb/serial"),
        "scratch-of-board0-20\nseeded"
    );
    let (refused, said) = shell.run("dd if=/dev/zero of=/dev/vdb bs=512 count=1 oflag=direct");
    assert!(refused != 0 && said.contains("Operation not permitted"), "{said}");
    assert_eq!(sha256_of_disk(&mut shell, "vdb"), sha256(&bytes[..3 * SECTOR]));

    at_the_end(&up, &mut shell, &bytes);

    let flushes = counted(&mut shell, 16);
    shell.check("dd if=/dev/vdb of=/dev/vda bs=512 count=3 seek=8 conv=fsync");
    assert!(counted(&mut shell, 16) > flushes);
    assert_eq!(image(&up, "scratch.img")[8 * SECTOR..11 * SECTOR], bytes[..3 * SECTOR]);

    discards(&up, &mut shell);
    zeroes(&up, &mut shell);
    assert_no_errors(&mut shell);
    end(up);
}

/// The last sector can be read and written, by itself and at the end of a long request; there is none behind
/// it.
fn at_the_end(up: &Up, shell: &mut Shell, bytes: &[u8]) {
    let (sectors, last) = (bytes.len() / SECTOR, bytes.len() - SECTOR);
    for count in [513, 1] {
        let from = sectors - count;
        let (at, long) = (from * SECTOR, count * SECTOR);
        let read = format!("dd if=/dev/vda bs={long} skip={at} iflag=direct,skip_bytes status=none");
        assert_eq!(sha256_of(shell, &read), sha256(&bytes[at..]), "{count} sectors");
    }
    shell.check(&format!("dd if=/dev/vdb of=/dev/vda bs=512 count=1 seek={} oflag=direct", sectors - 1));
    assert_eq!(image(up, "scratch.img")[last..], bytes[..SECTOR]);
    let (refused, said) =
        shell.run(&format!("dd if=/dev/vdb of=/dev/vda bs=512 count=1 seek={sectors} oflag=direct"));
    assert!(refused != 0 && said.contains("No space left"), "{said}");
    assert_eq!(image(up, "scratch.img").len(), bytes.len());
}

/// A discarded range has no blocks on the host; what is beside it stays.
fn discards(up: &Up, shell: &mut Shell) {
    const FROM: usize = 32 * MIB;
    const TO: usize = 40 * MIB;
    let blocks = || fs::metadata(up.folder.path("scratch.img")).unwrap().blocks();
    let (before, had, discards) = (image(up, "scratch.img"), blocks(), counted(shell, 12));
    shell.check(&format!("blkdiscard -o {FROM} -l {} /dev/vda", TO - FROM));
    assert!(counted(shell, 12) > discards);
    let after = image(up, "scratch.img");
    let freed = had.saturating_sub(blocks()) as usize * 512;
    // A hole may cost the host's file system a few blocks for what it keeps about the file.
    assert!(
        freed > TO - FROM - 64 * 1024,
        "{freed} bytes are free; does the host's file system punch holes?"
    );
    assert!(before[..FROM] == after[..FROM] && before[TO..] == after[TO..]);
    assert!(after[FROM..TO].iter().all(|byte| *byte == 0));
}

/// Inode tables are zeroed by requests without payload.
fn zeroes(up: &Up, shell: &mut Shell) {
    let zeroed = || {
        image(up, "scratch.img").chunks(4096).filter(|page| page.iter().all(|byte| *byte == 0)).count() * 4096
    };
    let (zeroes, up_to_now) = (zeroed(), scratch(up).bytes_up);
    // 32768 inodes of 256 bytes.
    shell.check("mke2fs -q -F -t ext4 -N 32768 -I 256 -E lazy_itable_init=0,nodiscard /dev/vda");
    let (more, sent) = (zeroed() - zeroes, scratch(up).bytes_up - up_to_now);
    assert!(more >= 8 * MIB && sent < MIB as u64, "{more} bytes were zeroed, {sent} bytes sent for it");
    shell.check("e2fsck -f -n /dev/vda");
}
