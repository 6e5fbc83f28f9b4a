//! The console in a process of its own, driven over the front end's socket and the terminals'.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // Helpers of tests fail loudly.

mod front_end;
mod rig;

use std::fs;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use front_end::{DATA, EVENT_IDX, Part, Place, Server, Setup, VERSION_1, eventually};
use rig::console::{CONSOLE, F_SIZE, RECEIVEQ, REPLAY, Rig, TRANSMITQ, TYPED, Terminal, setup};
use rustix::process::Signal;
use vhost::VhostBackend;

/// Byte `index` of something long.
fn pattern(index: usize) -> u8 {
    (index / 253 + index) as u8
}

fn long(len: usize) -> Vec<u8> {
    (0..len).map(pattern).collect()
}

#[test]
fn what_is_printed_is_seen_and_what_is_typed_arrives() {
    let rig = Rig::new(&[]);
    let mut driver = rig.driver(&setup());
    let mut terminal = rig.terminal();
    driver.provide(4, 64);
    driver.print(b"board0 login: ");
    assert_eq!(terminal.see(14), b"board0 login: ");
    terminal.type_in(b"root\n");
    assert_eq!(driver.receive(), b"root\n");
    driver.print(b"root\r\nboard0:~# ");
    assert_eq!(terminal.see(16), b"root\r\nboard0:~# ");
    eventually("the log has it", || rig.log() == b"board0 login: root\r\nboard0:~# ");
}

#[test]
fn every_way_to_notify() {
    for features in [0, EVENT_IDX] {
        for poll in ["0", "200"] {
            let rig = Rig::new(&["--poll-us", poll]);
            let mut driver = rig.driver(&Setup { features: VERSION_1 | features, ..setup() });
            let mut terminal = rig.terminal();
            driver.provide(8, 64);
            for key in 0..100 {
                terminal.type_in(&[key]);
                driver.front_end.rings[RECEIVEQ].wait_call();
                assert_eq!(driver.receive(), [key]);
                driver.provide(1, 64);
                driver.print(&[key, b'!']);
                assert_eq!(terminal.see(2), [key, b'!']);
            }
        }
    }
}

#[test]
fn a_terminal_that_comes_late_sees_the_last_64_kib() {
    let rig = Rig::new(&[]);
    let mut driver = rig.driver(&setup());
    let text = long(REPLAY + 10_000);
    text.chunks(3000).for_each(|chunk| driver.print(chunk));
    let (mut first, mut second) = (rig.terminal(), rig.terminal());
    for terminal in [&mut first, &mut second] {
        assert!(terminal.see(REPLAY) == text[10_000..]);
    }
    driver.print(b"and on");
    assert_eq!([first.see(6), second.see(6)].concat(), b"and onand on");
}

#[test]
fn eight_terminals_see_the_same_and_each_may_type() {
    let rig = Rig::new(&[]);
    let mut driver = rig.driver(&setup());
    driver.provide(32, 64);
    let mut terminals: Vec<Terminal> = (0..8).map(|_| rig.terminal()).collect();
    for (number, terminal) in terminals.iter_mut().enumerate() {
        terminal.type_in(&[number as u8]);
        assert_eq!(driver.receive(), [number as u8]);
    }
    driver.print(b"hello");
    terminals.iter_mut().for_each(|terminal| assert_eq!(terminal.see(5), b"hello"));

    let refused = String::from_utf8(rig.terminal().rest()).unwrap();
    assert!(refused.contains("8 terminals"), "{refused}");

    // One hangs up, one only stops typing: it still sees, and keeps its place.
    drop(terminals.pop());
    terminals[0].0.shutdown(Shutdown::Write).unwrap();
    let mut late = None;
    eventually("there is a place again", || {
        let mut terminal = rig.terminal();
        let accepted = terminal.see(5) == b"hello";
        late = accepted.then_some(terminal);
        accepted
    });
    terminals.extend(late);
    driver.print(b"again");
    terminals.iter_mut().for_each(|terminal| assert_eq!(terminal.see(5), b"again"));
    assert!(String::from_utf8(rig.terminal().rest()).unwrap().contains("8 terminals"));
}

#[test]
fn a_flood_is_logged_to_the_byte_and_waits_for_no_terminal() {
    const CHUNK: usize = 10_000;
    const FLOOD: usize = 10_000_000;
    let rig = Rig::new(&[]);
    let mut driver = rig.driver(&setup());
    let asleep = rig.terminal();
    let mut awake = rig.terminal();
    let flood = long(FLOOD);
    let seen = Arc::new(AtomicUsize::new(0));
    let reader = thread::spawn({
        let seen = Arc::clone(&seen);
        move || {
            let mut bytes = Vec::new();
            while bytes.len() < FLOOD {
                bytes.extend(awake.see(CHUNK));
                seen.store(bytes.len(), Ordering::Relaxed);
            }
            bytes
        }
    });
    for (turn, chunk) in flood.chunks(CHUNK).enumerate() {
        // The reader is a thread among many on this machine: it shall not be taken for one that sleeps.
        eventually("a terminal reads", || turn * CHUNK < seen.load(Ordering::Relaxed) + (1 << 20));
        driver.print(chunk);
    }
    assert!(reader.join().unwrap() == flood);
    eventually("the log is complete", || rig.log().len() >= FLOOD);
    assert!(rig.log() == flood);
    // The one that slept was cut off, with what its socket held, and nothing in between is missing.
    let kept = asleep.rest();
    assert!(kept.len() < FLOOD / 2 && kept == flood[..kept.len()], "{} bytes", kept.len());
}

#[test]
fn what_is_typed_waits_for_the_driver_within_bounds() {
    let rig = Rig::new(&[]);
    let text = long(2 << 20);
    let typed = Arc::new(AtomicUsize::new(0));
    let mut terminal = rig.terminal();
    let typist = thread::spawn({
        let (text, typed) = (text.clone(), Arc::clone(&typed));
        move || {
            for chunk in text.chunks(1024) {
                terminal.type_in(chunk);
                typed.fetch_add(chunk.len(), Ordering::Relaxed);
            }
            // It does not wait for an answer.
        }
    });
    eventually("much is typed", || typed.load(Ordering::Relaxed) > TYPED);
    let typed_so_far = || typed.load(Ordering::Relaxed);
    let mut before = 0;
    eventually("typing comes to a stop", || {
        thread::sleep(Duration::from_millis(50));
        std::mem::replace(&mut before, typed_so_far()) == before
    });
    // The server's share and what the socket holds, some 200 KiB.
    assert!(before < 1 << 20, "{before} bytes were let in");

    let mut driver = rig.driver(&setup());
    driver.provide(64, 300);
    assert!(driver.receive_all(text.len(), 300) == text);
    typist.join().unwrap();
}

#[test]
fn a_driver_and_its_front_end_may_come_and_go() {
    let rig = Rig::new(&[]);
    let mut terminal = rig.terminal();
    let mut driver = rig.driver(&setup());
    driver.provide(1, 16);
    driver.print(b"one ");
    let descriptors = rig.server.descriptors();
    for turn in 0..20u8 {
        terminal.type_in(&[turn]);
        assert_eq!(driver.receive(), [turn]);
        // A reset of the driver stops the rings; another driver starts them anew.
        driver.front_end.frontend.get_vring_base(RECEIVEQ).unwrap();
        driver.front_end.frontend.get_vring_base(TRANSMITQ).unwrap();
        terminal.type_in(b"in between");
        driver.front_end.hang_up();
        driver = rig.driver(&setup());
        driver.provide(1, 16);
        assert_eq!(driver.receive(), b"in between");
        driver.provide(1, 16);
        driver.print(b"more ");
    }
    let expected = [b"one ".as_slice(), &b"more ".repeat(20)].concat();
    assert_eq!(terminal.see(expected.len()), expected);
    assert_eq!(rig.terminal().see(expected.len()), expected, "the replay spans drivers");
    eventually("descriptors are closed", || rig.server.descriptors() <= descriptors + 1);
}

#[test]
fn rings_go_on_where_they_were_stopped() {
    let rig = Rig::new(&[]);
    let mut terminal = rig.terminal();
    let mut driver = rig.driver(&setup());
    for round in 1..=20u16 {
        driver.print(b"x");
        terminal.type_in(b"y");
        driver.provide(1, 8);
        assert_eq!(driver.receive(), b"y");
        for ring in [RECEIVEQ, TRANSMITQ] {
            let base = driver.front_end.frontend.get_vring_base(ring).unwrap();
            assert_eq!(base, u32::from(round));
            driver.front_end.start_ring(ring, true, round);
        }
    }
    assert_eq!(terminal.see(20), b"x".repeat(20));
}

#[test]
fn garbage_stops_a_ring_and_the_terminals_stay() {
    let mut rig = Rig::new(&["--poll-us", "0"]);
    let mut terminal = rig.terminal();
    let mut driver = rig.driver(&setup());
    let idle = Duration::from_millis(30);
    let outside = 0xffff_0000_0000;

    // What cannot be printed goes back unprinted.
    let ring = &mut driver.front_end.rings[TRANSMITQ];
    for parts in [
        vec![Part::writable(DATA, 100)],
        vec![Part::readable(DATA, 100), Part::writable(DATA, 100)],
        vec![Part::readable(outside, 100)],
        vec![Part::readable(u64::MAX - 3, 100)],
        vec![Part::readable(DATA, u32::MAX)],
        vec![Part::readable(DATA, 2 << 20)],
    ] {
        let head = ring.add(&parts);
        ring.notify(1);
        assert_eq!(ring.wait_used(), (head, 0), "{parts:?}");
    }
    // A loop, too.
    ring.describe(ring.desc, 200, DATA, 16, 1, 200);
    ring.offer(200);
    ring.notify(1);
    assert_eq!(ring.wait_used(), (200, 0));

    // What cannot be typed into goes back empty, and what was typed waits for a better one.
    terminal.type_in(b"key");
    let ring = &mut driver.front_end.rings[RECEIVEQ];
    for parts in [
        vec![Part::readable(DATA, 100)],
        vec![Part::readable(DATA, 100), Part::writable(DATA, 100)],
        vec![Part::writable(outside, 100)],
        vec![Part::writable(DATA, 0)],
    ] {
        let head = ring.add(&parts);
        ring.notify(1);
        assert_eq!(ring.wait_used(), (head, 0), "{parts:?}");
    }
    driver.provide(1, 2);
    driver.provide(1, 2);
    assert_eq!([driver.receive(), driver.receive()], [b"ke".to_vec(), b"y".to_vec()]);

    // A head that does not exist stops a ring, and so does an index that jumps.
    driver.front_end.rings[RECEIVEQ].offer(256);
    terminal.type_in(b"later");
    let ring = &mut driver.front_end.rings[TRANSMITQ];
    ring.next_avail = ring.next_avail.wrapping_add(300);
    ring.offer(0);
    ring.kick.write(1).unwrap();
    assert!(ring.stays_idle(idle));
    assert!(driver.front_end.rings[RECEIVEQ].stays_idle(idle));

    // A new front end heals both, and no terminal noticed.
    driver.front_end.hang_up();
    let mut driver = rig.driver(&setup());
    driver.provide(1, 16);
    assert_eq!(driver.receive(), b"later");
    driver.print(b"fine");
    assert_eq!(terminal.see(4), b"fine");
    assert!(rig.server.is_running());
}

#[test]
fn terminals_that_hang_up_at_any_moment() {
    let rig = Rig::new(&[]);
    // Before there is a driver, with more than waits, and gone at once.
    for _ in 0..20 {
        let mut terminal = rig.terminal();
        terminal.type_in(&[b'a'; 8 << 10]);
    }
    let mut driver = rig.driver(&setup());
    driver.print(b"still here");
    assert_eq!(rig.terminal().see(10), b"still here", "those that hung up give their place away");
    driver.provide(64, 4096);
    let typed = driver.receive_all(TYPED, 4096);
    assert!(typed.iter().all(|&byte| byte == b'a'));
    let descriptors = rig.server.descriptors();
    // Unread output, unread input.
    for _ in 0..50 {
        let mut terminal = rig.terminal();
        driver.print(b"x");
        terminal.type_in(b"b");
    }
    eventually("descriptors are closed", || {
        driver.print(b"y");
        rig.server.descriptors() <= descriptors
    });
}

#[test]
fn the_size_is_offered_if_it_is_known() {
    let rig = Rig::new(&["--size", "132x43"]);
    let mut driver = rig.driver(&setup());
    assert_ne!(driver.front_end.features & F_SIZE, 0);
    assert_eq!(driver.front_end.config(0, 4), [132, 0, 43, 0]);
    assert_eq!(driver.front_end.config(0, 12)[4..], [0; 8]);
    driver.front_end.set_config(0, &[1, 0, 1, 0]);
    assert_eq!(driver.front_end.config(0, 4), [132, 0, 43, 0], "read-only");

    let plain = Rig::new(&[]);
    let mut driver = plain.driver(&setup());
    assert_eq!(driver.front_end.features & F_SIZE, 0);
    assert_eq!(driver.front_end.config(0, 12), [0; 12]);
}

#[test]
fn an_unused_console_sleeps() {
    let rig = Rig::new(&[]);
    let mut driver = rig.driver(&setup());
    let mut terminal = rig.terminal();
    driver.provide(8, 64);
    driver.print(b"$ ");
    terminal.see(2);
    let quiet = || {
        rig.server.sleeps() == {
            thread::sleep(Duration::from_millis(500));
            rig.server.sleeps()
        }
    };
    assert!((0..3).any(|_| quiet()), "a thread wakes up although nothing happens");
}

#[test]
fn a_signal_ends_the_console_and_takes_both_sockets_away() {
    for (signal, poll) in [(Signal::TERM, "1000000"), (Signal::INT, "0")] {
        let rig = Rig::new(&["--poll-us", poll]);
        let mut driver = rig.driver(&setup());
        driver.print(b"bye");
        let mut terminal = rig.terminal();
        assert_eq!(terminal.see(3), b"bye");
        rig.server.signal(signal);
        let (status, text) = rig.server.wait();
        assert!(status.success(), "{text}");
        assert!(!rig.place.path("console").exists() && !rig.place.path("terminal").exists());
        assert_eq!(terminal.rest(), b"", "the terminal is told");
        assert_eq!(fs::read(rig.place.path("log")).unwrap(), b"bye", "the log stays");
    }
}

#[test]
fn a_log_is_appended_to() {
    let place = Place::new();
    fs::write(place.path("log"), "before ").unwrap();
    let paths = ["console", "terminal", "log"].map(|name| place.text(name));
    let arguments = ["--socket", &paths[0], "--terminal", &paths[1], "--log", &paths[2], "--once"];
    let server = Server::start(CONSOLE, &arguments, 2);
    let rig = Rig { place, server };
    let mut driver = rig.driver(&setup());
    driver.print(b"after");
    drop(driver);
    assert!(rig.server.wait().0.success(), "--once");
    assert_eq!(fs::read(rig.place.path("log")).unwrap(), b"before after");
}

#[test]
fn what_is_wrong_at_the_start_is_one_clear_line() {
    let place = Place::new();
    fs::write(place.path("plain"), "x").unwrap();
    let refused = |socket: &str, terminal: &str, log: &str| {
        let [socket, terminal, log] = [socket, terminal, log].map(|name| place.text(name));
        let arguments = ["--socket", &socket, "--terminal", &terminal, "--log", &log];
        let (status, text) = Server::start(CONSOLE, &arguments, 0).wait();
        assert_eq!((status.code(), text.lines().count()), (Some(1), 1), "{text}");
        text
    };
    assert!(refused("s", "plain", "log").contains("not a socket"));
    assert!(refused("plain", "t", "log").contains("not a socket"));
    assert!(!place.path("t").exists(), "the other socket is gone again");
    assert!(refused("s", "t", "missing/log").contains("cannot append to log"));
    assert!(refused("same", "same", "log").contains("choose another path"));

    let wrong = ["--socket", "s", "--terminal", "t", "--size", "80"];
    let (status, text) = Server::start(CONSOLE, &wrong, 0).wait();
    assert!(status.code() == Some(2) && text.contains("80x25"), "{text}");
}
