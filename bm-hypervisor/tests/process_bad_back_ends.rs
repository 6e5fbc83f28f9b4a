//! Back ends that are not there, do not answer, answer nonsense, or die: a clear error within a bound, and
//! never a hang.

mod double;

use std::{io::Write, sync::Arc, time::Instant};

use bm_hypervisor::{
    BoardState, Error,
    config::{BackEndConfig, FunctionConfig, Role},
    vhost_user::{BackEndError, Problem},
};
use double::{
    Bench, IoBond,
    back_end::{FEATURES, Mirror, PROTOCOL, Server, Sockets, blk, board, net, raw, read_message, reply},
};
use iobond_spec::offsets::queues;

/// Starts a board of one function that cannot start; what it says, in a quarter of a second and some.
fn refused(function: FunctionConfig) -> BackEndError {
    let bond = IoBond::new();
    let start = Instant::now();
    let Err(error) = bm_hypervisor::start(board(vec![function]), Arc::clone(&bond)) else {
        panic!("it started")
    };
    assert!(start.elapsed() < double::TIMEOUT / 2, "{:?}", start.elapsed());
    assert!(!bond.is_mapped());
    let Error::BackEnd(error) = error else { panic!("{error}") };
    error
}

#[test]
fn no_process_listens() {
    let sockets = Sockets::new();
    let error = refused(blk(sockets.back_end("missing"))).to_string();
    assert!(
        error.contains("missing: cannot connect within 250ms") && error.contains("is the back end running"),
        "{error}"
    );
}

#[test]
fn no_process_connects() {
    let sockets = Sockets::new();
    let config = BackEndConfig { role: Role::Listen, ..sockets.back_end("missing") };
    let error = refused(blk(config)).to_string();
    assert!(
        error.ends_with("missing: did not connect within 250ms; is it running, and told to connect there?"),
        "{error}"
    );
    assert!(!sockets.path("missing").exists(), "the socket is gone with the listener");
}

#[test]
fn another_process_listens() {
    let sockets = Sockets::new();
    let _busy = std::os::unix::net::UnixListener::bind(sockets.path("busy")).unwrap();
    let config = BackEndConfig { role: Role::Listen, ..sockets.back_end("busy") };
    assert!(matches!(refused(blk(config)).problem, Problem::Listen(_)));
    std::fs::write(sockets.path("file"), "").unwrap();
    let config = BackEndConfig { role: Role::Listen, ..sockets.back_end("file") };
    assert!(matches!(refused(blk(config)).problem, Problem::Listen(_)));
    assert!(sockets.path("file").exists(), "what is not a socket is left alone");
}

#[test]
fn a_back_end_that_never_answers() {
    let sockets = Sockets::new();
    let peer = raw(&sockets.path("mute"), |mut stream| while read_message(&mut stream).is_some() {});
    let error = refused(blk(sockets.back_end("mute"))).to_string();
    assert!(
        error.ends_with("mute: no answer to GET_FEATURES within 250ms; is it a vhost-user back end?"),
        "{error}"
    );
    peer.join().unwrap();
}

#[test]
fn a_back_end_that_drips() {
    let sockets = Sockets::new();
    let peer = raw(&sockets.path("drip"), |mut stream| {
        // A byte now and then: each one ends a wait, and none the answer.
        while stream.write_all(&[1]).is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    });
    let problem = refused(blk(sockets.back_end("drip"))).problem;
    assert!(matches!(problem, Problem::NoAnswer { message: "GET_FEATURES", .. }), "{problem}");
    peer.join().unwrap();
}

#[test]
fn a_back_end_that_dies_in_the_handshake() {
    let sockets = Sockets::new();
    let peer = raw(&sockets.path("dying"), |mut stream| {
        // SET_OWNER, GET_FEATURES.
        read_message(&mut stream);
        read_message(&mut stream);
    });
    let error = refused(blk(sockets.back_end("dying"))).to_string();
    assert!(
        error.ends_with("dying: closed the connection at GET_FEATURES; its own log should say why"),
        "{error}"
    );
    peer.join().unwrap();
}

#[test]
fn a_back_end_that_answers_nonsense() {
    let garbage: [&[u8]; 3] = [
        &[0xFF; 20],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[2, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for answer in garbage {
        let sockets = Sockets::new();
        let peer = raw(&sockets.path("odd"), move |mut stream| {
            read_message(&mut stream);
            read_message(&mut stream);
            stream.write_all(answer).unwrap();
            while read_message(&mut stream).is_some() {}
        });
        let problem = refused(blk(sockets.back_end("odd"))).problem;
        assert!(matches!(problem, Problem::Nonsense { message: "GET_FEATURES", .. }), "{problem}");
        peer.join().unwrap();
    }
}

/// A back end without protocol features: answers GET_FEATURES and GET_VRING_BASE, and takes the rest.
fn plain(sockets: &Sockets, name: &str) -> std::thread::JoinHandle<()> {
    raw(&sockets.path(name), |mut stream| {
        while let Some((request, payload)) = read_message(&mut stream) {
            match request {
                1 => reply(&mut stream, 1, &(1u64 << 32).to_le_bytes()),
                11 => reply(&mut stream, 11, &payload),
                _ => {}
            }
        }
    })
}

#[test]
fn a_back_end_without_protocol_features_can_serve_a_network_but_no_disk() {
    let sockets = Sockets::new();
    let disk = plain(&sockets, "disk");
    let error = refused(blk(sockets.back_end("disk"))).to_string();
    assert!(error.contains("does not offer vhost-user protocol feature CONFIG"), "{error}");
    disk.join().unwrap();

    let peer = plain(&sockets, "net");
    let mut bench = Bench::start(board(vec![net(sockets.good_back_end("net"), 1)]));
    assert_eq!(bench.bring_up(0, u64::MAX, 2), 0xF);
    bench.bond.publish(1, 0, &[1], 64);
    bench.bond.set_used(1, 1);
    bench.pass_until("used buffers returned", |bond, _| bond.queue(1, queues::TAIL) == 1);
    bench.stop().unwrap();
    peer.join().unwrap();

    let peer = plain(&sockets, "wide");
    let error = refused(net(sockets.back_end("wide"), 2)).to_string();
    assert!(error.contains("works 2 queues, but the configuration asks for 4"), "{error}");
    peer.join().unwrap();
}

#[test]
fn a_back_end_that_refuses() {
    // More descriptors than it takes.
    let sockets = Sockets::new();
    let _server = Server::start(Mirror::new(FEATURES, PROTOCOL), &sockets.path("small"), Role::Connect);
    let FunctionConfig::Blk(mut config) = blk(sockets.good_back_end("small")) else { panic!() };
    config.ring.shadow = Some(2048);
    let mut bench = Bench::start(board(vec![FunctionConfig::Blk(config)]));
    assert_eq!(bench.bring_up(0, u64::MAX, 1), 0x4F);
    let error = bench.stop().unwrap_err().to_string();
    assert!(error.ends_with("small: refused SET_VRING_NUM; its own log should say why"), "{error}");
}

#[test]
fn a_back_end_that_dies_at_work_stops_its_function_alone() {
    let sockets = Sockets::new();
    let mut dying = Server::start(Mirror::new(FEATURES, PROTOCOL), &sockets.path("dying"), Role::Connect);
    let _other = Server::start(Mirror::new(FEATURES, PROTOCOL), &sockets.path("other"), Role::Connect);
    let functions = vec![blk(sockets.good_back_end("dying")), blk(sockets.good_back_end("other"))];
    let mut bench = Bench::start(board(functions));
    for function in 0..2 {
        assert_eq!(bench.bring_up(function, u64::MAX, 1), 0xF);
        bench.set(function, 0x10, 2, 5);
    }
    dying.kill();
    bench.pass_until("a failure", |_, control| control.failure().is_some());
    let failure = bench.control.failure().unwrap().to_string();
    assert!(failure.contains("dying: died: it closed its connection; restart it"), "{failure}");
    assert_eq!((bench.status(0), bench.status(1)), (0x4F, 0xF));
    assert_eq!(bench.bond.injected(), [(0, 5 | 1 << 16)]);
    assert!(!bench.bond.is_enabled(0) && bench.bond.is_enabled(1));
    bench.bond.publish(1, 0, &[1, 2], 64);
    bench.pass_until("the other's buffers", |bond, _| bond.queue(1, queues::TAIL) == 1);
    bench.set(0, 0x14, 1, 0);
    assert_eq!(bench.bring_up(0, u64::MAX, 1), 0x3, "a driver that comes to it is sent away");
    assert_eq!(bench.stop().unwrap_err().to_string(), failure);
}

#[test]
fn a_back_end_that_hangs_at_a_reset_is_given_up() {
    let sockets = Sockets::new();
    let peer = raw(&sockets.path("stuck"), |mut stream| {
        while let Some((request, _)) = read_message(&mut stream) {
            if request == 1 {
                reply(&mut stream, 1, &(1u64 << 32).to_le_bytes());
            }
        }
    });
    let mut bench = Bench::start(board(vec![net(sockets.back_end("stuck"), 1)]));
    assert_eq!(bench.bring_up(0, u64::MAX, 2), 0xF);
    bench.set(0, 0x14, 1, 0);
    assert_eq!(bench.status(0), 0, "Linux reads it until it is zero");
    assert!(!bench.bond.is_enabled(0) && !bench.bond.is_enabled(1));
    let error = bench.stop().unwrap_err().to_string();
    assert!(
        error.ends_with("stuck: no answer to GET_VRING_BASE within 250ms; is it a vhost-user back end?"),
        "{error}"
    );
    peer.join().unwrap();
}

#[test]
fn a_back_end_that_moves_its_used_index_too_far() {
    let sockets = Sockets::new();
    let _server = Server::start(Mirror::new(FEATURES, PROTOCOL), &sockets.path("wild"), Role::Connect);
    let mut bench = Bench::start(board(vec![blk(sockets.good_back_end("wild"))]));
    assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
    bench.bond.set_used(0, 1025);
    bench.pass_until("a failure", |_, control| control.failure().is_some());
    assert_eq!(
        (bench.status(0), bench.bond.queue(0, queues::TAIL), bench.bond.is_enabled(0)),
        (0x4F, 0, false)
    );
    let error = bench.stop().unwrap_err().to_string();
    assert!(
        error.ends_with(
            "moved the used index of vring 0 from 0 to 1025, further than the ring of 1024 is long"
        ),
        "{error}"
    );
}

#[test]
fn a_device_that_goes_away() {
    let sockets = Sockets::new();
    let _server = Server::start(Mirror::new(FEATURES, PROTOCOL), &sockets.path("disk"), Role::Connect);
    let mut bench = Bench::start(board(vec![blk(sockets.good_back_end("disk"))]));
    assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
    bench.bond.pull_out();
    bench.pass_until("a failure", |_, control| control.failure().is_some());
    assert_eq!(bench.control.statistics().state, BoardState::Failed);
    assert!(matches!(*bench.stop().unwrap_err(), Error::DeviceGone));

    let bond = IoBond::new();
    bond.pull_out();
    let start = bm_hypervisor::start(board(vec![blk(sockets.back_end("disk"))]), bond);
    assert!(matches!(start, Err(Error::DeviceGone)));
}
