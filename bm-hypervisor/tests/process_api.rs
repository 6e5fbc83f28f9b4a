//! A board that is controlled from outside: by `bmctl`, and by a program that embeds the hypervisor.

mod double;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    sync::{Arc, mpsc},
    thread,
};

use bm_hypervisor::{
    BoardState,
    api::{self, Server as Api},
    config::{
        BlkConfig, BlkLimits, BoardConfig, ControlConfig, FunctionConfig, LimitsConfig, MetricsAddress,
        RingConfig, Role, SpareConfig,
    },
    logging::LogLevel,
};
use double::{
    Bench, TIMEOUT,
    api::{Rig, ends, eventually, mirror},
    back_end::{Server, Sockets, blk, board, console, net, raw},
};
use iobond_spec::offsets::{board as power, functions, ident, qos, queues};
use serde_json::{Value, json};

#[test]
fn a_board_is_looked_at_and_switched_by_bmctl() {
    let sockets = Sockets::new();
    let _disk = Server::start(mirror(), &sockets.path("disk"), Role::Connect);
    let _net = Server::start(mirror(), &sockets.path("net"), Role::Connect);
    let mut bench =
        Bench::start(board(vec![blk(sockets.good_back_end("disk")), net(sockets.good_back_end("net"), 1)]));
    assert_eq!(bench.control.statistics().state, BoardState::Booting);
    assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
    bench.bond.set(queues::BASE + queues::FORWARDED, 12);
    bench.bond.set(queues::BASE + queues::BYTES_UP, 3_000_000_000);
    let rig = Rig::new(&sockets, bench);

    let out = rig.good(&["board"]);
    for words in [["board", "test"], ["state", "running"], ["functions", "2,"]] {
        let found = out.lines().any(|line| line.split_whitespace().take(2).eq(words));
        assert!(found, "no {words:?} in\n{out}");
    }
    let out = rig.good(&["queues"]);
    let rows: Vec<Vec<_>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1][..9], ["0", "0", "0", "running", "512", "1024", "0", "0", "12"], "{out}");
    assert_eq!((rows.len(), rows[2][3]), (4, "disabled"), "{out}");
    let out: Value = serde_json::from_str(&rig.good(&["--json", "queues"])).unwrap();
    assert_eq!(out[0]["counted"]["bytes_up"], 3_000_000_000u64);
    let out = rig.good(&["functions"]);
    assert!(out.contains("blk") && out.contains("1048576") && out.contains("up"), "{out}");
    assert!(rig.good(&["limits"]).contains("64"), "{out}");
    assert!(rig.good(&["statistics"]).contains("mailbox"));

    assert_eq!(rig.good(&["power", "off"]), "board is off\n");
    assert_eq!(rig.bond.get(power::BASE + power::CONTROL), 0);
    assert!(!rig.bond.is_enabled(0), "the queue was taken back");
    let (good, _, err) = rig.bmctl(&["reset"]);
    assert!(!good && err.contains("cannot reset a board that is off"), "{err}");
    assert_eq!(rig.good(&["power", "off"]), "board is off\n", "once more does no harm");
    assert_eq!(rig.good(&["power", "on"]), "board is booting\n");
    assert_eq!(rig.bond.get(power::BASE + power::CONTROL), 1);
    assert_eq!(rig.good(&["reset"]), "board is booting\n");
    assert_eq!(rig.bond.get(power::BASE + power::CONTROL), 3);
    let out: Value = serde_json::from_str(&rig.good(&["call", "queue_list"])).unwrap();
    assert_eq!((&out[0]["counted"]["forwarded"], &out[0]["state"]), (&json!(12), &json!("disabled")));
}

#[test]
fn a_reset_of_the_board_takes_its_drivers_away_and_they_come_back() {
    let sockets = Sockets::new();
    let _disk = Server::start(mirror(), &sockets.path("disk"), Role::Connect);
    let mut bench = Bench::start(board(vec![blk(sockets.good_back_end("disk"))]));
    let handle = bench.control.handle();
    for round in 0..3 {
        assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
        assert_eq!(bench.control.statistics().state, BoardState::Running, "round {round}");
        let asked = thread::spawn({
            let handle = handle.clone();
            move || match round {
                0 => handle.reset(),
                _ => handle.power(false),
            }
        });
        bench.pass_until("the board is reset", |_, _| asked.is_finished());
        let state = asked.join().unwrap().unwrap();
        assert_eq!(state, if round == 0 { BoardState::Booting } else { BoardState::Off });
        assert_eq!((bench.poller.queues(), bench.bond.is_enabled(0)), (0, false));
        if round != 0 {
            assert_eq!(handle.power(true).unwrap(), BoardState::Booting);
        }
    }
    // A driver that resets its function itself leaves a board that boots.
    assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
    bench.set(0, 0x14, 1, 0);
    assert_eq!(bench.status(0), 0);
    assert_eq!(bench.control.statistics().state, BoardState::Booting);
    assert_eq!(bench.stop().unwrap().state, BoardState::Absent);
    assert!(matches!(handle.reset(), Err(bm_hypervisor::CommandError::Ended)));
    assert_eq!(handle.statistics().state, BoardState::Absent);
}

/// Limits go into IO-Bond's registers, those of the configuration and those of commands, and are read from
/// there.
#[test]
fn functions_are_limited_by_configuration_and_by_command() {
    let sockets = Sockets::new();
    let _disk = Server::start(mirror(), &sockets.path("disk"), Role::Connect);
    let _net = Server::start(mirror(), &sockets.path("net"), Role::Connect);
    let limits = Some(BlkLimits { iops: Some(5 << 32), bytes_per_second: None, burst_ms: None });
    let disk = BlkConfig { limits, ..BlkConfig::new(sockets.good_back_end("disk")) };
    let mut bench =
        Bench::start(board(vec![FunctionConfig::Blk(disk), net(sockets.good_back_end("net"), 1)]));
    let qos = |bond: &double::IoBond, function: u32, register: u32| {
        bond.get(qos::BASE + function * qos::STRIDE + register)
    };
    assert_eq!(qos(&bench.bond, 0, qos::CONTROL), 1);
    assert_eq!((qos(&bench.bond, 0, qos::OPERATIONS_LO), qos(&bench.bond, 0, qos::OPERATIONS_HI)), (0, 5));
    assert_eq!(qos(&bench.bond, 1, qos::CONTROL), 0);
    assert_eq!(bench.bring_up(1, u64::MAX, 2), 0xF);
    let counts_on_return = |n| bench.bond.queue(n, queues::FEATURES) >> 5 & 1;
    assert_eq!((counts_on_return(1), counts_on_return(2)), (1, 0), "the receive queue, not the other");

    let rig = Rig::new(&sockets, bench);
    rig.bond.set(qos::BASE + qos::DELAYS, 7);
    let function = |n: usize| rig.call("limits_get", json!({})).unwrap()["functions"][n].clone();
    let all = function(0);
    assert_eq!((&all["limits"]["operations_per_second"], &all["delays"]), (&json!(5u64 << 32), &json!(7)));
    assert_eq!((&all["limits"]["bytes_per_second"], &function(1)["limits"]), (&Value::Null, &Value::Null));

    let set =
        |function: u8, limits: Value| rig.call("limits_set", json!({"function": function, "limits": limits}));
    assert_eq!(set(1, json!({"net": {"bits_per_second": 8000}})), Ok(json!(true)));
    let on_wire = |register| qos(&rig.bond, 1, register);
    assert_eq!((on_wire(qos::CONTROL), on_wire(qos::BYTES_LO), on_wire(qos::BYTES_BURST)), (1, 1000, 65_562));
    assert_eq!(set(1, json!({"blk": {"iops": 1}})).unwrap_err().0, api::code::WRONG_DEVICE);
    assert_eq!(set(1, json!({"net": {"bits_per_second": 1}})).unwrap_err().0, api::code::INVALID_PARAMS);
    assert_eq!(set(7, Value::Null).unwrap_err().0, api::code::NO_FUNCTION);

    assert_eq!(
        rig.good(&["limit", "1", "--packets-per-second", "30", "--burst-ms", "100"]),
        "function 1 limited\n"
    );
    assert_eq!(
        (on_wire(qos::OPERATIONS_LO), on_wire(qos::OPERATIONS_BURST), on_wire(qos::BYTES_LO)),
        (30, 3, 0)
    );
    assert!(rig.good(&["limits"]).lines().any(|line| line.contains("net") && line.contains("30")));
    assert_eq!(rig.good(&["limit", "1"]), "function 1 without limits\n");
    assert_eq!(on_wire(qos::CONTROL), 0);
    let (good, _, err) = rig.bmctl(&["limit", "1", "--iops", "1", "--packets-per-second", "1"]);
    assert!(!good && err.contains("cannot be used with"), "{err}");
}

#[test]
fn an_io_bond_that_cannot_limit_is_not_asked_to() {
    let sockets = Sockets::new();
    let _disk = Server::start(mirror(), &sockets.path("disk"), Role::Connect);
    let bond = double::IoBond::new();
    bond.set(ident::BASE + ident::FEATURES, 0x7D);
    let limits = Some(BlkLimits { iops: Some(1), ..BlkLimits::default() });
    let plain = BlkConfig::new(sockets.good_back_end("disk"));
    let limited = board(vec![FunctionConfig::Blk(BlkConfig { limits, ..plain.clone() })]);
    let error = bm_hypervisor::start(limited, Arc::clone(&bond)).map(drop).unwrap_err();
    assert!(error.to_string().contains("ident.features.limits"), "{error}");
    let (poller, control) =
        bm_hypervisor::start(board(vec![FunctionConfig::Blk(plain)]), Arc::clone(&bond)).unwrap();
    let handle = control.handle();
    let error = handle.set_limits(0, limits.map(LimitsConfig::Blk)).unwrap_err();
    assert!(error.to_string().contains("ident.features.limits"), "{error}");
    handle.set_limits(0, None).unwrap();
    drop(poller);
    control.stop().unwrap();
    assert!(bond.all().keys().all(|at| !(qos::BASE..qos::BASE + qos::COUNT * qos::STRIDE).contains(at)));
}

#[test]
fn a_disk_that_grew_is_told_to_its_driver_once() {
    let sockets = Sockets::new();
    let disk = mirror();
    let space = Arc::clone(&disk.space);
    let _disk = Server::start(disk, &sockets.path("disk"), Role::Connect);
    let _net = Server::start(mirror(), &sockets.path("net"), Role::Connect);
    let mut bench =
        Bench::start(board(vec![blk(sockets.good_back_end("disk")), net(sockets.good_back_end("net"), 1)]));
    assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
    bench.set(0, 0x10, 2, 5);
    let generation = bench.get(0, 0x15, 1);
    let handle = bench.control.handle();
    assert_eq!(handle.resize(0, None).unwrap().now, 2048 * 512);
    assert_eq!(bench.bond.injected(), [], "nothing has changed");
    space.lock().unwrap()[..8].copy_from_slice(&4096u64.to_le_bytes());
    let resized = handle.resize(0, Some(1 << 21)).unwrap();
    assert_eq!((resized.before, resized.now), (1 << 20, 1 << 21));
    assert_eq!(bench.bond.injected(), [(0, 5 | 1 << 16)]);
    assert_eq!((bench.get(0, 0x2000, 4), bench.get(0, 0x15, 1)), (4096, generation + 1));

    let rig = Rig::new(&sockets, bench);
    let (good, _, err) = rig.bmctl(&["resize", "0", "4194304"]);
    assert!(!good && err.contains("has 2097152 bytes") && err.contains("not 4194304"), "{err}");
    assert_eq!(rig.good(&["resize", "0"]), "function 0: 2097152 bytes before, 2097152 bytes now\n");
    assert_eq!(rig.call("disk_resize", json!({"function": 1})).unwrap_err().0, api::code::WRONG_DEVICE);
    assert_eq!(rig.call("disk_resize", json!({"function": 9})).unwrap_err().0, api::code::NO_FUNCTION);
    assert_eq!(rig.bond.injected().len(), 1);
}

#[test]
fn a_link_that_is_down_carries_nothing_and_comes_up_again() {
    let sockets = Sockets::new();
    let _net = Server::start(mirror(), &sockets.path("net"), Role::Connect);
    let mut bench = Bench::start(board(vec![net(sockets.good_back_end("net"), 1)]));
    assert_eq!(bench.bring_up(0, u64::MAX, 2), 0xF);
    bench.set(0, 0x10, 2, 5);
    assert_eq!(bench.get(0, 0x2006, 2), 1, "VIRTIO_NET_S_LINK_UP");
    let handle = bench.control.handle();
    handle.set_link(0, false).unwrap();
    assert_eq!((bench.get(0, 0x2006, 2), bench.bond.injected()), (0, vec![(0, 5 | 1 << 16)]));
    bench.bond.publish(1, 0, &[1, 2, 3], 64);
    for _ in 0..1000 {
        bench.poller.pass();
    }
    assert_eq!(bench.bond.queue(1, queues::TAIL), 0, "the back end may not look at it");
    handle.set_link(0, true).unwrap();
    assert_eq!((bench.get(0, 0x2006, 2), bench.bond.injected().len()), (1, 2));
    // What waited is taken up with the next kick.
    bench.bond.publish(1, 1, &[1, 2, 3], 64);
    bench.pass_until("both frames", |bond, _| bond.queue(1, queues::TAIL) == 2);

    let rig = Rig::new(&sockets, bench);
    assert_eq!(rig.good(&["link", "0", "down"]), "function 0: link down\n");
    assert_eq!(rig.call("function_list", json!({})).unwrap()[0]["link_up"], false);
    assert_eq!(rig.good(&["link", "0", "up"]), "function 0: link up\n");
}

#[test]
fn functions_come_and_go_while_the_board_runs() {
    let sockets = Sockets::new();
    let _disk = Server::start(mirror(), &sockets.path("disk"), Role::Connect);
    let mut net_back_end = Server::start(mirror(), &sockets.path("net"), Role::Connect);
    let config = BoardConfig {
        spares: vec![SpareConfig {
            queues: 2,
            ring: RingConfig { shadow: Some(512), ..RingConfig::default() },
        }],
        ..board(vec![net(sockets.good_back_end("net"), 1), blk(sockets.good_back_end("disk"))])
    };
    let mut bench = Bench::start(config);
    assert_eq!(bench.bring_up(0, u64::MAX, 2), 0xF);
    let rig = Rig::new(&sockets, bench);
    let present = |n: u32| rig.bond.get(functions::BASE + n * functions::STRIDE + functions::CONTROL) == 1;
    assert_eq!((present(0), present(1), present(2)), (true, true, false));

    // The rings of a disk are longer than what is spare, and a file may be wrong in other ways.
    let file = sockets.path("function.toml");
    let add = |text: String| {
        fs::write(&file, text).unwrap();
        rig.bmctl(&["add", file.to_str().unwrap()])
    };
    let disk_of = |ring: &str| {
        format!("[blk]\nbackend = {{ socket = {:?}, timeout_ms = 10000 }}\n{ring}", sockets.path("second"))
    };
    let second = Server::start(mirror(), &sockets.path("second"), Role::Connect);
    let (good, _, err) = add(disk_of(""));
    assert!(!good && err.contains("no free place takes 1 queues"), "{err}");
    drop(second);
    let (good, _, err) = add("[blk]\nsocket = 1\n".into());
    assert!(!good && err.contains("is not a function") && err.contains("unknown field `socket`"), "{err}");
    let (good, _, err) = add(disk_of("ring = { guest = 3 }\n"));
    assert!(!good && err.contains("power of two"), "{err}");
    let (good, _, err) = add(disk_of("").replace("10000", "100"));
    assert!(!good && err.contains("cannot connect within 100ms"), "{err}");

    let _second = Server::start(mirror(), &sockets.path("second"), Role::Connect);
    let (good, out, err) = add(disk_of("ring = { guest = 128, shadow = 512 }\n"));
    assert_eq!((good, out.as_str()), (true, "function 2 added\n"), "{err}");
    assert!(present(2));
    assert_eq!(rig.bond.get(functions::BASE + 2 * functions::STRIDE + functions::CONFIG), 0x1042_1AF4);

    // The network function goes with its queues running, and a console comes into its place.
    assert!(rig.bond.is_enabled(0) && rig.bond.is_enabled(1));
    assert_eq!(rig.good(&["remove", "0"]), "function 0 removed\n");
    assert!(!present(0) && !rig.bond.is_enabled(0) && !rig.bond.is_enabled(1));
    // Its back end sees the connection end.
    net_back_end.kill();
    assert_eq!(rig.call("function_remove", json!({"function": 0})).unwrap_err().0, api::code::NO_FUNCTION);
    let _console = Server::start(mirror(), &sockets.path("console"), Role::Connect);
    let handle = rig.control().handle();
    assert_eq!(handle.add_function(&console(sockets.good_back_end("console"))).unwrap(), 0);
    assert!(present(0));
    let numbers: Vec<_> =
        rig.control().statistics().functions.iter().map(|of| (of.index, of.device)).collect();
    assert_eq!(numbers, [(0, "console"), (1, "blk"), (2, "blk")]);
    assert_eq!(rig.call("limits_get", json!({})).unwrap()["free"], json!([]));
}

#[test]
fn a_function_that_came_later_carries_traffic_like_any_other() {
    let sockets = Sockets::new();
    let _disk = Server::start(mirror(), &sockets.path("disk"), Role::Connect);
    let _second = Server::start(mirror(), &sockets.path("second"), Role::Connect);
    let spares = vec![SpareConfig::default()];
    let mut bench = Bench::start(BoardConfig { spares, ..board(vec![blk(sockets.good_back_end("disk"))]) });
    let two_queues = BlkConfig { queues: 2, ..BlkConfig::new(sockets.good_back_end("second")) };
    let added = bench.control.handle().add_function(&FunctionConfig::Blk(two_queues)).unwrap();
    assert_eq!(added, 1);
    assert_eq!(bench.bring_up(1, u64::MAX, 2), 0xF);
    for n in [1, 2] {
        bench.bond.publish(n, 0, &[1, 2, 3], 64);
        bench.pass_until("used buffers returned", |bond, _| bond.queue(n, queues::TAIL) == 1);
        assert_eq!(bench.bond.written::<3>(n), [3, 2, 1]);
    }
    bench.stop().unwrap();
}

/// The connection is made beside the control thread: the board does not wait for a back end that is not one.
#[test]
fn a_back_end_that_says_nothing_holds_up_only_the_client_that_adds_it() {
    let sockets = Sockets::new();
    let _disk = Server::start(mirror(), &sockets.path("disk"), Role::Connect);
    let spares = vec![SpareConfig::default()];
    let mut bench = Bench::start(BoardConfig { spares, ..board(vec![blk(sockets.good_back_end("disk"))]) });
    let (enough, silent) = mpsc::channel::<()>();
    let silent = raw(&sockets.path("silent"), move |stream| {
        // Until the test has seen enough, or is over.
        let _ = silent.recv_timeout(TIMEOUT);
        drop(stream);
    });
    let adding = thread::spawn({
        let (handle, config) = (bench.control.handle(), blk(sockets.good_back_end("silent")));
        move || handle.add_function(&config)
    });
    for _ in 0..50 {
        assert_eq!(bench.get(0, 0x2000, 4), 2048);
    }
    assert!(bench.control.handle().describe().is_ok());
    assert!(!adding.is_finished());
    drop(enough);
    let error = adding.join().unwrap().unwrap_err().to_string();
    assert!(error.contains("closed the connection at"), "{error}");
    silent.join().unwrap();
    assert!(bench.control.failure().is_none(), "the board has nothing to do with it");
    bench.stop().unwrap();
}

#[test]
fn a_function_without_a_driver_can_be_reached_no_more_once_it_is_removed() {
    let sockets = Sockets::new();
    let _disk = Server::start(mirror(), &sockets.path("disk"), Role::Connect);
    let mut bench = Bench::start(board(vec![blk(sockets.good_back_end("disk"))]));
    bench.control.handle().remove_function(0).unwrap();
    assert_eq!(bench.get(0, 0x2000, 4), 0);
    assert_eq!(bench.stop().unwrap().mailbox.misdirected, 1);
}

#[test]
fn a_stop_is_asked_for_and_the_program_that_owns_the_board_is_told() {
    let sockets = Sockets::new();
    let _disk = Server::start(mirror(), &sockets.path("disk"), Role::Connect);
    let mut rig = Rig::new(&sockets, Bench::start(board(vec![blk(sockets.good_back_end("disk"))])));
    let api = rig.api.take().unwrap();
    let mode = fs::metadata(&rig.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = Api::start(&ControlConfig::new(&rig.socket), rig.control().handle(), LogLevel::fixed());
    assert!(second.unwrap_err().to_string().contains("another process listens"), "a live socket is refused");
    let readable = || {
        let mut event =
            [rustix::event::PollFd::from_borrowed_fd(api.stop_event(), rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut event, Some(&rustix::time::Timespec::default())).unwrap() == 1
    };
    assert!(!api.stop_asked() && !readable());
    // A connection that stands when the server goes, ends.
    let mut standing = rig.raw();
    assert_eq!(rig.good(&["stop"]), "stop asked for\n");
    assert!(api.stop_asked() && readable());
    drop(api);
    assert!(ends(&mut standing) && !rig.socket.exists());
    let (good, _, err) = rig.bmctl(&["board"]);
    assert!(!good && err.contains("cannot connect to") && err.contains("is the board served"), "{err}");
    // What is left of a server that was killed does not matter.
    drop(std::os::unix::net::UnixListener::bind(&rig.socket).unwrap());
    rig.api = Some(
        Api::start(&ControlConfig::new(&rig.socket), rig.control().handle(), LogLevel::fixed()).unwrap(),
    );
    assert!(rig.good(&["board"]).contains("booting"));
}

#[test]
fn a_board_that_ended_says_so_and_its_statistics_stay() {
    let sockets = Sockets::new();
    let _disk = Server::start(mirror(), &sockets.path("disk"), Role::Connect);
    let mut rig = Rig::new(&sockets, Bench::start(board(vec![blk(sockets.good_back_end("disk"))])));
    rig.bond.pull_out();
    eventually("the device is missed", || rig.control().statistics().state == BoardState::Failed);
    assert_eq!(rig.call("board_power", json!({"on": true})).unwrap_err().0, api::code::STATE);
    assert!(rig.good(&["board"]).contains("its registers read all ones"));
    drop(rig.control.take());
    assert_eq!(rig.call("board_reset", json!({})).unwrap_err().0, api::code::STOPPED);
    assert_eq!(rig.call("statistics_get", json!({})).unwrap()["state"], "absent");
}

#[test]
fn metrics_are_served_over_http_and_by_the_api() {
    let sockets = Sockets::new();
    for address in ["127.0.0.1:0".to_owned(), sockets.path("metrics").display().to_string()] {
        let _disk = Server::start(mirror(), &sockets.path("disk"), Role::Connect);
        let mut bench = Bench::start(board(vec![blk(sockets.good_back_end("disk"))]));
        assert_eq!(bench.bring_up(0, u64::MAX, 1), 0xF);
        let metrics = Some(address.parse().unwrap());
        let rig = Rig::with(&ControlConfig { metrics, ..ControlConfig::new(sockets.path("api")) }, bench);
        let get = |path: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: board\r\n\r\n");
            let mut answer = String::new();
            match rig.api.as_ref().unwrap().metrics_address().unwrap() {
                MetricsAddress::Loopback(address) => {
                    let mut stream = TcpStream::connect(address).unwrap();
                    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
                    stream.write_all(request.as_bytes()).unwrap();
                    stream.read_to_string(&mut answer).unwrap();
                }
                MetricsAddress::Unix(path) => {
                    let mut stream = UnixStream::connect(path).unwrap();
                    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
                    stream.write_all(request.as_bytes()).unwrap();
                    stream.read_to_string(&mut answer).unwrap();
                }
            }
            answer
        };
        let answer = get("/metrics");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        for sample in [
            r#"bm_board_state{board="test",state="running"} 1"#,
            r#"bm_queue_running{board="test",function="0",queue="0"} 1"#,
        ] {
            assert!(body.lines().any(|line| line == sample), "no `{sample}` in\n{body}");
        }
        assert!(get("/").starts_with("HTTP/1.1 404"));
        assert!(rig.good(&["metrics"]).contains("# TYPE bm_queue_forwarded_total counter"));
    }
    assert!(!sockets.path("metrics").exists());
}
