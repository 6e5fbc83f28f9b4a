//! What a user reads, on machines of our own making.

use super::*;
use crate::{
    config::{BackEndConfig, BlkConfig, CoresConfig, FunctionConfig, NetConfig, RingSizes, SpareConfig},
    machine::fake::{DEVICE, Tree},
    pool::{HUGE_PAGE, Pool},
};

/// A board with a disk and a card in the machine, which polls on `poll`.
fn board(tree: &Tree, poll: u32) -> BoardConfig {
    let disk = FunctionConfig::Blk(BlkConfig::new(BackEndConfig::new("/run/disk.sock")));
    let mut board = BoardConfig::new("board0", vec![disk]);
    board.port = Some(PortConfig::Vfio(DEVICE.parse().unwrap()));
    board.cores = Some(CoresConfig { locks: tree.path("run"), ..CoresConfig::new(poll) });
    board.hugepages = true;
    board
}

/// All findings, a line each.
fn told(config: &BoardConfig, tree: &Tree) -> String {
    let findings = judge(config, &survey(config, tree.root()));
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}

#[test]
fn a_machine_that_is_ready() {
    let tree = Tree::new();
    tree.write(
        "proc/self/limits",
        "Max locked memory         unlimited            unlimited            bytes\n",
    );
    insta::assert_snapshot!(told(&board(&tree, 2), &tree));
}

#[test]
fn a_machine_where_everything_could_be_better() {
    let tree = Tree::new();
    tree.write(
        "proc/self/limits",
        "Max locked memory         67108864             67108864             bytes\n",
    );
    tree.write("sys/devices/system/cpu/isolated", "\n");
    let mut board = board(&tree, 0);
    board.hugepages = false;
    insta::assert_snapshot!(told(&board, &tree));
}

#[test]
fn a_machine_that_was_not_set_up() {
    let tree = Tree::new();
    for path in ["sys/class/iommu", "dev/vfio", "sys/kernel/mm/hugepages"] {
        tree.remove(path);
    }
    let mut board = board(&tree, 8);
    insta::assert_snapshot!("nothing_was_set_up", told(&board, &tree));
    tree.write("sys/class/iommu/dmar0/version", "1\n");
    tree.write("dev/vfio/vfio", "");
    tree.remove("sys/bus/pci/devices/0000:01:00.0/driver");
    board.cores = None;
    insta::assert_snapshot!("not_bound", told(&board, &tree));
}

#[test]
fn a_core_that_another_poller_has() {
    let tree = Tree::new();
    let board = board(&tree, 6);
    let other = CoresConfig { locks: tree.path("run"), ..CoresConfig::new(2) };
    let other = Placement::plan(&other, &Machine::read(tree.root()).cores).unwrap().take("board1").unwrap();
    let said = told(&board, &tree);
    assert!(
        said.contains(
            "error    cores       CPU 6 shares a physical core (CPUs 2,6) with the poller of board1"
        ),
        "{said}"
    );
    drop(other);
}

#[test]
fn a_socket_is_there_or_not() {
    let tree = Tree::new();
    let mut board = board(&tree, 2);
    board.port = Some(PortConfig::VfioUser(tree.path("iobond.sock")));
    assert!(told(&board, &tree).contains("iobond.sock is not there; start the process"));
    tree.write("iobond.sock", "");
    assert!(told(&board, &tree).contains("iobond.sock is there"));
}

#[test]
fn memory_is_that_of_the_pool_which_the_board_makes() {
    let tree = Tree::new();
    tree.write(
        "proc/self/limits",
        "Max locked memory         unlimited            unlimited            bytes\n",
    );
    let mut board = board(&tree, 2);
    let back_end = BackEndConfig::new("/run/switch.sock");
    let net = NetConfig { queue_pairs: 2, ..NetConfig::new("52:54:00:00:00:01".parse().unwrap(), back_end) };
    board.functions.push(FunctionConfig::Net(net));
    board.spares.push(SpareConfig::default());
    // The disk, two pairs, their control queue, and the spare place.
    let sizes =
        [&[RingSizes::BLK][..], &[RingSizes::NET; 4], &[RingSizes::CONTROL], &[RingSizes::SPARE; 2]].concat();
    let bytes = Pool::new(&sizes, false).unwrap().length();
    let pages = bytes.div_ceil(HUGE_PAGE);
    let said = told(&board, &tree);
    let (size, locked) = (2 * pages, format!("{} MiB can be locked for the device", 2 * pages));
    assert!(said.contains(&format!("{pages} of 2 MiB for {size} MiB of rings and slots")), "{pages}\n{said}");
    assert!(said.contains(&locked), "{said}");
}
