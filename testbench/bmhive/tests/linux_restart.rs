//! A Linux board whose hypervisor and whose disk's back end are killed under it: it sees pauses.
//!
//! ```text
//!   board:   fio --verify, in rounds ----------------------------------------------> exit 0 each
//!            reads device_status, rebinds virtio_net -------------------------------> answered each time
//!   host:    bm-hypervisor x x x x    vhost-blk x x x    both x x x    successors x x x
//!   IO-Bond: forwards, waits, returns ----------------------------------------------> forwarded == retired
//! ```
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{
    fmt, fs,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use iobond_model::live::Bond;
use iobond_spec::offsets::queues;
use rig::{
    kept::{DISK_QUEUES, Kept, TIMEOUT, request},
    linux::Shell,
    test_folder::seed,
};
use sha2::{Digest, Sha256};

/// How often each is killed.
const KILLS: usize = 8;
/// The same where both are killed, and where a process is killed while it resumes the board.
const FEW: usize = 3;
/// Milliseconds: a process that ends sooner failed to start, and bm-keeper waits before it starts the next
/// one.
const LONG_RUN: u64 = 1_100;

/// Two jobs, so that both queues of the disk have work, each with half of it. Rounds of some seconds, until
/// there is enough.
const LOAD: &str = "
    fio_round() {
        fio --name=v --filename=/dev/vda --direct=1 --ioengine=libaio --iodepth=16 --rw=randrw --bs=4k-32k \
            --numjobs=2 --size=16m --offset_increment=16m --verify=crc32c --verify_backlog=256 --verify_fatal=1 \
            --time_based --runtime=6 --group_reporting >>/tmp/fio 2>&1 || { echo $? >/tmp/failed; return 1; }
    }
    { while [ ! -e /tmp/enough ] && fio_round; do echo >>/tmp/rounds; done; touch /tmp/end; } &";

/// What a shell does over and over: forwarded reads, and every few of them a driver that goes and comes back.
const STATUS: &str = "cat /sys/bus/virtio/devices/*/status";
const REBIND: &str = "
    device=$(basename $(readlink /sys/class/net/eth0/device)); cd /sys/bus/virtio/drivers/virtio_net
    echo $device >unbind && echo $device >bind; cd /; cat /sys/class/net/eth0/address";

/// What was done at the console, each time with the right answer.
#[derive(Default)]
struct Typed {
    reads: usize,
    rebinds: usize,
    /// The longest that an access of these stood in the mailbox.
    longest: Duration,
}

impl fmt::Display for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reads, rebinds, longest } = self;
        write!(
            f,
            "{reads} reads of device_status, {rebinds} rebinds; an access stood for {longest:.1?} at most"
        )
    }
}

/// Types until it is told that it is enough.
fn type_on(shell: &mut Shell, enough: &AtomicBool) -> Typed {
    let mut typed = Typed::default();
    while !enough.load(Ordering::Relaxed) {
        // ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK, and nothing else: no DEVICE_NEEDS_RESET.
        assert_eq!(shell.check(STATUS), "0x0000000f\n".repeat(3));
        typed.reads += 3;
        if typed.reads % 12 == 0 {
            assert_eq!(shell.check(REBIND), "52:54:00:10:0b:00\n");
            typed.rebinds += 1;
        }
    }
    typed
}

/// How long the longest forwarded access stood that was there in two looks, until it is enough.
fn watch_mailbox(bond: &Bond, enough: &AtomicBool) -> Duration {
    let (mut longest, mut since, mut last) = (Duration::ZERO, Instant::now(), None);
    while !enough.load(Ordering::Relaxed) {
        let request = request(bond);
        if request != last {
            (since, last) = (Instant::now(), request);
        } else if request.is_some() {
            longest = longest.max(since.elapsed());
        }
        thread::sleep(Duration::from_micros(500));
    }
    longest
}

/// What kills, and what it measured.
struct Killer {
    kept: Kept,
    dice: Rng,
    /// How often bm-hypervisor was ended by SIGKILL.
    kills: usize,
    /// From each, where all else runs on, to the first chain that the next process returned.
    pauses: Vec<Duration>,
}

impl Killer {
    fn sleep(&mut self, from: u64, to: u64) {
        let micros = self.dice.u64(1_000 * from..=1_000 * to);
        thread::sleep(Duration::from_micros(micros));
    }

    /// How far the queues of the disk may be returned.
    fn tails(&self) -> [u16; 2] {
        DISK_QUEUES.map(|context| self.kept.queue(context, queues::TAIL) as u16)
    }

    /// Chains of the disk that IO-Bond took in and has not returned.
    fn outstanding(&self) -> u32 {
        let outstanding = |context| {
            let [forwarded, retired] =
                [queues::FORWARDED, queues::RETIRED].map(|at| self.kept.queue(context, at));
            forwarded.wrapping_sub(retired)
        };
        DISK_QUEUES.into_iter().map(outstanding).sum()
    }

    /// Waits until a chain is returned that was not to be then.
    fn await_completion(&self, tails: [u16; 2]) {
        self.kept.wait("completions", || {
            let ahead = |(context, tail): (u32, u16)| {
                (self.kept.queue(context, queues::RETIRED) as u16).wrapping_sub(tail).cast_signed() > 0
            };
            DISK_QUEUES.into_iter().zip(tails).any(ahead)
        });
    }

    fn kill_hypervisor(&mut self) {
        self.kept.kill_hypervisor();
        self.kills += 1;
    }

    fn hypervisors(&mut self) {
        for _ in 0..KILLS {
            self.sleep(LONG_RUN, LONG_RUN + 400);
            let (served, killed) = (self.kept.served(), Instant::now());
            self.kill_hypervisor();
            // Without a request in hand the next completion is the guest's to begin, which says nothing.
            let waited_for = self.outstanding() > 0;
            self.await_completion(self.tails());
            self.pauses.extend(waited_for.then(|| killed.elapsed()));
            self.kept.await_served(served + 1);
        }
    }

    fn disks(&mut self) {
        for _ in 0..KILLS {
            self.sleep(0, 400);
            self.kept.disk.kill();
            self.sleep(0, 100);
            let tails = self.tails();
            self.kept.disk.start_again();
            self.await_completion(tails);
        }
    }

    /// One soon after the other, in either order; the next bm-hypervisor waits for the disk.
    fn both(&mut self) {
        for turn in 0..FEW {
            self.sleep(LONG_RUN, LONG_RUN + 400);
            let served = self.kept.served();
            if turn % 2 == 0 {
                self.kept.disk.kill();
                self.sleep(0, 20);
                self.kill_hypervisor();
            } else {
                self.kill_hypervisor();
                self.sleep(0, 20);
                self.kept.disk.kill();
            }
            self.sleep(0, 200);
            let tails = self.tails();
            self.kept.disk.start_again();
            self.await_completion(tails);
            self.kept.await_served(served + 1);
        }
    }

    /// A process that is killed while it resumes the board, or has just done it.
    fn successors(&mut self) {
        for _ in 0..FEW {
            self.sleep(LONG_RUN, LONG_RUN + 400);
            self.kill_hypervisor();
            for _ in 0..2 {
                self.kept.hypervisor();
                self.sleep(0, 15);
                self.kill_hypervisor();
            }
            let tails = self.tails();
            self.await_completion(tails);
        }
    }

    fn print_pauses(&mut self) {
        self.pauses.sort_unstable();
        let pause = |at: usize| self.pauses.get(at).copied().unwrap_or_default();
        let (middle, worst) = (pause(self.pauses.len() / 2), pause(self.pauses.len().saturating_sub(1)));
        println!(
            "from SIGKILL to the next completion: median {middle:.1?}, worst {worst:.1?}, {:?}",
            self.pauses
        );
    }
}

/// Every process but the first resumed the board; those that were killed meanwhile may have. How long they
/// say that it took.
fn assert_adoptions(killer: &Killer) {
    let said = killer.kept.stderr();
    let took: Vec<_> = said.lines().filter_map(|line| line.split("resumed the board").nth(1)).collect();
    println!("adoptions:{}", took.concat());
    assert!((killer.kept.served() - 1..=killer.kills).contains(&took.len()), "{}: {said}", took.len());
}

/// Of a board at rest: all that was taken in was returned, and nothing was left out.
fn assert_at_rest(kept: &Kept) {
    for context in DISK_QUEUES {
        let [forwarded, retired] = [queues::FORWARDED, queues::RETIRED].map(|at| kept.queue(context, at));
        assert!(forwarded == retired && retired > 1_000, "context {context}: {forwarded}, {retired}");
    }
}

/// Everything but the bm-hypervisor processes that were killed is as it was.
fn assert_as_it_was(killer: &Killer, pool: u64) {
    let (kept, said) = (&killer.kept, killer.kept.stderr());
    assert_eq!(kept.pool(), pool);
    assert_eq!(said.matches("bm-keeper: the command was ended by signal 9").count(), killer.kills, "{said}");
    for trouble in ["power-cycling it", "begins anew", "is asked for a reset", "cannot be told"] {
        assert!(!said.contains(trouble), "{trouble:?}: {said}");
    }
}

/// Every round of fio's ended well, and how many there were; requests of them all, by reading and writing.
fn rounds(shell: &mut Shell) -> (usize, [u64; 2]) {
    shell.check("touch /tmp/enough");
    shell.run_within("while [ ! -e /tmp/end ]; do sleep .2; done", TIMEOUT);
    let said = shell.check("cat /tmp/fio");
    assert_eq!(shell.run("cat /tmp/failed").0, 1, "{said}");
    let rounds = shell.check("wc -l </tmp/rounds").trim().parse().unwrap();
    // issued rwts: total=READS,WRITES,TRIMS,SYNCS ...
    let totals = said.lines().filter_map(|line| line.split("issued rwts: total=").nth(1));
    let totals =
        totals.map(|line| line.split(',').map(|count| count.parse().unwrap_or(0)).collect::<Vec<u64>>());
    let sums = totals.fold([0, 0], |[reads, writes], counts| [reads + counts[0], writes + counts[1]]);
    (rounds, sums)
}

/// Kills while a shell is typed at, and looks how long an access stands.
fn while_typing(killer: &mut Killer, shell: &mut Shell, kill: fn(&mut Killer)) -> Typed {
    let (enough, bond) = (AtomicBool::new(false), Arc::clone(&killer.kept.bond));
    thread::scope(|scope| {
        let typing = scope.spawn(|| type_on(shell, &enough));
        let watching = scope.spawn(|| watch_mailbox(&bond, &enough));
        // The typing ends also when the killing fails.
        let killed = panic::catch_unwind(AssertUnwindSafe(|| kill(killer)));
        enough.store(true, Ordering::Relaxed);
        killed.unwrap_or_else(|failed| panic::resume_unwind(failed));
        Typed { longest: watching.join().unwrap(), ..typing.join().unwrap() }
    })
}

#[test]
fn a_board_runs_on_whatever_dies_behind_it() {
    let dice = Rng::with_seed(seed());
    let mut kept = Kept::start();
    let mut shell = kept.boot();
    let pool = kept.pool();
    let mut killer = Killer { kept, dice, kills: 0, pauses: vec![] };
    shell.check(LOAD);
    killer.await_completion(killer.tails());

    let typed = while_typing(&mut killer, &mut shell, Killer::hypervisors);
    println!("bm-hypervisor killed: {typed}");
    killer.print_pauses();
    println!("vhost-blk killed: {}", while_typing(&mut killer, &mut shell, Killer::disks));
    assert_eq!(killer.kept.expired(), [0, 0], "reads, writes");
    killer.both();
    killer.successors();

    let (rounds, [reads, writes]) = rounds(&mut shell);
    println!("{rounds} rounds of fio: {reads} reads, {writes} writes");
    assert!(rounds > 1 && reads > 1_000 && writes > 1_000 && typed.rebinds > 1);
    assert_eq!(shell.check(STATUS), "0x0000000f\n".repeat(3));
    shell.check("! dmesg | grep -E 'dev vd|I/O error|virtio.*(fail|error|reset)|eth0.*(fail|error|timed out)|WARNING|BUG:|hung'");
    assert_at_rest(&killer.kept);
    assert_as_it_was(&killer, pool);
    assert_adoptions(&killer);
    shell.check("sync; echo 3 >/proc/sys/vm/drop_caches");
    let seen = shell.check("dd if=/dev/vda bs=1M iflag=direct status=none | sha256sum | cut -d' ' -f1");
    let image = fs::read(killer.kept.folder.path("disk.img")).unwrap();
    let sum = Sha256::digest(&image).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(seen.trim(), sum);
    end(killer.kept, shell, pool);
}

/// In order, with a board that has power; and a fresh start begins with nothing of it.
fn end(mut kept: Kept, shell: Shell, pool: u64) {
    let served = kept.served();
    assert_eq!(kept.keeper.terminate().code(), Some(0), "{}", kept.stderr());
    assert!(kept.stdout().ends_with("board board0 is stopped\n"));
    drop((shell, kept.qemu.take()));
    assert!(kept.folder.leftovers().is_empty(), "{:?}", kept.folder.leftovers());
    let before = kept.stderr().len();
    kept.keeper.start_again();
    kept.await_served(served + 1);
    assert_ne!(kept.pool(), pool);
    assert!(!kept.stderr()[before..].contains("resumed"));
    assert_eq!(kept.keeper.terminate().code(), Some(0));
}
