//! Commands for a board that runs, over a real IO-Bond and real back ends: what its drivers see of them.
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{fs::OpenOptions, time::Instant};

use bm_hypervisor::{
    BoardState, CommandError, QueueState,
    config::{BackEndConfig, BlkConfig, BlkLimits, FunctionConfig, LimitsConfig},
};
use iobond_spec::{address::FunctionId, function::DEVICE};
use rig::{
    by_hand::ByHand,
    live_world::{DEADLINE, Software, World, boards_on, prove},
    toml::{blk, board, net},
};
use software_board::{blk::SECTOR, bus::Bus, pci, queue::RingOptions, transport::message_data};
use virtio_drivers::transport::Transport as _;

/// A base server with a thread of its own, which passes while a test waits for a command.
fn world_of(functions: &[String]) -> World {
    boards_on("threads", &[board("board", functions)])
}

/// Configuration change interrupts of the first function.
fn changes(software: &Software) -> u64 {
    let id = FunctionId::new(0).unwrap();
    software.bus.messages(message_data(id, 0))
}

fn wait(software: &Software, what: &str, mut until: impl FnMut() -> bool) {
    let start = Instant::now();
    while !until() {
        assert!(start.elapsed() < DEADLINE, "no {what} after {DEADLINE:?}");
        software.bus.relax();
    }
}

#[test]
fn a_disk_whose_image_grew_is_larger_to_its_driver_which_uses_all_of_it() {
    let world = world_of(&[blk("size_mib = 4")]);
    let software = world.software(0);
    let commands = world.live.boards()[0].commands();
    let mut disk = software.disk(0, RingOptions::default());
    prove(&mut disk, 1);
    assert_eq!(disk.capacity(), 8192);
    let bytes = 6 << 20;
    OpenOptions::new().write(true).open(world.image(0, 0)).unwrap().set_len(bytes).unwrap();
    assert!(
        matches!(commands.resize(0, Some(bytes + 512)), Err(CommandError::Size { found, .. }) if found == bytes)
    );
    assert_eq!(changes(&software), 0, "nothing was changed");
    let resized = commands.resize(0, Some(bytes)).unwrap();
    assert_eq!((resized.before, resized.now), (4 << 20, bytes));
    wait(&software, "configuration change interrupt", || changes(&software) == 1);
    let capacity: u64 = disk.transport().read_config_space(0).unwrap();
    assert_eq!(capacity * SECTOR as u64, bytes);
    // The same driver reaches the last sector, without a reset.
    let data = vec![0x5A; SECTOR];
    disk.write(capacity - 1, &data).unwrap();
    let mut read = vec![0; SECTOR];
    disk.read(capacity - 1, &mut read).unwrap();
    assert_eq!(read, data);
    assert!(world.live.failure().is_none());
}

/// A disk in a scenario with limits does what they say and no more, until a command takes them away.
#[test]
fn a_limited_disk_does_what_it_may_and_no_more() {
    const RATE: f64 = 100.0;
    const BURST: f64 = 20.0;
    const READS: u64 = 60;
    let world = world_of(&[blk("size_mib = 4\nlimits = { iops = 100, burst_ms = 200 }")]);
    let software = world.software(0);
    let commands = world.live.boards()[0].commands();
    let mut disk = software.disk(0, RingOptions::default());
    prove(&mut disk, 1);
    let mut read = || {
        let start = Instant::now();
        for sector in 0..READS {
            disk.read(sector, &mut [0; SECTOR]).unwrap();
        }
        start.elapsed().as_secs_f64()
    };
    let seconds = read();
    // What the burst allows comes at once, the rest at the rate.
    assert!(READS as f64 <= BURST + RATE * seconds + 1.0, "{READS} in {seconds} s");
    let function = || commands.describe().unwrap().functions[0].clone();
    assert_eq!(function().limits.and_then(|limits| limits.operations_per_second), Some(100));
    assert!(function().delays > 0);

    commands.set_limits(0, None).unwrap();
    let before = function().delays;
    read();
    assert_eq!((function().limits, function().delays), (None, before));

    // Limits outlast a reset of the board and go with the registers.
    commands
        .set_limits(0, Some(LimitsConfig::Blk(BlkLimits { iops: Some(1 << 30), ..BlkLimits::default() })))
        .unwrap();
    commands.reset().unwrap();
    assert!(function().limits.is_some());
    assert!(world.live.failure().is_none());
}

#[test]
fn power_and_reset_with_reads_in_flight_leave_a_board_whose_drivers_come_up_again() {
    let world = world_of(&[blk("size_mib = 4"), net(0)]);
    let software = world.software(0);
    let commands = world.live.boards()[0].commands();
    let forwarded = || commands.queues().unwrap()[0].counted.forwarded;
    let mut counted = 0;
    for turn in 0..6 {
        let mut disk = software.disk(0, RingOptions::default());
        prove(&mut disk, turn);
        assert_eq!(commands.statistics().state, BoardState::Running);
        for number in 0..48 {
            disk.submit_read(number * 128, vec![0; 32 << 10]).unwrap();
        }
        disk.kick();
        if turn % 2 == 0 {
            assert_eq!(commands.reset().unwrap(), BoardState::Booting);
        } else {
            assert_eq!(commands.power(false).unwrap(), BoardState::Off);
            assert_eq!(
                software.bus.config_read(FunctionId::new(0).unwrap(), 0, 4),
                u32::MAX,
                "no function is there"
            );
            assert_eq!(commands.power(true).unwrap(), BoardState::Booting);
        }
        assert!(commands.queues().unwrap().iter().all(|queue| queue.state == QueueState::Disabled));
        assert!(forwarded() >= counted + 2, "what was counted is not forgotten");
        counted = forwarded();
        drop(disk);
        // The bus is as after power-on: BARs and command registers are to be set anew.
        assert_eq!(pci::enumerate(&*software.bus).unwrap().len(), 2);
    }
    software.disk_works(0, 7);
    assert!(world.live.failure().is_none());
}

#[test]
fn a_function_that_is_removed_is_gone_and_one_that_is_added_in_its_place_works() {
    let world = world_of(&[net(0), blk("size_mib = 4")]);
    let software = world.software(0);
    let commands = world.live.boards()[0].commands();
    software.disk_works(1, 1);
    let mut disk = software.disk(1, RingOptions::default());
    prove(&mut disk, 2);
    commands.remove_function(1).unwrap();
    assert_eq!(software.bus.config_read(FunctionId::new(1).unwrap(), 0, 4), u32::MAX);
    drop(disk);
    assert_eq!(commands.describe().unwrap().free.len(), 1);
    let config = FunctionConfig::Blk(BlkConfig::new(BackEndConfig::new(
        &world.live.boards()[0].back_end_sockets()[1],
    )));
    assert_eq!(commands.add_function(&config).unwrap(), 1);
    assert!(commands.add_function(&config).is_err(), "there is no second place");
    assert_eq!(pci::enumerate(&*software.bus).unwrap().len(), 2);
    software.disk_works(1, 3);
    assert!(world.live.failure().is_none());
}

#[test]
fn a_driver_by_hand_hears_of_its_link() {
    let world = world_of(&[net(0)]);
    let software = world.software(0);
    let commands = world.live.boards()[0].commands();
    // VERSION_1 and STATUS.
    let mut hand = ByHand::new(&software, 0, 1 << 32 | 1 << 16);
    hand.activate();
    let link = || {
        let bar = hand.transport.function().bars[0].address;
        software.bus.mmio_read(iobond_spec::address::BoardAddr(bar.0 + u64::from(DEVICE) + 6), 2)
    };
    assert_eq!(link(), 1);
    commands.set_link(0, false).unwrap();
    wait(&software, "configuration change interrupt", || hand.configuration_messages() == 1);
    assert_eq!(link(), 0);
    commands.set_link(0, true).unwrap();
    wait(&software, "configuration change interrupt", || hand.configuration_messages() == 2);
    assert_eq!(link(), 1);
    assert!(world.live.failure().is_none());
}
