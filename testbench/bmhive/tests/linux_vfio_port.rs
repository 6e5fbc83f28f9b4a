//! bm-hypervisor's port through VFIO, in a base server that runs in a virtual machine with an IOMMU.
//!
//! ```text
//!   vfio_trial STEP... --- VfioPort --- vfio-pci, IOMMU --- QEMU --- vfio-user --- StandIn
//!     read, write   -------------------------------------------------->  registers
//!     map, poke, COPY, peek   <----------------------------------------  DMA at addresses of the IOMMU's
//!     interrupt     <--------------------------------------------------  MSI-X vector 0
//!
//!   bm-hypervisor selftest  VfioPort - vfio-pci, IOMMU - QEMU - vfio-user - base function of an IO-Bond
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{path::Path, sync::Arc};

use iobond_vfio_user::Server;
use rig::{
    base_machine::BaseMachine,
    hosted::Hosted,
    stand_in::{COPY, FROM, INTERRUPT, StandIn, TO},
    test_folder::{TestFolder, random_bytes, sha256},
    toml::{SERVER, blk, board},
};
use scenario::Scenario;

/// Where bm-hypervisor's pool begins.
const IOVA: u64 = 1 << 40;
const TRIAL: &str = "vfio_trial";

/// One board, of which only the IO-Bond matters.
fn scenario() -> String {
    SERVER.to_owned() + &board("board0", &[blk("size_mib = 1")])
}

/// Starts the hypervisor, and waits until it serves.
const SERVE: &str = "(bm-hypervisor --config /tmp/board.toml --poll adaptive >/tmp/log 2>&1 &)
    for _ in $(seq 300); do grep -q 'board b is served' /tmp/log && break; usleep 100000; done
    cat /tmp/log; grep -q 'board b is served' /tmp/log";
/// Waits until it has ended, and says what it said.
const ENDED: &str = "while pidof bm-hypervisor >/dev/null; do usleep 100000; done; cat /tmp/log";

/// A base server with a stand-in.
struct Lab {
    machine: BaseMachine,
    stand_in: Arc<StandIn>,
    address: String,
    _server: Server,
    _folder: TestFolder,
}

impl Lab {
    fn start() -> Self {
        let folder = TestFolder::new();
        let socket = folder.path("function.sock");
        let stand_in = Arc::new(StandIn::new());
        let server = Server::start(&socket, stand_in.clone()).unwrap();
        let machine = BaseMachine::start(&[socket], &["examples/vfio_trial", "bm-hypervisor"]);
        Self { machine, stand_in, address: BaseMachine::address(0), _server: server, _folder: folder }
    }

    /// The command line that tries `steps` on the device.
    fn command(device: &str, steps: &[&str]) -> String {
        let quoted: String = steps.iter().map(|step| format!(" '{step}'")).collect();
        format!("{TRIAL} {device}{quoted}")
    }

    /// What each step said, without its own text.
    fn answers(&mut self, steps: &[&str]) -> Vec<String> {
        let said = self.machine.shell.check(&Self::command(&self.address, steps));
        answers(&said)
    }

    /// What `bm-hypervisor check` ends with and says of the machine.
    fn check(&mut self) -> (i32, String) {
        write_board(&mut self.machine, &self.address);
        self.machine.shell.run("bm-hypervisor check --no-back-ends /tmp/board.toml")
    }

    /// What it says that cannot be opened.
    fn error(&mut self) -> String {
        let (status, said) = self.machine.shell.run(&Self::command(&self.address, &[]));
        assert_eq!(status, 1, "{said}");
        said
    }
}

/// A configuration with the device at `address`, as `/tmp/board.toml`.
fn write_board(machine: &mut BaseMachine, address: &str) {
    let board = format!(
        "name = \"b\"\nport = {{ vfio = \"{address}\" }}\n[[functions]]\n[functions.blk]\nbackend = {{ socket = \"/s\" }}"
    );
    machine.shell.check(&format!("cat > /tmp/board.toml <<'END'\n{board}\nEND"));
}

fn answers(said: &str) -> Vec<String> {
    said.lines().map(|line| line.split_once(": ").map_or(line, |(_, answer)| answer).to_owned()).collect()
}

/// Waits until a line of `file` begins with `text`, for half a minute at most.
fn await_line(file: &str, text: &str) -> String {
    format!("for _ in $(seq 300); do grep -qs '^{text}' {file} && break; usleep 100000; done")
}

/// Steps that have the device copy four bytes and say how that went.
fn copy(from: u64, to: u64) -> Vec<String> {
    let word = |at: u32, value: u64| format!("write {at:#x} {:#x}", value & 0xffff_ffff);
    let mut steps = vec![word(FROM, from), word(FROM + 4, from >> 32), word(TO, to), word(TO + 4, to >> 32)];
    steps.extend([word(COPY, 0), format!("read {COPY:#x}")]);
    steps
}

/// All of these, as one list.
fn steps(parts: &[Vec<String>]) -> Vec<&str> {
    parts.iter().flatten().map(String::as_str).collect()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn a_port_through_vfio_does_what_a_port_has_to() {
    let mut lab = Lab::start();
    let unbound = lab.error();
    assert!(
        unbound.contains("is bound to no driver, not to vfio-pci; bind it: modprobe vfio-pci;"),
        "{unbound}"
    );
    lab.address = "0000:00:1f.7".into();
    assert!(lab.error().contains("there is no PCI function 0000:00:1f.7: `lspci -D`"));
    lab.address = BaseMachine::address(0);
    let (status, said) = lab.check();
    assert!(
        status == 1 && said.contains("error    device      0000:00:10.0 is bound to no driver"),
        "{said}"
    );
    let address = lab.address.clone();
    lab.machine.bind(&address);
    let (status, said) = lab.check();
    assert_eq!(status, 0, "{said}");
    for part in ["ok       IOMMU ", "ok       device      0000:00:10.0 is bound to vfio-pci, in IOMMU group "]
    {
        assert!(said.contains(part), "no {part:?} in {said}");
    }

    registers_and_reset(&mut lab);
    memory_both_ways_until_it_is_unmapped(&mut lab);
    interrupts(&mut lab);
    what_the_kernel_refuses_is_explained(&mut lab);
    another_process_goes_on(&mut lab);
    a_device_that_is_removed_reads_all_ones(&mut lab);
}

#[test]
fn an_io_bond_behind_vfio_conforms() {
    let folder = TestFolder::new();
    let scenario = Scenario::parse("a test", &scenario(), Path::new("/")).unwrap();
    let emulated = bmhive_server::emulate(&scenario, &folder.path("")).unwrap();
    let mut machine =
        BaseMachine::start(std::slice::from_ref(&emulated.bonds()[0].sockets.base), &["bm-hypervisor"]);
    let address = BaseMachine::address(0);
    machine.bind(&address);
    write_board(&mut machine, &address);
    // A suite that ends leaves a device that another one can have.
    for _ in 0..2 {
        let (status, said) = machine.shell.run("bm-hypervisor selftest /tmp/board.toml");
        assert!(status == 0 && said.contains("13 passed, 0 failed"), "{said}");
    }
}

/// ```text
///   this process: driver of a disk -- vfio-user -- IO-Bond
///   base server:  bm-hypervisor -- vfio-pci, IOMMU --/   \-- DMA at IOMMU addresses -- pool == vhost-blk
/// ```
#[test]
fn a_base_server_serves_a_board_through_vfio() {
    let folder = TestFolder::new();
    let scenario = Scenario::parse("a test", &scenario(), Path::new("/")).unwrap();
    let emulated = bmhive_server::emulate(&scenario, &folder.path("")).unwrap();
    let bond = &emulated.bonds()[0];
    let mut machine =
        BaseMachine::start(std::slice::from_ref(&bond.sockets.base), &["bm-hypervisor", "vhost-blk"]);
    let address = BaseMachine::address(0);
    machine.bind(&address);
    write_board(&mut machine, &address);
    machine.shell.check(
        "sed -i -e 's|\"/s\"|\"/tmp/s\"|' -e '1a mailbox_deadline_us = 10000000\\ncores = { poll = 1 }' /tmp/board.toml
        truncate -s 4M /tmp/image
        (vhost-blk --socket /tmp/s --image /tmp/image >/tmp/disk.log 2>&1 &)",
    );
    machine.shell.check(SERVE);
    let hosted = Hosted::plug(&bond.sockets.functions);
    let mut disk = hosted.disk(0);
    let data = random_bytes(1 << 20, 11);
    for (turn, chunk) in data.chunks(64 << 10).enumerate() {
        disk.write((turn * chunk.len() / 512) as u64, chunk).unwrap();
    }
    disk.flush().unwrap();
    let mut read = vec![0; data.len()];
    for (turn, chunk) in read.chunks_mut(64 << 10).enumerate() {
        disk.read((turn * chunk.len() / 512) as u64, chunk).unwrap();
    }
    assert!(read == data);
    let sum = machine.shell.check("head -c 1048576 /tmp/image | sha256sum");
    assert_eq!(sum.split_whitespace().next(), Some(&*sha256(&data)));
    // The poll thread is where it was told to be, and the others are elsewhere.
    let threads = "for t in /proc/$(pidof bm-hypervisor)/task/*; do grep -h Cpus_allowed_list $t/status; done | sort | uniq -c";
    let placed = machine.shell.check(threads);
    assert!(
        placed.contains("1 Cpus_allowed_list:\t1") && placed.contains("Cpus_allowed_list:\t0"),
        "{placed}"
    );
    machine.shell.check("kill $(pidof bm-hypervisor)");
    let log = machine.shell.check(ENDED);
    assert!(log.contains("board b is stopped"), "{log}");

    // The next one finds the device free; when that is removed, the board fails, and lets it go.
    machine.shell.check(SERVE);
    machine.shell.check(&format!("echo 1 > /sys/bus/pci/devices/{address}/remove"));
    let log = machine.shell.check(ENDED);
    assert!(log.contains("the IO-Bond is gone: its registers"), "{log}");
}

fn registers_and_reset(lab: &mut Lab) {
    let before = lab.stand_in.resets();
    let said = lab.answers(&[
        "read 0",
        "write 0x18 0x12345678",
        "read 0x18",
        "read 0x7ffc",
        "read 0x8000",
        "reset",
        "read 0x18",
        "read 0",
    ]);
    let expected = [
        "0x494f4244",
        "written",
        "0x12345678",
        "0x00000000",
        "0xffffffff",
        "reset",
        "0x00000000",
        "0x494f4244",
    ];
    assert_eq!(said, expected);
    assert!(lab.stand_in.resets() > before);
}

fn memory_both_ways_until_it_is_unmapped(lab: &mut Lab) {
    let (first, second) = (IOVA, IOVA + 0x10_0000);
    let script = [
        words(&["map 0x10000000000 0x100000", "map 0x10000100000 0x1000", "poke 0x10000000ffc 0xcafe0001"]),
        // Up and down, from the end of one page to the beginning of another region.
        copy(first + 0xffc, second),
        words(&["peek 0x10000100000", "poke 0x10000100004 0xcafe0002"]),
        copy(second + 4, first + 0x8_0000),
        words(&["peek 0x10000080000", "map 0x100000ff000 0x2000", "unmap 0x10000000000"]),
        // The device's end of it is refused; memory keeps what it had.
        copy(second, first + 0x8_0000),
        words(&["peek 0x10000080000"]),
        copy(first, second),
    ];
    let said = lab.answers(&steps(&script));
    let interesting: Vec<_> = said.iter().filter(|line| *line != "written").map(String::as_str).collect();
    let overlap = "refused: cannot map 0x2000 bytes at ";
    assert!(
        interesting[8].starts_with(overlap) && interesting[8].contains("overlaps an earlier mapping"),
        "{said:#?}"
    );
    let expected = [
        "mapped",
        "mapped",
        "poked",
        "0x00000001",
        "0xcafe0001",
        "poked",
        "0x00000001",
        "0xcafe0002",
        interesting[8],
        "unmapped",
        "0xfffffffe",
        "0xcafe0002",
        "0xffffffff",
    ];
    assert_eq!(interesting, expected);
    assert_eq!(lab.stand_in.maps_from(IOVA), 0, "a port that ends leaves nothing mapped");

    lab.machine.shell.check("echo 4 > /proc/sys/vm/nr_hugepages");
    // A file of huge pages cannot be written to but through a mapping: in and out by the device.
    let (small, huge) = (IOVA, IOVA + 0x4000_0000);
    let script = [
        words(&["map 0x10000000000 0x1000", "map-huge 0x10040000000 0x400000", "poke 0x10000000000 7"]),
        copy(small, huge + 0x20_0000),
        copy(huge + 0x20_0000, small + 4),
        words(&["peek 0x10000000004"]),
    ];
    let said = lab.answers(&steps(&script));
    assert_eq!((said[1].as_str(), said.last().unwrap().as_str()), ("mapped", "0x00000007"), "{said:#?}");
}

fn interrupts(lab: &mut Lab) {
    let raise = format!("write {INTERRUPT:#x} 1");
    let said = lab.answers(&[&raise, "interrupt", "reset", &raise, "interrupt"]);
    assert_eq!(said, ["written", "1 came", "reset", "written", "1 came"]);
}

fn what_the_kernel_refuses_is_explained(lab: &mut Lab) {
    let said = lab.answers(&["map 0x1000000000000 0x1000", "map 0x10000000800 0x1000"]);
    for refused in &said {
        assert!(refused.contains("beyond what the IOMMU translates"), "{refused}");
    }
    let device = lab.address.clone();
    let holder = Lab::command(&device, &["read 0", "sleep 60000"]);
    let opened = await_line("/tmp/holder", "read 0: ");
    let busy = format!("{holder} >/tmp/holder & {opened}; {TRIAL} {device}; kill $!; wait; cat /tmp/holder");
    let said = lab.machine.shell.check(&busy);
    assert!(said.contains("in use: another process has it open; `fuser -v /dev/vfio/"), "{said}");
    // A user that may lock any amount of memory meets no limit: hence another one.
    lab.machine.shell.check("echo guest:x:65534:65534::/:/bin/sh >> /etc/passwd");
    let user = "start-stop-daemon -S -c guest -x /usr/bin/vfio_trial --";
    let limited = format!(
        "chmod 666 /dev/vfio/vfio /dev/vfio/[0-9]*; (ulimit -l 64; {user} {device} 'map 0x10000000000 0x100000')"
    );
    let said = lab.machine.shell.check(&limited);
    assert!(
        said.contains("the limit of locked memory is too low") && said.contains("LimitMEMLOCK="),
        "{said}"
    );
    let (status, said) = lab.machine.shell.run(&format!("chmod 600 /dev/vfio/[0-9]*; {user} {device}"));
    assert!(status == 1 && said.contains("no permission for /dev/vfio/"), "{said}");
}

fn another_process_goes_on(lab: &mut Lab) {
    let keep = Lab::command(
        &lab.address,
        &["write 0x18 0x600d", "map 0x10000000000 0x2000", "poke 0x10000000000 0x5e1f", "hand-over /tmp/s"],
    );
    let script = [
        words(&["read 0x18"]),
        copy(IOVA, IOVA + 0x1000),
        words(&[
            "peek 0x10000001000",
            &format!("write {INTERRUPT:#x} 1"),
            "interrupt",
            "unmap 0x10000000000",
        ]),
        copy(IOVA, IOVA + 0x1000),
        words(&["map 0x10000000000 0x2000", "unmap 0x10000000000"]),
    ];
    let go_on = Lab::command("/tmp/s", &steps(&script));
    let said = lab.machine.shell.check(&format!("({keep} >/dev/null & {go_on})"));
    let said: Vec<_> = answers(&said).into_iter().filter(|line| line != "written").collect();
    let expected =
        ["0x0000600d", "0x00000001", "0x00005e1f", "1 came", "unmapped", "0xffffffff", "mapped", "unmapped"];
    assert_eq!(said, expected);
}

fn a_device_that_is_removed_reads_all_ones(lab: &mut Lab) {
    let device = lab.address.clone();
    let trial = Lab::command(&device, &["read 0", "write 0x18 5", "sleep 3000", "read 0", "read 0x18"]);
    let remove = format!("echo 1 > /sys/bus/pci/devices/{device}/remove");
    let written = await_line("/tmp/said", "write 0x18 5: ");
    // The removal waits for the port, which hears of it and then ends.
    let said =
        lab.machine.shell.check(&format!("({trial} >/tmp/said & {written}; {remove}; wait; cat /tmp/said)"));
    assert_eq!(
        said.lines().filter(|line| line.starts_with("read")).collect::<Vec<_>>(),
        ["read 0: 0x494f4244", "read 0: 0xffffffff", "read 0x18: 0xffffffff",]
    );
    assert!(lab.error().contains("there is no PCI function"));
}
