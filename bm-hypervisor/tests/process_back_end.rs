//! A board with good back ends: from the driver's first access to the last used buffer, and down again.

mod double;

use bm_hypervisor::config::{BackEndConfig, BlkConfig, FunctionConfig, Notify, PollMode, Role};
use double::{
    Bench,
    back_end::{EVENT_IDX, FEATURES, Mirror, PROTOCOL, Server, Sockets, blk, board, console, net},
};
use iobond_spec::offsets::{functions, queues};

/// Sends `count` chains through queue context `n`, each answered with its bytes reversed.
fn mirror(bench: &mut Bench, n: u32, count: u16) {
    for index in 0..count {
        let bytes: [u8; 4] = u32::from(index).wrapping_mul(0x0123_4567).to_le_bytes();
        bench.bond.publish(n, index, &bytes, 64);
        let tail = u32::from(index) + 1;
        bench.pass_until("used buffers returned", |bond, _| bond.queue(n, queues::TAIL) == tail);
        let reversed = u32::from(index).wrapping_mul(0x0123_4567).to_be_bytes();
        assert_eq!(bench.bond.written::<4>(n), reversed);
    }
}

#[test]
fn a_disk_works_in_either_role_with_flags_and_with_event_indices() {
    for (role, features) in [(Role::Connect, FEATURES), (Role::Listen, FEATURES | EVENT_IDX)] {
        let sockets = Sockets::new();
        let server = Server::start(Mirror::new(features, PROTOCOL), &sockets.path("disk"), role);
        let mut bench =
            Bench::start(board(vec![blk(BackEndConfig { role, ..sockets.good_back_end("disk") })]));
        assert_eq!(bench.get(0, 0x2000, 4), 2048, "capacity");
        assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
        mirror(&mut bench, 0, 300);
        let statistics = bench.stop().unwrap();
        assert_eq!((statistics.poll.returned, statistics.functions[0].refused_accesses), (300, 0));
        drop(server);
    }
}

#[test]
fn registers_can_be_polled_instead_of_the_status_page() {
    let sockets = Sockets::new();
    let _server = Server::start(Mirror::new(FEATURES, PROTOCOL), &sockets.path("disk"), Role::Connect);
    let mut config = board(vec![blk(sockets.good_back_end("disk"))]);
    config.poll = PollMode::Registers;
    let mut bench = Bench::start(config);
    assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
    bench.bond.publish(0, 0, &[1, 2, 3], 64);
    bench.bond.set(queues::BASE + queues::HEAD, 1);
    bench.pass_until("used buffers returned", |bond, _| bond.queue(0, queues::TAIL) == 1);
    bench.stop().unwrap();
}

#[test]
fn a_poll_thread_may_sleep_until_back_ends_and_control_thread_wake_it() {
    for features in [FEATURES, FEATURES | EVENT_IDX] {
        let sockets = Sockets::new();
        let _server =
            Server::start(Mirror::new(features | 1 << 15, PROTOCOL), &sockets.path("net"), Role::Connect);
        let mut bench = Bench::start(board(vec![net(sockets.good_back_end("net"), 2)]));
        assert_eq!(bench.bring_up(0, u64::MAX, 5), 0xF);
        for index in 0..100 {
            bench.bond.publish(1, index, &[1, 2, 3, 4], 64);
            let tail = u32::from(index) + 1;
            bench.sleep_until("used buffers returned", |bond, _| bond.queue(1, queues::TAIL) == tail);
        }
        bench.bond.publish(4, 0, &[4, 0, 2, 0], 1);
        bench.sleep_until("the command's answer", |bond, _| bond.queue(4, queues::TAIL) == 1);
        // A reset takes five queues back, each by an order.
        let sequence = bench.bond.request(2, 0, 0x14, 1, 0);
        bench.sleep_until("queues are taken back", |_, poller| poller.queues() == 0);
        bench.pass_until("an answer", |bond, _| bond.answer(sequence).is_some());
        bench.stop().unwrap();
    }
}

#[test]
fn a_back_end_that_polls_is_not_kicked() {
    let sockets = Sockets::new();
    let _server = Server::start(Mirror::new(FEATURES, PROTOCOL), &sockets.path("disk"), Role::Connect);
    let config = BackEndConfig { notify: Notify::Poll, ..sockets.good_back_end("disk") };
    let mut bench = Bench::start(board(vec![blk(config)]));
    assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
    bench.bond.publish(0, 0, &[1], 64);
    // This back end waits for kicks, so the test does its work.
    bench.bond.set_used(0, 1);
    bench.pass_until("used buffers returned", |bond, _| bond.queue(0, queues::TAIL) == 1);
    let poll = bench.stop().unwrap().poll;
    assert_eq!((poll.published, poll.kicked, poll.returned), (1, 0, 1));
}

#[test]
fn resets_stop_every_queue_and_it_starts_again() {
    let sockets = Sockets::new();
    let server = Server::start(Mirror::new(FEATURES, PROTOCOL), &sockets.path("disk"), Role::Connect);
    let mut bench = Bench::start(board(vec![blk(sockets.good_back_end("disk"))]));
    for round in 0..3 {
        assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
        assert!(bench.bond.is_enabled(0));
        mirror(&mut bench, 0, 5);
        match round {
            0 => bench.set(0, 0x14, 1, 0),
            1 => bench.reset(0),
            _ => {
                // One queue alone (virtio 1.3, 2.6.1), which is then set up anew.
                bench.set(0, 0x16, 2, 0);
                bench.set(0, 0x3A, 2, 1);
                assert_eq!(
                    (bench.get(0, 0x3A, 2), bench.get(0, 0x1C, 2), bench.bond.is_enabled(0)),
                    (0, 0, false)
                );
                bench.enable_queue(0, 0);
                mirror(&mut bench, 0, 5);
                bench.set(0, 0x14, 1, 0);
            }
        }
        assert!(!bench.bond.is_enabled(0));
        assert_eq!(bench.status(0), 0);
    }
    assert_eq!(server.log.lock().unwrap().iter().filter(|line| *line == "stop 0").count(), 4);
    let statistics = bench.stop().unwrap();
    assert_eq!((statistics.mailbox.resets, statistics.functions[0].running_queues), (1, 0));
}

/// A driver that is killed, or a kernel that starts another, resets with whatever it has in flight.
#[test]
fn a_reset_in_the_middle_of_everything_leaves_nothing_behind() {
    let sockets = Sockets::new();
    let _server =
        Server::start(Mirror::new(FEATURES | EVENT_IDX, PROTOCOL), &sockets.path("disk"), Role::Connect);
    let two_queues = BlkConfig { queues: 2, ..BlkConfig::new(sockets.good_back_end("disk")) };
    let mut bench = Bench::start(board(vec![FunctionConfig::Blk(two_queues)]));
    for round in 0..30 {
        assert_eq!(bench.bring_up(0, u64::MAX, 2), 0xF);
        for n in 0..2 {
            bench.bond.set(queues::BASE + n * queues::STRIDE + queues::TAIL, 0);
            // The whole ring; how much of it is taken up by the time of the reset differs from run to run.
            (0..256).for_each(|index| bench.bond.publish(n, index, &[1, 2, 3], 64));
        }
        for _ in 0..round {
            bench.poller.pass();
        }
        match round % 2 {
            0 => bench.set(0, 0x14, 1, 0),
            _ => bench.reset(0),
        }
        assert_eq!((bench.status(0), bench.poller.queues()), (0, 0));
        for n in 0..2 {
            bench.bond.set(queues::BASE + n * queues::STRIDE + queues::TAIL, 0);
        }
        assert_eq!(bench.bring_up(0, u64::MAX, 2), 0xF);
        mirror(&mut bench, 0, 3);
        mirror(&mut bench, 1, 3);
    }
    let statistics = bench.stop().unwrap();
    assert_eq!((statistics.functions[0].needs_reset, statistics.functions[0].refused_accesses), (0, 0));
}

#[test]
fn a_network_function_has_as_many_pairs_as_its_driver_asks_for() {
    let sockets = Sockets::new();
    let server =
        Server::start(Mirror::new(FEATURES | 1 << 15, PROTOCOL), &sockets.path("net"), Role::Connect);
    let mut bench = Bench::start(board(vec![net(sockets.good_back_end("net"), 2)]));
    assert_eq!(bench.get(0, 0x2008, 2), 2, "max_virtqueue_pairs");
    assert_eq!(bench.bring_up(0, u64::MAX, 5), 0xF);
    mirror(&mut bench, 1, 3);
    // The second pair is not enabled at the back end until VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET.
    bench.bond.publish(3, 0, &[7, 8], 64);
    for _ in 0..1000 {
        bench.poller.pass();
    }
    assert_eq!(bench.bond.queue(3, queues::TAIL), 0);
    bench.bond.publish(4, 0, &[4, 0, 2, 0], 1);
    bench.pass_until("the command's answer", |bond, _| bond.queue(4, queues::TAIL) == 1);
    assert_eq!(bench.bond.written::<1>(4), [0], "VIRTIO_NET_OK");
    bench.pass_until("the second pair's buffers", |bond, _| bond.queue(3, queues::TAIL) == 1);
    assert_eq!(bench.bond.written::<2>(3), [8, 7]);
    assert!(
        server.log.lock().unwrap().iter().any(|line| line.starts_with("features") && line.ends_with("8000"))
    );
    bench.stop().unwrap();
}

#[test]
fn a_console_is_as_large_as_its_back_end_says_and_prints_and_types() {
    let sockets = Sockets::new();
    let mirror_of_80x25 = Mirror::new(FEATURES | 1, PROTOCOL);
    mirror_of_80x25.space.lock().unwrap()[..4].copy_from_slice(&[80, 0, 25, 0]);
    let server = Server::start(mirror_of_80x25, &sockets.path("console"), Role::Connect);
    let mut bench = Bench::start(board(vec![console(sockets.good_back_end("console"))]));
    let space = functions::BASE + functions::CONFIG;
    assert_eq!((bench.bond.get(space), bench.bond.get(space + 8)), (0x1043_1AF4, 0x07_80_00_01));
    assert_eq!((bench.get(0, 0x2000, 4), bench.get(0, 0x2004, 4)), (25 << 16 | 80, 1), "size, max_nr_ports");
    assert_eq!(bench.bring_up(0, u64::MAX, 2), 0xF);
    mirror(&mut bench, 0, 70);
    mirror(&mut bench, 1, 70);
    let settled = server.log.lock().unwrap()[0].clone();
    assert!(settled.starts_with("features") && settled.ends_with('1'), "SIZE is the back end's: {settled}");
    bench.stop().unwrap();
}

#[test]
fn what_the_board_finds_is_programmed_and_what_it_had_is_taken_back() {
    use iobond_spec::offsets::{board as power, status_page, windows};
    let sockets = Sockets::new();
    let _disk = Server::start(Mirror::new(FEATURES, PROTOCOL), &sockets.path("disk"), Role::Connect);
    let _net = Server::start(Mirror::new(FEATURES, PROTOCOL), &sockets.path("net"), Role::Connect);
    let config = board(vec![blk(sockets.good_back_end("disk")), net(sockets.good_back_end("net"), 1)]);
    let mut bench = Bench::start(config);
    let function = |n: u32, at: u32| functions::BASE + n * functions::STRIDE + at;
    assert_eq!(bench.bond.get(function(0, functions::CONFIG)), 0x1042_1AF4);
    assert_eq!(bench.bond.get(function(1, functions::CONFIG)), 0x1041_1AF4);
    assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
    assert_eq!(bench.bring_up(1, u64::MAX, 2), 0xF);
    assert_eq!(
        bench.bond.queue(2, queues::CONTROL),
        1 | 1 << 1 | 1 << 4 | 2 << 16,
        "context 2: function 1, queue 1"
    );
    let bond = std::sync::Arc::clone(&bench.bond);
    bench.stop().unwrap();
    for register in [
        power::BASE + power::CONTROL,
        windows::BASE + windows::CONTROL,
        status_page::BASE + status_page::CONTROL,
        function(0, functions::CONTROL),
        function(1, functions::CONTROL),
    ] {
        assert_eq!(bond.get(register), 0, "{register:#x}");
    }
    assert!(!(0..3).any(|n| bond.is_enabled(n)) && !bond.is_mapped());
}

#[test]
fn a_queue_that_io_bond_stopped_asks_its_driver_for_a_reset_and_leaves_others_alone() {
    let sockets = Sockets::new();
    let _one = Server::start(Mirror::new(FEATURES, PROTOCOL), &sockets.path("one"), Role::Connect);
    let _two = Server::start(Mirror::new(FEATURES, PROTOCOL), &sockets.path("two"), Role::Connect);
    let mut bench =
        Bench::start(board(vec![blk(sockets.good_back_end("one")), blk(sockets.good_back_end("two"))]));
    for function in 0..2 {
        assert_eq!(bench.bring_up(function, u64::MAX, 1), 0xF);
        bench.set(function, 0x10, 2, 9);
    }
    bench.bond.break_queue(0, 3);
    bench.pass_until("an interrupt", |bond, _| !bond.injected().is_empty());
    assert_eq!(bench.bond.injected(), [(0, 9 | 1 << 16)]);
    assert_eq!((bench.status(0), bench.status(1)), (0x4F, 0xF));
    mirror(&mut bench, 1, 3);
    bench.set(0, 0x14, 1, 0);
    assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF, "a reset heals it");
    let statistics = bench.stop().unwrap();
    assert_eq!((statistics.functions[0].queue_errors, &statistics.functions[0].last_queue_error), (1, &None));
    assert_eq!((statistics.functions[0].needs_reset, statistics.functions[1].needs_reset), (1, 0));
}
