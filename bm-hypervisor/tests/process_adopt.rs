//! A board that outlives its bm-hypervisor: one process ends at once, the next one resumes the board from
//! what was kept.
//!
//! ```text
//!   process 1   == back end 1      kept: pool, journal      process 2   == back end 2
//!     \__________ IO-Bond, which runs on, or does not _______________/
//! ```
//! Stock Linux sees the same from its side in testbench/bmhive/tests/linux_restart.rs.
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

mod double;

use std::{
    collections::BTreeMap,
    mem,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use bm_hypervisor::{
    BoardState, CommandError, Error, Handle,
    config::{BackEndConfig, BoardConfig, FunctionConfig, OnLoss, Role, SpareConfig},
    journal::Journal,
    keep::{self, Keeper, SavedFds},
    port::{Port, PortError, Region},
};
use double::{
    Bench, IoBond,
    back_end::{FEATURES, Mirror, PROTOCOL, Server, Sockets, blk, board, net},
};
use iobond_spec::{
    address::BaseAddr,
    function::DEVICE,
    offsets::{board as board_registers, functions, queues, windows},
    register_access::RegisterIo,
};

/// An IO-Bond as one bm-hypervisor process reaches it. When that is over, a thread that calls does not
/// return: no thread of a process that was killed does anything any more.
struct Process {
    bond: Arc<IoBond>,
    over: AtomicBool,
    /// The process is over at the next write of this register, before that is done.
    last_write: AtomicU32,
}

impl Process {
    fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn return_if_alive(&self) {
        while self.is_over() {
            thread::park();
        }
    }
}

impl RegisterIo for Process {
    fn read32(&self, offset: u32) -> u32 {
        self.return_if_alive();
        self.bond.read32(offset)
    }

    fn write32(&self, offset: u32, value: u32) {
        if self.last_write.load(Ordering::Acquire) == offset {
            self.end();
        }
        self.return_if_alive();
        self.bond.write32(offset, value);
    }
}

impl Port for Process {
    fn map_dma(&self, region: &Region<'_>) -> Result<(), PortError> {
        self.bond.map_dma(region)
    }

    fn unmap_dma(&self, iova: BaseAddr) -> Result<(), PortError> {
        self.bond.unmap_dma(iova)
    }

    fn reset(&self) -> Result<(), PortError> {
        self.bond.reset()
    }
}

/// Keeps descriptors, and counts how often it was told something.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<(BTreeMap<String, OwnedFd>, usize)>>);

impl Keeper for Kept {
    fn keep(&self, name: &str, fd: BorrowedFd<'_>) {
        let mut kept = self.0.lock().unwrap();
        kept.0.insert(name.to_owned(), fd.try_clone_to_owned().unwrap());
        kept.1 += 1;
    }

    fn release(&self, name: &str) {
        let mut kept = self.0.lock().unwrap();
        kept.0.remove(name);
        kept.1 += 1;
    }
}

impl Kept {
    fn told(&self) -> usize {
        self.0.lock().unwrap().1
    }

    fn get(&self, name: &str) -> OwnedFd {
        self.0.lock().unwrap().0[name].try_clone().unwrap()
    }

    fn saved(&self) -> SavedFds {
        SavedFds { pool: self.get(keep::POOL), journal: self.get(keep::JOURNAL), in_flight: vec![] }
    }

    fn pool(&self) -> u64 {
        rustix::fs::fstat(self.get(keep::POOL)).unwrap().st_ino
    }
}

/// One board and the processes that serve it, one after the other. Each has a back end at a socket of its
/// own, since the threads of the last one never close theirs.
struct Restarts {
    bond: Arc<IoBond>,
    kept: Kept,
    sockets: Sockets,
    servers: Vec<Server>,
    processes: Vec<Arc<Process>>,
}

impl Restarts {
    fn new() -> Self {
        let (servers, processes) = (vec![], vec![]);
        Self { bond: IoBond::new(), kept: Kept::default(), sockets: Sockets::new(), servers, processes }
    }

    /// A back end at `name`.
    fn serve(&mut self, name: &str) {
        self.serve_as(name, Mirror::new(FEATURES, PROTOCOL));
    }

    fn serve_as(&mut self, name: &str, mirror: Mirror) {
        self.servers.push(Server::start(mirror, &self.sockets.path(name), Role::Connect));
    }

    /// A disk with two queues that is waited for.
    fn disk(&self, name: &str) -> FunctionConfig {
        let back_end = BackEndConfig { on_loss: OnLoss::Reconnect, ..self.sockets.good_back_end(name) };
        let FunctionConfig::Blk(mut config) = blk(back_end) else { unreachable!() };
        config.queues = 2;
        FunctionConfig::Blk(config)
    }

    fn begin(&mut self, config: BoardConfig, saved: Option<SavedFds>) -> Result<Bench<Process>, Error> {
        let last_write = AtomicU32::new(u32::MAX);
        let process = Process { bond: Arc::clone(&self.bond), over: AtomicBool::new(false), last_write };
        let port = Arc::new(process);
        self.processes.push(Arc::clone(&port));
        let keeper = || Box::new(self.kept.clone()) as Box<dyn Keeper>;
        let (poller, control) = bm_hypervisor::start_kept(config, port, keeper, saved)?;
        Ok(Bench { bond: Arc::clone(&self.bond), poller, control })
    }

    /// The first process, with a disk at `one` and a driver that uses its first queue.
    fn first(&mut self) -> Bench<Process> {
        self.first_with(Mirror::new(FEATURES, PROTOCOL))
    }

    fn first_with(&mut self, mirror: Mirror) -> Bench<Process> {
        self.serve_as("one", mirror);
        let config = board(vec![self.disk("one")]);
        let mut bench = self.begin(config, None).unwrap();
        assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
        bench
    }

    /// Ends a process, as by SIGKILL, when it has written down what it did.
    fn kill(&self, mut bench: Bench<Process>) {
        // What is asked next is answered after that.
        bench.status(0);
        self.processes.last().unwrap().end();
        let Bench { poller, control, .. } = bench;
        mem::forget((poller, control));
    }

    /// The next process, with a disk at `two`.
    fn next(&mut self) -> Bench<Process> {
        self.serve("two");
        let (config, saved) = (board(vec![self.disk("two")]), self.kept.saved());
        self.begin(config, Some(saved)).unwrap()
    }

    fn is_present(&self, function: u32) -> bool {
        self.bond.get(functions::BASE + function * functions::STRIDE + functions::CONTROL) & 1 != 0
    }
}

/// A command, with passes meanwhile.
fn order<T: Send + 'static>(
    bench: &mut Bench<Process>,
    what: impl FnOnce(&Handle) -> Result<T, CommandError> + Send + 'static,
) -> T {
    let handle = bench.control.handle();
    let ordered = thread::spawn(move || what(&handle));
    bench.pass_until("an order carried out", |_, _| ordered.is_finished());
    ordered.join().unwrap().unwrap()
}

/// Has published a chain, and waits until it came back.
fn serve_one(bench: &mut Bench<Process>, context: u32, index: u16) {
    bench.bond.publish(context, index, &[1, 2, 3, 4], 4);
    bench.pass_until("used buffers", |bond, _| bond.queue(context, queues::TAIL) == u32::from(index) + 1);
    assert_eq!(bench.bond.written::<4>(context), [4, 3, 2, 1]);
}

#[test]
fn a_board_is_resumed_and_neither_driver_nor_keeper_is_told_anything() {
    let mut restarts = Restarts::new();
    let mut bench = restarts.first();
    serve_one(&mut bench, 0, 0);
    restarts.kill(bench);
    let (pool, told) = (restarts.kept.pool(), restarts.kept.told());
    let mut bench = restarts.next();
    assert_eq!(bench.status(0), 0xF);
    serve_one(&mut bench, 0, 1);
    assert_eq!((restarts.kept.pool(), restarts.bond.injected()), (pool, vec![]));
    // What is stored anew is for a moment not stored.
    assert_eq!(restarts.kept.told(), told);
    bench.stop().unwrap();
    assert!(restarts.kept.0.lock().unwrap().0.is_empty(), "a board that is stopped leaves nothing");
}

/// The back end noted nothing, and the account that the poll pass kept ended with the last process.
#[test]
fn a_disk_of_which_it_is_not_known_what_was_in_flight_asks_for_a_reset() {
    let mut restarts = Restarts::new();
    // It outlives the process that it served.
    let mut idle = Mirror::new(FEATURES, PROTOCOL);
    idle.idle = true;
    let bench = restarts.first_with(idle);
    restarts.kill(bench);
    restarts.bond.publish(0, 0, &[1, 2, 3, 4], 4);
    let mut bench = restarts.next();
    assert_eq!((bench.status(0), restarts.bond.is_enabled(0)), (0x4F, false));
    assert!(bench.control.failure().is_none(), "{:?}", bench.control.failure());
    restarts.bond.set(queues::BASE + queues::TAIL, 0);
    assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
    serve_one(&mut bench, 0, 0);
    bench.stop().unwrap();
}

/// The driver had it written down, IO-Bond had not been told; and the other way round.
#[test]
fn intentions_are_carried_out() {
    let mut restarts = Restarts::new();
    let bench = restarts.first();
    restarts.kill(bench);
    let control = |context| queues::BASE + context * queues::STRIDE + queues::CONTROL;
    let function_0_queue_1 = restarts.bond.get(control(0)) | 1 << 8;
    restarts.bond.write32(control(0), 0);
    restarts.bond.write32(control(1), function_0_queue_1);
    let mut bench = restarts.next();
    assert!(restarts.bond.is_enabled(0) && !restarts.bond.is_enabled(1));
    serve_one(&mut bench, 0, 0);
    bench.stop().unwrap();
}

/// Whatever does not fit: the board loses its power, and its functions are as they were made.
fn begins_anew(restarts: &mut Restarts, config: BoardConfig, saved: SavedFds) {
    let pool = restarts.kept.pool();
    let mut bench = restarts.begin(config, Some(saved)).unwrap();
    assert_ne!(restarts.kept.pool(), pool);
    assert!(!restarts.bond.is_enabled(0));
    assert_eq!((bench.status(0), bench.bring_up(0, u64::MAX, 1)), (0, 0xF));
    bench.bond.set(queues::BASE + queues::TAIL, 0);
    serve_one(&mut bench, 0, 0);
    bench.stop().unwrap();
}

#[test]
fn what_does_not_fit_begins_anew() {
    type Spoil = fn(&Restarts, &mut BoardConfig, &mut SavedFds);
    let spoils: [(&str, Spoil); 4] = [
        ("other rings", |_, config, _| {
            let FunctionConfig::Blk(blk) = &mut config.functions[0] else { unreachable!() };
            blk.ring.slots = Some(64);
        }),
        ("another file as the pool", |restarts, _, saved| saved.pool = restarts.kept.get(keep::JOURNAL)),
        ("an empty journal", |_, _, saved| {
            saved.journal = Journal::new().unwrap().file().try_clone_to_owned().unwrap();
        }),
        ("an IO-Bond that was reset", |restarts, _, _| {
            restarts.bond.set(windows::BASE + windows::CONTROL, 0)
        }),
    ];
    for (what, spoil) in spoils {
        println!("{what}");
        let mut restarts = Restarts::new();
        let bench = restarts.first();
        restarts.kill(bench);
        restarts.serve("two");
        let (mut config, mut saved) = (board(vec![restarts.disk("two")]), restarts.kept.saved());
        spoil(&restarts, &mut config, &mut saved);
        begins_anew(&mut restarts, config, saved);
    }
}

/// That turns out once its back end is there, which is connected to once more.
#[test]
fn without_an_in_flight_region_that_there_was_a_board_begins_anew() {
    let mut restarts = Restarts::new();
    let bench = restarts.first();
    restarts.kill(bench);
    let (mut journal, mut record) = Journal::open(restarts.kept.get(keep::JOURNAL)).unwrap();
    record.functions[0].in_flight_size = 4096;
    journal.write(&record);
    let again = thread::spawn({
        let path = restarts.sockets.path("two");
        let once = Server::start(Mirror::new(FEATURES, PROTOCOL), &path, Role::Connect);
        move || {
            while !once.is_taken() {
                thread::sleep(Duration::from_millis(1));
            }
            [once, Server::start(Mirror::new(FEATURES, PROTOCOL), &path, Role::Connect)]
        }
    });
    let (config, saved) = (board(vec![restarts.disk("two")]), restarts.kept.saved());
    begins_anew(&mut restarts, config, saved);
    drop(again.join().unwrap());
}

#[test]
fn a_back_end_that_is_away_is_an_error_and_nothing_has_changed() {
    let mut restarts = Restarts::new();
    let bench = restarts.first();
    restarts.kill(bench);
    let (registers, pool) = (restarts.bond.all(), restarts.kept.pool());
    let mut hasty = restarts.disk("two");
    if let FunctionConfig::Blk(blk) = &mut hasty {
        blk.backend.timeout_ms = 50;
    }
    for _ in 0..2 {
        let (config, saved) = (board(vec![hasty.clone()]), restarts.kept.saved());
        let Err(error) = restarts.begin(config, Some(saved)) else { panic!("without a back end") };
        assert!(error.to_string().contains("cannot connect"), "{error}");
        assert_eq!((restarts.bond.all(), restarts.kept.pool()), (registers.clone(), pool));
    }
    let mut bench = restarts.next();
    assert_eq!(bench.status(0), 0xF);
    serve_one(&mut bench, 0, 0);
    bench.stop().unwrap();
}

#[test]
fn a_disk_that_grew_meanwhile_is_told_to_its_driver() {
    let mut restarts = Restarts::new();
    let mut bench = restarts.first();
    bench.set(0, 0x10, 2, 5);
    let generation = bench.get(0, 0x15, 1);
    restarts.kill(bench);
    let grown = Mirror::new(FEATURES, PROTOCOL);
    grown.space.lock().unwrap()[..8].copy_from_slice(&4096u64.to_le_bytes());
    restarts.serve_as("two", grown);
    let (config, saved) = (board(vec![restarts.disk("two")]), restarts.kept.saved());
    let mut bench = restarts.begin(config, Some(saved)).unwrap();
    assert_eq!(restarts.bond.injected().len(), 1, "{:x?}", restarts.bond.injected());
    assert_eq!((bench.status(0), bench.get(0, 0x15, 1)), (0xF, generation + 1));
    serve_one(&mut bench, 0, 0);
    bench.stop().unwrap();
}

/// Whichever register is written for a command, what it means for the drivers stands in the journal by then.
#[test]
fn what_a_command_does_is_written_down_before_it_is_done() {
    type Command = fn(&Handle) -> Result<BoardState, CommandError>;
    let commands: [(&str, Command); 2] =
        [("reset", |handle| handle.reset()), ("power off", |handle| handle.power(false))];
    for (what, command) in commands {
        println!("{what}");
        let mut restarts = Restarts::new();
        let bench = restarts.first();
        let process = Arc::clone(restarts.processes.last().unwrap());
        process.last_write.store(board_registers::BASE + board_registers::CONTROL, Ordering::Release);
        let handle = bench.control.handle();
        // It is never answered.
        thread::spawn(move || command(&handle));
        while !process.is_over() {
            thread::sleep(Duration::from_millis(1));
        }
        mem::forget(bench);
        let mut bench = restarts.next();
        assert_eq!((bench.status(0), restarts.bond.is_enabled(0)), (0, false));
        restarts.bond.set(queues::BASE + queues::TAIL, 0);
        assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
        serve_one(&mut bench, 0, 0);
        bench.stop().unwrap();
    }
}

/// All its queues end, also those behind the one with the spoiled ring.
#[test]
fn a_back_end_that_spoiled_its_ring_meanwhile_loses_its_queues() {
    let mut restarts = Restarts::new();
    restarts.serve("one");
    let config = board(vec![restarts.disk("one")]);
    let mut bench = restarts.begin(config, None).unwrap();
    assert_eq!(bench.bring_up(0, u64::MAX, 2), 0xF);
    restarts.kill(bench);
    restarts.bond.set_used(0, 5000);
    let mut bench = restarts.next();
    let failure = bench.control.failure().unwrap().to_string();
    assert!(failure.contains("5000"), "{failure}");
    assert_eq!(bench.status(0), 0x4F);
    assert!(!restarts.bond.is_enabled(0) && !restarts.bond.is_enabled(1));
    assert!(bench.stop().is_err());
}

#[test]
fn a_link_that_is_down_is_not_told_to_its_driver_again() {
    const STATUS: u32 = DEVICE + 6;
    let mut restarts = Restarts::new();
    let station = |restarts: &Restarts, name| net(restarts.sockets.good_back_end(name), 1);
    restarts.serve("one");
    let config = board(vec![station(&restarts, "one")]);
    let mut bench = restarts.begin(config, None).unwrap();
    assert_eq!((bench.bring_up(0, u64::MAX, 2), bench.get(0, STATUS, 2)), (0xF, 1));
    order(&mut bench, |handle| handle.set_link(0, false));
    let (generation, injected) = (bench.get(0, 0x15, 1), restarts.bond.injected());
    restarts.kill(bench);
    restarts.serve("two");
    let (config, saved) = (board(vec![station(&restarts, "two")]), restarts.kept.saved());
    let mut bench = restarts.begin(config, Some(saved)).unwrap();
    assert_eq!((bench.get(0, STATUS, 2), bench.get(0, 0x15, 1)), (0, generation));
    assert_eq!(restarts.bond.injected(), injected);
    order(&mut bench, |handle| handle.set_link(0, true));
    assert_eq!(bench.get(0, STATUS, 2), 1);
    bench.stop().unwrap();
}

/// It had gone before, and its back end with it, which is not waited for.
#[test]
fn a_function_that_was_removed_stays_away() {
    let mut restarts = Restarts::new();
    restarts.serve("one");
    restarts.serve("other");
    let config = board(vec![restarts.disk("one"), restarts.disk("other")]);
    let mut bench = restarts.begin(config, None).unwrap();
    assert_eq!((bench.bring_up(0, u64::MAX, 1), bench.bring_up(1, u64::MAX, 1)), (0xF, 0xF));
    order(&mut bench, |handle| handle.remove_function(1));
    restarts.kill(bench);
    restarts.serve("two");
    let config = board(vec![restarts.disk("two"), restarts.disk("nowhere")]);
    let saved = restarts.kept.saved();
    let mut bench = restarts.begin(config, Some(saved)).unwrap();
    assert_eq!((bench.status(0), restarts.is_present(1)), (0xF, false));
    serve_one(&mut bench, 0, 0);
    bench.stop().unwrap();
}

/// Only the process that is over knew what it was, even if it had the number of one that is configured.
#[test]
fn a_function_that_was_added_is_removed() {
    for takes_a_place in [false, true] {
        let mut restarts = Restarts::new();
        ["one", "other", "added"].into_iter().for_each(|name| restarts.serve(name));
        let config = |restarts: &Restarts, one, other| BoardConfig {
            spares: vec![SpareConfig::default()],
            ..board(vec![restarts.disk(one), restarts.disk(other)])
        };
        let mut bench = restarts.begin(config(&restarts, "one", "other"), None).unwrap();
        assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
        if takes_a_place {
            order(&mut bench, |handle| handle.remove_function(1));
        }
        let disk = restarts.disk("added");
        let added = u32::from(order(&mut bench, move |handle| handle.add_function(&disk)));
        assert_eq!(added, if takes_a_place { 1 } else { 2 });
        assert_eq!(bench.bring_up(added, u64::MAX, 2), 0xF);
        assert!(restarts.bond.is_enabled(2 * added) && restarts.bond.is_enabled(2 * added + 1));
        restarts.kill(bench);
        restarts.serve("two");
        // The back end of a function that lost its place is not connected to.
        if !takes_a_place {
            restarts.serve("other two");
        }
        let (config, saved) = (config(&restarts, "two", "other two"), restarts.kept.saved());
        let mut bench = restarts.begin(config, Some(saved)).unwrap();
        assert!(!restarts.is_present(added));
        assert!(!restarts.bond.is_enabled(2 * added) && !restarts.bond.is_enabled(2 * added + 1));
        assert_eq!((bench.status(0), restarts.is_present(1)), (0xF, !takes_a_place));
        serve_one(&mut bench, 0, 0);
        // The place is free.
        restarts.serve("new");
        let disk = restarts.disk("new");
        assert_eq!(u32::from(order(&mut bench, move |handle| handle.add_function(&disk))), added);
        bench.stop().unwrap();
    }
}
