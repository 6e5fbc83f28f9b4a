//! What a mistyped configuration is answered with, and what defaults come to.

use super::*;

const BOARD: &str = r#"
name = "board0"
[[functions]]
[functions.blk]
backend = { socket = "/run/disk.sock" }
[[functions]]
[functions.net]
mac = "52:54:00:00:00:01"
queue_pairs = 2
backend = { socket = "/run/switch.sock", role = "listen", notify = "poll", timeout_ms = 100 }
ring = { guest = 512 }
[[functions]]
[functions.console]
backend = { socket = "/run/console.sock" }
"#;

#[test]
fn a_board_reads_back_as_it_was_written() {
    let board = BoardConfig::from_toml(BOARD).unwrap();
    assert_eq!(board.poll, PollMode::StatusPage);
    assert_eq!(board.mailbox_deadline_us, 50_000);
    let [FunctionConfig::Blk(blk), FunctionConfig::Net(net), FunctionConfig::Console(console)] =
        board.functions.as_slice()
    else {
        panic!("{board:?}")
    };
    assert_eq!(blk.ring_sizes(), RingSizes::BLK);
    assert_eq!(net.ring_sizes(), RingSizes { guest: 512, shadow: 1024, ..RingSizes::NET });
    assert_eq!((net.backend.role, net.backend.notify), (Role::Listen, Notify::Poll));
    assert_eq!(console.ring_sizes(), RingSizes::CONSOLE);
    assert_eq!((board.functions[1].queues(), board.functions[2].queues()), (5, 2));
    assert_eq!(BoardConfig::from_toml(&toml::to_string(&board).unwrap()).unwrap(), board);
}

#[test]
fn a_port_is_a_device_or_a_socket() {
    let with = |port: &str| BoardConfig::from_toml(&format!("port = {port}\n{BOARD}"));
    let vfio = with(r#"{ vfio = "0000:01:00.0" }"#).unwrap();
    assert_eq!(vfio.port, Some(PortConfig::Vfio("0000:01:00.0".parse().unwrap())));
    assert_eq!(BoardConfig::from_toml(&toml::to_string(&vfio).unwrap()).unwrap(), vfio);
    let vfio_user = with(r#"{ vfio-user = "/run/iobond.sock" }"#).unwrap();
    assert_eq!(vfio_user.port, Some(PortConfig::VfioUser("/run/iobond.sock".into())));
    assert_eq!(BoardConfig::from_toml(&toml::to_string(&vfio_user).unwrap()).unwrap(), vfio_user);
    for (wrong, part) in [
        (r#"{ vfio = "01:00.0" }"#, "`01:00.0` is not a PCI address"),
        (r#"{ vifo = "0000:01:00.0" }"#, "expected `vfio` or `vfio-user`"),
    ] {
        let text = with(wrong).unwrap_err().to_string();
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn cores_are_a_poller_and_where_control_may_run() {
    let with = |cores: &str| BoardConfig::from_toml(&format!("cores = {cores}\n{BOARD}"));
    let board = with("{ poll = 2, control = [0, 1] }").unwrap();
    let cores = board.cores.clone().unwrap();
    assert_eq!((cores.poll, cores.control, cores.locks), (2, vec![0, 1], "/run/iobond/cores".into()));
    assert_eq!(BoardConfig::from_toml(&toml::to_string(&board).unwrap()).unwrap(), board);
    let text = with("{ poll = 9000 }").unwrap_err().to_string();
    assert_eq!(text, "cores.poll is 9000; expected 0 to 8191");
}

#[test]
fn a_typo_is_answered_with_line_column_and_the_expected_keys() {
    let wrong = BOARD.replace("queue_pairs", "queue_pears");
    let error = BoardConfig::from_toml(&wrong).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("line 9, column 1"), "{text}");
    assert!(text.contains("queue_pears") && text.contains("`queue_pairs`"), "{text}");
    assert_eq!(&wrong[error.span().unwrap()], "queue_pears");
}

#[test]
fn an_unknown_device_is_answered_with_those_there_are() {
    let text =
        BoardConfig::from_toml(&BOARD.replace("functions.net", "functions.nett")).unwrap_err().to_string();
    assert!(
        text.contains("`nett`") && ["`net`", "`blk`", "`console`"].iter().all(|known| text.contains(known)),
        "{text}"
    );
}

#[test]
fn values_out_of_range_name_the_key_and_the_range() {
    let cases = [
        ("guest = 512", "guest = 500", "functions[1].net.ring.guest is 500; expected a power of two"),
        (
            "guest = 512",
            "guest = 512, shadow = 256",
            "functions[1].net.ring.shadow is 256; expected 512 to 32768",
        ),
        ("queue_pairs = 2", "queue_pairs = 0", "functions[1].net.queue_pairs is 0; expected 1 to 16"),
        (
            "timeout_ms = 100",
            "timeout_ms = 0",
            "functions[1].net.backend.timeout_ms is 0; expected 1 to 60000",
        ),
        ("mac =", "mtu = 60\nmac =", "functions[1].net.mtu is 60; expected 68 to 65535"),
        ("board0", "", "name.len() is 0; expected 1 to 64"),
    ];
    for (from, to, expected) in cases {
        let text = BoardConfig::from_toml(&BOARD.replace(from, to)).unwrap_err().to_string();
        assert_eq!(text, expected);
    }
}

#[test]
fn spare_places_count_among_functions_and_queues() {
    let with =
        |spares: &str| {
            BoardConfig::from_toml(&BOARD.replace(
                "[[functions]]\n[functions.blk]",
                &format!("{spares}[[functions]]\n[functions.blk]"),
            ))
        };
    let board = with("[[spares]]\n[[spares]]\nqueues = 3\nring = { slots = 64 }\n").unwrap();
    assert_eq!((board.spares[0].queues, board.spares[0].ring_sizes()), (2, RingSizes::SPARE));
    assert_eq!(board.spares[1].ring_sizes(), RingSizes { slots: 64, ..RingSizes::SPARE });
    assert_eq!(board.queues(), 1 + 5 + 2 + 2 + 3);
    assert_eq!(BoardConfig::from_toml(&toml::to_string(&board).unwrap()).unwrap(), board);
    for (spares, expected) in [
        ("[[spares]]\n".repeat(6), "functions and spares is 9; expected 1 to 8"),
        ("[[spares]]\nqueues = 0\n".into(), "spares[0].queues is 0; expected 1 to 33"),
        (
            "[[spares]]\nring = { shadow = 768 }\n".into(),
            "spares[0].ring.shadow is 768; expected a power of two",
        ),
        ("[[spares]]\nqueues = 33\n".repeat(2), "queues of all functions and spares is 74; expected 1 to 64"),
    ] {
        assert_eq!(with(&spares).unwrap_err().to_string(), expected);
    }
}

#[test]
fn limits_are_rates_and_what_may_come_at_once() {
    let with = |net: &str, blk: &str| {
        let text = BOARD
            .replace("mac =", &format!("limits = {{ {net} }}\nmac ="))
            .replace("[functions.blk]\n", &format!("[functions.blk]\nlimits = {{ {blk} }}\n"));
        BoardConfig::from_toml(&text)
    };
    let board =
        with("packets_per_second = 1_000_000, bits_per_second = 10_000_000_000", "iops = 50").unwrap();
    let rates = |index: usize| board.functions[index].limits().and_then(|limits| limits.rates());
    let net = Rates {
        operations_per_second: Some(1_000_000),
        operations_burst: 10_000,
        bytes_per_second: Some(1_250_000_000),
        bytes_burst: 12_500_000,
    };
    let blk = Rates {
        operations_per_second: Some(50),
        operations_burst: 1,
        bytes_burst: 1 << 20,
        ..Rates::default()
    };
    assert_eq!((rates(0), rates(1), rates(2)), (Some(blk), Some(net), None));
    assert_eq!(BoardConfig::from_toml(&toml::to_string(&board).unwrap()).unwrap(), board);
    let slow = with("bits_per_second = 8, burst_ms = 10_000", "").unwrap();
    let [blk, net] = [0, 1].map(|index| slow.functions[index].limits().and_then(|limits| limits.rates()));
    assert_eq!(net.map(|rates| (rates.bytes_per_second, rates.bytes_burst)), Some((Some(1), 65_562)));
    assert_eq!(blk, None, "limits that name no rate are none");
    for (net, blk, expected) in [
        (
            "packets_per_second = 0",
            "",
            "functions[1].net.limits.packets_per_second is 0; expected 1 to 1000000000000",
        ),
        (
            "bits_per_second = 7",
            "",
            "functions[1].net.limits.bits_per_second is 7; expected 8 to 1000000000000",
        ),
        ("", "iops = 1, burst_ms = 0", "functions[0].blk.limits.burst_ms is 0; expected 1 to 10000"),
    ] {
        assert_eq!(with(net, blk).unwrap_err().to_string(), expected);
    }
    assert!(
        with("iops = 5", "").unwrap_err().to_string().contains("packets_per_second"),
        "expected keys are named"
    );
}

#[test]
fn only_unicast_addresses_are_taken() {
    assert_eq!("52:54:00:aB:00:01".parse::<MacAddress>().unwrap().to_string(), "52:54:00:ab:00:01");
    for wrong in
        ["", "52:54", "53:54:00:00:00:01", "00:00:00:00:00:00", "52:54:00:00:00:01:02", "52:54:00:00:00:+1"]
    {
        assert!(wrong.parse::<MacAddress>().is_err(), "{wrong}");
    }
}

#[test]
fn slots_that_do_not_hold_one_request_are_refused() {
    let check = |device: &str, ring: &str| {
        let text = format!(
            "name = \"b\"\n[[functions]]\n[functions.{device}]\nbackend = {{ socket = \"/s\" }}\nring = {{ {ring} }}\n{}",
            if device == "net" { "mac = \"52:54:00:00:00:01\"" } else { "" }
        );
        BoardConfig::from_toml(&text).map(drop).map_err(|error| error.to_string())
    };
    for (device, slot_size, least) in [("blk", 64, 66), ("net", 4096, 35), ("console", 512, 8)] {
        assert_eq!(check(device, &format!("slot_size = {slot_size}, slots = {least}")), Ok(()), "{device}");
        let refused = check(device, &format!("slot_size = {slot_size}, slots = {}", least - 1)).unwrap_err();
        assert!(
            refused.contains(&format!(".ring.slots is {}; expected {least} to 65535", least - 1)),
            "{refused}"
        );
    }
}
