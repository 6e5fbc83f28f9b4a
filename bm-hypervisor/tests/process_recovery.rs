//! Back ends that die and come back: their queues wait, and continue where they were.
//!
//! ```text
//!   back end   |== works ==| dies                 | comes back |== answers what is outstanding, once ==
//!   IO-Bond    | publishes | still publishes      |            | returns
//!   driver     | status F  | status F             |            | status F
//! ```

mod double;

use std::{
    os::{fd::BorrowedFd, unix::net::UnixListener},
    sync::Arc,
    time::{Duration, Instant},
};

use bm_hypervisor::{
    BackEndState,
    config::{BackEndConfig, BoardConfig, OnLoss, Role},
    keep::Keeper,
};
use double::{
    Bench, IoBond, TIMEOUT,
    back_end::{
        EVENT_IDX, FEATURES, Mirror, PROTOCOL, Server, Sockets, blk, board, net, raw, read_message, reply,
    },
};
use iobond_spec::{function::DEVICE, offsets::queues, ring::split, status_page};

/// A back end that is waited for.
fn patient(sockets: &Sockets, role: Role) -> BackEndConfig {
    BackEndConfig { role, on_loss: OnLoss::Reconnect, ..sockets.good_back_end("back-end") }
}

fn start(sockets: &Sockets, features: u64, role: Role) -> Server {
    Server::start(Mirror::new(features, PROTOCOL), &sockets.path("back-end"), role)
}

/// Until bm-hypervisor has noticed that the back end is away.
fn await_loss(bench: &mut Bench) {
    bench.pass_until("the loss", |_, control| {
        matches!(control.statistics().functions[0].back_end, BackEndState::Away { .. })
    });
}

fn await_return(bench: &mut Bench, times: u64) {
    bench.pass_until("the return", |_, control| {
        let function = &control.statistics().functions[0];
        function.reconnects == times && function.back_end == BackEndState::Connected
    });
}

/// What lies where for chain number `index` of context `n`: descriptors 2i and 2i + 1, and as many slots.
struct Chain<'a> {
    bond: &'a IoBond,
    n: u32,
    index: u16,
}

impl Chain<'_> {
    fn address(&self, register: u32) -> u64 {
        u64::from(self.bond.queue(self.n, register)) | u64::from(self.bond.queue(self.n, register + 4)) << 32
    }

    fn head(&self) -> u16 {
        2 * (self.index % 128)
    }

    fn slot(&self, number: u16) -> u64 {
        let size = u64::from(self.bond.queue(self.n, queues::SLOT_SIZE));
        self.address(queues::SLOTS_LO) + u64::from(self.head() + number) * size
    }

    /// IO-Bond publishes it, with its number as the bytes to be read.
    fn publish(&self) {
        let size = (self.bond.queue(self.n, queues::SIZES) >> 16) as u16;
        self.bond.write(self.slot(0), &u32::from(self.index).to_le_bytes());
        self.bond.write(self.slot(1), &[0; 4]);
        for (number, flags, next) in [(0, split::DESC_NEXT, self.head() + 1), (1, split::DESC_WRITE, 0)] {
            let mut descriptor = self.slot(number).to_le_bytes().to_vec();
            descriptor.extend(4u32.to_le_bytes());
            descriptor.extend(flags.to_le_bytes());
            descriptor.extend(next.to_le_bytes());
            let at = self.address(queues::SHADOW_DESC_LO) + 16 * u64::from(self.head() + number);
            self.bond.write(at, &descriptor);
        }
        let avail = self.address(queues::SHADOW_AVAIL_LO);
        self.bond.write(avail + split::avail_entry_offset(self.index, size), &self.head().to_le_bytes());
        let head = self.index.wrapping_add(1);
        self.bond.write(avail + split::IDX, &head.to_le_bytes());
        let page = 1 << 40;
        let at = page + status_page::HEADS + 4 * u64::from(self.n);
        self.bond.write(at, &u32::from(head).to_le_bytes());
    }

    /// It was answered: its number, reversed.
    fn is_answered(&self) -> bool {
        self.bond.read::<4>(self.slot(1)) == u32::from(self.index).to_be_bytes()
    }

    /// The test answers as a back end, as the `nth` that is used.
    fn answer(&self, nth: u16) {
        self.bond.write(self.slot(1), &u32::from(self.index).to_be_bytes());
        let mut element = u32::from(self.head()).to_le_bytes().to_vec();
        element.extend(4u32.to_le_bytes());
        let used = self.address(queues::SHADOW_USED_LO);
        self.bond.write(used + split::RING + 8 * u64::from(nth), &element);
        self.bond.set_used(self.n, nth + 1);
    }

    /// The head of the `nth` used element.
    fn used(&self, nth: u16) -> u16 {
        u32::from_le_bytes(
            self.bond.read(self.address(queues::SHADOW_USED_LO) + split::RING + 8 * u64::from(nth)),
        ) as u16
    }
}

fn chain(bond: &IoBond, n: u32, index: u16) -> Chain<'_> {
    Chain { bond, n, index }
}

#[test]
fn what_is_published_without_a_back_end_is_answered_by_the_next_one() {
    for (role, features) in [(Role::Connect, FEATURES), (Role::Listen, FEATURES | EVENT_IDX)] {
        let sockets = Sockets::new();
        let mut server = start(&sockets, features, role);
        let mut bench = Bench::start(board(vec![blk(patient(&sockets, role))]));
        assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
        let mut index = 0;
        for round in 1..=5 {
            for _ in 0..50 {
                chain(&bench.bond, 0, index).publish();
                index += 1;
            }
            bench.pass_until("used buffers", |bond, _| bond.queue(0, queues::TAIL) == u32::from(index));
            server.kill();
            await_loss(&mut bench);
            let before = index;
            for _ in 0..30 {
                chain(&bench.bond, 0, index).publish();
                index += 1;
            }
            for _ in 0..100 {
                bench.poller.pass();
            }
            assert_eq!((bench.bond.queue(0, queues::TAIL), bench.status(0)), (u32::from(before), 0xF));
            server = start(&sockets, features, role);
            await_return(&mut bench, round);
            bench.pass_until("used buffers", |bond, _| bond.queue(0, queues::TAIL) == u32::from(index));
            assert!((before..index).all(|index| chain(&bench.bond, 0, index).is_answered()));
        }
        let statistics = bench.stop().unwrap();
        assert_eq!((statistics.functions[0].needs_reset, statistics.functions[0].reconnects), (0, 5));
        drop(server);
    }
}

/// This back end notes nothing, and did not keep the order: bm-hypervisor knows what it left.
#[test]
fn what_was_done_out_of_order_is_not_done_again() {
    let sockets = Sockets::new();
    let mut idle = Mirror::new(FEATURES, PROTOCOL);
    idle.idle = true;
    let mut server = Server::start(idle, &sockets.path("back-end"), Role::Connect);
    let mut bench = Bench::start(board(vec![blk(patient(&sockets, Role::Connect))]));
    assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
    (0..6).for_each(|index| chain(&bench.bond, 0, index).publish());
    // 4 and 1 were noticed before the end, 5 was not.
    chain(&bench.bond, 0, 4).answer(0);
    chain(&bench.bond, 0, 1).answer(1);
    bench.pass_until("used buffers returned", |bond, _| bond.queue(0, queues::TAIL) == 2);
    chain(&bench.bond, 0, 5).answer(2);
    server.kill();
    await_loss(&mut bench);
    assert_eq!(bench.bond.queue(0, queues::TAIL), 3, "what was used before is returned at once");
    chain(&bench.bond, 0, 6).publish();
    // One that ends in order still finishes what it has in hand.
    chain(&bench.bond, 0, 3).answer(3);
    server = start(&sockets, FEATURES, Role::Connect);
    bench.pass_until("used buffers returned", |bond, _| bond.queue(0, queues::TAIL) == 7);
    let used: Vec<u16> = (0..7).map(|nth| chain(&bench.bond, 0, 0).used(nth)).collect();
    assert_eq!(used, [8, 2, 10, 6, 0, 4, 12], "0, 2 and 6 were left, in this order");
    assert!((0..7).all(|index| chain(&bench.bond, 0, index).is_answered()));
    bench.stop().unwrap();
    drop(server);
}

#[test]
fn a_driver_comes_and_goes_while_there_is_no_back_end() {
    let sockets = Sockets::new();
    let mut server = start(&sockets, FEATURES | 1 << 15, Role::Connect);
    let mut bench = Bench::start(board(vec![net(patient(&sockets, Role::Connect), 2)]));
    assert_eq!(bench.bring_up(0, u64::MAX, 5), 0xF);
    chain(&bench.bond, 1, 0).publish();
    bench.pass_until("used buffers returned", |bond, _| bond.queue(1, queues::TAIL) == 1);
    server.kill();
    await_loss(&mut bench);
    chain(&bench.bond, 1, 1).publish();
    bench.set(0, 0x14, 1, 0);
    assert_eq!((bench.status(0), bench.bond.is_enabled(1)), (0, false));
    bench.bond.set(queues::BASE + queues::STRIDE + queues::TAIL, 0);
    assert_eq!(bench.bring_up(0, u64::MAX, 5), 0xF, "it starts, and waits");
    assert!(bench.bond.is_enabled(1));
    // The control queue is not the back end's.
    bench.bond.publish(4, 0, &[4, 0, 2, 0], 1);
    bench.pass_until("the command's answer", |bond, _| bond.queue(4, queues::TAIL) == 1);
    for queue in [1, 3] {
        chain(&bench.bond, queue, 0).publish();
    }
    server = start(&sockets, FEATURES | 1 << 15, Role::Connect);
    for queue in [1, 3] {
        bench.pass_until("used buffers returned", |bond, _| bond.queue(queue, queues::TAIL) == 1);
        assert!(chain(&bench.bond, queue, 0).is_answered());
    }
    assert_eq!(bench.control.statistics().functions[0].needs_reset, 0);
    bench.stop().unwrap();
    drop(server);
}

struct NullKeeper;

impl Keeper for NullKeeper {
    fn keep(&self, _: &str, _: BorrowedFd<'_>) {}

    fn release(&self, _: &str) {}
}

/// A board that would outlive its hypervisor.
fn start_kept(config: BoardConfig) -> Bench {
    let bond = IoBond::new();
    let keeper = || Box::new(NullKeeper) as Box<dyn Keeper>;
    match bm_hypervisor::start_kept(config, Arc::clone(&bond), keeper, None) {
        Ok((poller, control)) => Bench { bond, poller, control },
        Err(error) => panic!("{error}"),
    }
}

/// The driver has just been told that all is well, or is about to be.
#[test]
fn one_that_dies_while_its_queues_start_is_waited_for() {
    const SET_FEATURES: u32 = 2;
    const SET_VRING_NUM: u32 = 8;
    const SET_VRING_KICK: u32 = 12;
    for (last, kept) in [SET_FEATURES, SET_VRING_NUM, SET_VRING_KICK]
        .into_iter()
        .flat_map(|last| [(last, false), (last, true)])
    {
        println!("at message {last}, {}", if kept { "kept" } else { "not kept" });
        let sockets = Sockets::new();
        let dying = raw(&sockets.path("back-end"), move |mut stream| {
            while let Some((request, _)) = read_message(&mut stream).filter(|(request, _)| *request != last) {
                if request == 1 {
                    reply(&mut stream, 1, &(1u64 << 32).to_le_bytes());
                }
            }
        });
        let config = board(vec![net(patient(&sockets, Role::Connect), 1)]);
        let mut bench = if kept { start_kept(config) } else { Bench::start(config) };
        assert_eq!(bench.bring_up(0, u64::MAX, 2), 0xF);
        dying.join().unwrap();
        await_loss(&mut bench);
        assert_eq!(bench.control.statistics().functions[0].running_queues, 2);
        assert!(bench.bond.is_enabled(0) && bench.bond.is_enabled(1));
        chain(&bench.bond, 1, 0).publish();
        let server = start(&sockets, FEATURES, Role::Connect);
        bench.pass_until("used buffers returned", |bond, _| bond.queue(1, queues::TAIL) == 1);
        assert!(chain(&bench.bond, 1, 0).is_answered());
        let function = bench.stop().unwrap().functions.swap_remove(0);
        assert_eq!((function.needs_reset, function.status), (0, 0xF));
        drop(server);
    }
}

#[test]
fn one_that_comes_back_as_another_is_sent_away_and_the_right_one_is_taken() {
    let sockets = Sockets::new();
    let mut server = start(&sockets, FEATURES | 1 << 6, Role::Connect);
    let mut bench = Bench::start(board(vec![blk(patient(&sockets, Role::Connect))]));
    assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
    server.kill();
    await_loss(&mut bench);
    let smaller = Mirror::new(FEATURES | 1 << 6, PROTOCOL);
    smaller.space.lock().unwrap()[0] = 1;
    server = Server::start(smaller, &sockets.path("back-end"), Role::Connect);
    bench.pass_until("a failure", |_, control| control.failure().is_some());
    let failure = bench.control.failure().unwrap().to_string();
    assert!(failure.contains("came back with another configuration space, from byte 0 on"), "{failure}");
    assert_eq!((bench.status(0), bench.bond.is_enabled(0)), (0x4F, false));
    server.kill();
    server = start(&sockets, FEATURES | 1 << 6, Role::Connect);
    await_return(&mut bench, 1);
    bench.set(0, 0x14, 1, 0);
    bench.bond.set(queues::BASE + queues::TAIL, 0);
    assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF, "a reset heals it");
    chain(&bench.bond, 0, 0).publish();
    bench.pass_until("used buffers returned", |bond, _| bond.queue(0, queues::TAIL) == 1);
    assert_eq!(bench.stop().unwrap_err().to_string(), failure);
    drop(server);
}

#[test]
fn a_link_that_is_down_stays_so_with_the_next_back_end() {
    const STATUS: u32 = DEVICE + 6;
    let sockets = Sockets::new();
    let mut server = start(&sockets, FEATURES, Role::Connect);
    let mut bench = Bench::start(board(vec![net(patient(&sockets, Role::Connect), 1)]));
    assert_eq!(bench.bring_up(0, u64::MAX, 2), 0xF);
    bench.control.handle().set_link(0, false).unwrap();
    server.kill();
    await_loss(&mut bench);
    let server = start(&sockets, FEATURES, Role::Connect);
    await_return(&mut bench, 1);
    assert!(bench.control.failure().is_none(), "{:?}", bench.control.failure());
    assert_eq!((bench.status(0), bench.get(0, STATUS, 2)), (0xF, 0));
    bench.stop().unwrap();
    drop(server);
}

/// One that is there and will not do is asked again after a while, and not as fast as it answers.
#[test]
fn one_that_will_not_do_is_not_asked_all_the_time() {
    let sockets = Sockets::new();
    let mut server = start(&sockets, FEATURES, Role::Connect);
    let mut bench = Bench::start(board(vec![blk(patient(&sockets, Role::Connect))]));
    server.kill();
    await_loss(&mut bench);
    let listener = UnixListener::bind(sockets.path("back-end")).unwrap();
    listener.set_nonblocking(true).unwrap();
    let (began, mut asked) = (Instant::now(), 0);
    bench.pass_until("a while", |_, _| {
        while let Ok((mut stream, _)) = listener.accept() {
            asked += 1;
            // GET_FEATURES: those of a device from before virtio 1.0.
            while let Some((request, _)) = read_message(&mut stream) {
                if request == 1 {
                    reply(&mut stream, 1, &0u64.to_le_bytes());
                }
            }
        }
        began.elapsed() > Duration::from_millis(1500)
    });
    assert!(asked >= 1 && asked <= 2 + began.elapsed().as_secs(), "{asked} times in {:?}", began.elapsed());
    assert!(bench.stop().unwrap_err().to_string().contains("protocol feature CONFIG"));
}

/// No back end comes for long, and the board does not wait for the search when it stops.
#[test]
fn a_board_stops_while_it_looks_for_a_back_end() {
    for role in [Role::Connect, Role::Listen] {
        let sockets = Sockets::new();
        let mut server = start(&sockets, FEATURES, role);
        let mut bench = Bench::start(board(vec![blk(patient(&sockets, role))]));
        assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
        server.kill();
        await_loss(&mut bench);
        let start = Instant::now();
        bench.pass_until("half a second", |_, _| start.elapsed() > Duration::from_millis(500));
        let stopping = Instant::now();
        bench.stop().unwrap();
        assert!(stopping.elapsed() < TIMEOUT, "{:?}", stopping.elapsed());
    }
}
