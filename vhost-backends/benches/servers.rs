//! Figures of the servers, driven by a front end in this process: `cargo bench -p vhost-backends`, or only
//! those whose names contain what is given: `cargo bench -p vhost-backends -- disk`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A bench that cannot go on has nothing to say.

#[path = "../tests/front_end/mod.rs"]
mod front_end;
#[path = "../tests/rig/mod.rs"]
mod rig;

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use front_end::{DATA, EVENT_IDX, FrontEnd, Part, Place, Setup, on_the_other_core};
use rig::idle_board::Board;
use rig::{blk, console, net};
use vm_memory::{Bytes, GuestAddress};

/// Every bench, in the order in which they run.
const BENCHES: [(&str, fn()); 5] = [
    ("disk_latency", disk_latency),
    ("disk_throughput", disk_throughput),
    ("network", network),
    ("console", console),
    ("idle", idle),
];

fn main() {
    // Cargo adds `--bench`.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for (name, bench) in BENCHES {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            println!("{name}");
            bench();
        }
    }
}

/// Median and 99th percentile.
fn percentiles(times: &mut [Duration]) -> String {
    times.sort();
    format!("p50 {:?}, p99 {:?}", times[times.len() / 2], times[times.len() / 100 * 99])
}

/// One read of 4 KiB at a time, by a server that looks at its idle ring for a while and by one that does not.
fn disk_latency() {
    for poll in ["50", "0"] {
        let setup = Setup { call: false, ..Setup::default() };
        let mut rig = on_the_other_core(|| blk::Rig::new(&["--poll-us", poll], &setup));
        let mut times: Vec<Duration> = (0..20_000)
            .map(|turn| {
                let start = Instant::now();
                assert_eq!(rig.request(blk::IN, turn * 8 % blk::SECTORS, &[], 4096).0, blk::OK);
                start.elapsed()
            })
            .collect();
        let kicks = rig.front_end.rings[0].kicks;
        println!("read of 4 KiB, --poll-us {poll}: {}, {kicks} kicks", percentiles(&mut times));
    }
}

/// Requests of 1 MiB in slots of 4 KiB, one at a time, beside `pread` and `pwrite` of the same image. The
/// rounds alternate, so that a noisy neighbour meets both.
fn disk_throughput() {
    const MIB: usize = 1 << 20;
    const IMAGE: usize = 256 * MIB;
    const ROUNDS: usize = 64;
    let place = Place::new();
    fs::write(place.path("image"), vec![1; IMAGE]).unwrap();
    let server = on_the_other_core(|| blk::start(&place, &[]));
    let setup = Setup { call: false, ..Setup::default() };
    let mut front_end = FrontEnd::connect(&place.path("socket"), &setup);
    let file = fs::OpenOptions::new().read(true).write(true).open(place.path("image")).unwrap();
    let mut plain = vec![1; MIB];
    for (name, kind) in [("read", blk::IN), ("write", blk::OUT)] {
        let mut rates = [Vec::new(), Vec::new()];
        let mut share = 0.0;
        // Described once: what it costs to describe a request is the driver's affair.
        let head = front_end.rings[0].add_indirect(&blk::scattered(kind, 256, 4096));
        front_end.rings[0].notify(1);
        front_end.rings[0].wait_used();
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            for at in (0..IMAGE).step_by(MIB) {
                match kind {
                    blk::IN => file.read_exact_at(&mut plain, at as u64).unwrap(),
                    _ => file.write_all_at(&plain, at as u64).unwrap(),
                }
            }
            rates[0].push(IMAGE as f64 / begin.elapsed().as_secs_f64());

            let (begin, cpu) = (Instant::now(), server.cpu_time());
            for at in (0..IMAGE).step_by(MIB) {
                blk::write_header(&front_end, 0, kind, at as u64 / 512);
                let ring = &mut front_end.rings[0];
                ring.offer(head);
                ring.notify(1);
                ring.wait_used();
                assert_eq!(
                    front_end.memory.read_obj::<u8>(GuestAddress(blk::buffers(0).0 + 16)).unwrap(),
                    blk::OK
                );
            }
            rates[1].push(IMAGE as f64 / begin.elapsed().as_secs_f64());
            share = (server.cpu_time() - cpu).as_secs_f64() / begin.elapsed().as_secs_f64();
        }
        let [plain, disk] = rates.map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[ROUNDS / 2] / 1e9
        });
        let kicks = front_end.rings[0].kicks;
        println!(
            "{name} of 1 MiB: {disk:.2} GB/s, plain {plain:.2} GB/s, ratio {:.2}, the server had {share:.2} of a core, {kicks} kicks",
            disk / plain
        );
    }
}

/// Small frames there and back, and as many as go one way.
fn network() {
    let rig = on_the_other_core(|| net::Rig::new(2, &[]));
    // Both poll: neither wants to be interrupted.
    let [mut a, mut b] = [0, 1].map(|port| rig.station_with(port, EVENT_IDX, 1, false));
    for station in [&mut a, &mut b] {
        (0..240).for_each(|_| station.provide(0, 2048));
        station.refills = true;
    }
    let (ping, pong) = (net::frame(net::mac(2), net::mac(1), 60), net::frame(net::mac(1), net::mac(2), 60));
    let mut times: Vec<Duration> = (0..20_000)
        .map(|_| {
            let start = Instant::now();
            a.send(&ping);
            b.receive();
            b.send(&pong);
            a.receive();
            start.elapsed()
        })
        .collect();
    println!("there and back, 60 B: {}", percentiles(&mut times));

    let mut outstanding = 0;
    for len in [60, 1514] {
        a.front_end.memory.write_slice(&net::PLAIN, GuestAddress(DATA)).unwrap();
        a.front_end
            .memory
            .write_slice(&net::frame(net::mac(2), net::mac(1), len), GuestAddress(DATA + 12))
            .unwrap();
        let (mut sent, mut received) = (0u64, 0u64);
        let (start, cpu) = (Instant::now(), rig.server.cpu_time());
        while start.elapsed() < Duration::from_secs(1) {
            while outstanding < 200 {
                a.front_end.rings[1].add(&[Part::readable(DATA, len as u32 + 12)]);
                a.front_end.rings[1].notify(1);
                (sent, outstanding) = (sent + 1, outstanding + 1);
            }
            while a.front_end.rings[1].take_used().is_some() {
                outstanding -= 1;
            }
            while b.front_end.rings[0].take_used().is_some() {
                received += 1;
                b.provide(0, 2048);
            }
        }
        let share = (rig.server.cpu_time() - cpu).as_secs_f64();
        println!("one way, {len} B: {received} frames/s of {sent} sent, the switch had {share:.2} of a core");
    }
}

/// Linux's console prints 16 bytes at a time and spins until they are taken.
fn console() {
    let rig = on_the_other_core(|| console::Rig::new(&[]));
    let mut driver = rig.driver(&Setup { call: false, ..console::setup() });
    let mut terminal = rig.terminal();
    let reader = thread::spawn(move || while terminal.0.read(&mut [0; 4096]).unwrap() > 0 {});
    let cpu = rig.server.cpu_time();
    let begin = Instant::now();
    let mut times: Vec<Duration> = (0..50_000)
        .map(|_| {
            let start = Instant::now();
            driver.print(b"sixteen bytes ..");
            start.elapsed()
        })
        .collect();
    let rate = 16.0 * times.len() as f64 / begin.elapsed().as_secs_f64() / 1e6;
    let share = (rig.server.cpu_time() - cpu).as_secs_f64() / begin.elapsed().as_secs_f64();
    let times = percentiles(&mut times);
    println!("print of 16 bytes: {times}, {rate:.1} MB/s, the server had {share:.2} of a core");
    drop(rig);
    reader.join().unwrap();
}

/// Twenty seconds of nothing, and twenty at ten events a second.
fn idle() {
    let mut board = Board::new();
    let asleep = board.shares(|_| thread::sleep(Duration::from_secs(20)));
    let stirred = board.shares(|board| board.stir_for(Duration::from_secs(20)));
    for index in 0..board.names.len() {
        let [asleep, stirred] = [asleep, stirred].map(|shares| 100.0 * shares[index]);
        println!(
            "{:20} {asleep:.3} % of a core idle, {stirred:.3} % at ten events a second",
            board.names[index]
        );
    }
}
