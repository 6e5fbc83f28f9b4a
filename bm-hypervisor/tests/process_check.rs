//! `bm-hypervisor check`, as its user sees it.

mod double;

use std::{fs, process::Command};

use bm_hypervisor::config::Role;
use double::back_end::{FEATURES, Mirror, PROTOCOL, Server, Sockets};

/// Runs `check` on `config`; whether it succeeded, standard output, standard error.
#[allow(clippy::unwrap_used)] // a helper of tests
fn check(sockets: &Sockets, config: &str) -> (bool, String, String) {
    let path = sockets.path("board.toml");
    fs::write(&path, config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bm-hypervisor")).arg("check").arg(&path).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn disk(sockets: &Sockets) -> String {
    let socket = sockets.path("disk");
    format!(
        "name = \"board0\"\n[[functions]]\n[functions.blk]\nbackend = {{ socket = {socket:?}, timeout_ms = 250 }}\n"
    )
}

#[test]
fn it_says_what_is_offered() {
    let sockets = Sockets::new();
    // RO and FLUSH.
    let server = Server::start(
        Mirror::new(FEATURES | 1 << 5 | 1 << 9, PROTOCOL),
        &sockets.path("disk"),
        Role::Connect,
    );
    let (good, out, err) = check(&sockets, &disk(&sockets));
    assert!(good, "{err}");
    for line in [
        "board board0, functions: 1",
        "function 0: blk, PCI ID 1af4:1042",
        "  back end features:  RO FLUSH INDIRECT_DESC PROTOCOL_FEATURES VERSION_1",
        "  protocol features:  MQ REPLY_ACK CONFIG CONFIGURE_MEM_SLOTS",
        "  back end queues:    4",
        "  capacity:           2048 sectors of 512 bytes (1 MiB)",
        "  a board is offered: SIZE_MAX SEG_MAX RO FLUSH INDIRECT_DESC EVENT_IDX VERSION_1 NOTIFICATION_DATA RING_RESET",
        "  queues:             1 of at most 512 descriptors",
    ] {
        assert!(out.lines().any(|found| found == line), "no line `{line}` in\n{out}");
    }
    drop(server);
}

#[test]
fn the_machine_decides_too_and_back_ends_can_be_left_out() {
    let sockets = Sockets::new();
    let path = sockets.path("board.toml");
    let run = |port: &str| {
        fs::write(&path, format!("port = {port}\n{}", disk(&sockets))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bm-hypervisor"));
        let output = command.args(["check", "--no-back-ends"]).arg(&path).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // No machine has domains of this number.
    let (code, said) = run("{ vfio = \"ffffffff:ff:1f.7\" }");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("  error    device      there is no PCI function ffffffff:ff:1f.7"), "{said}");
    let here = sockets.path("board.toml");
    let (code, said) = run(&format!("{{ vfio-user = {here:?} }}"));
    // No cores are named, which is a warning.
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("  warning  cores "), "{said}");
    assert!(said.contains("board.toml is there") && !said.contains("function 0"), "{said}");
}

#[test]
fn it_says_how_large_a_console_is() {
    let sockets = Sockets::new();
    // VIRTIO_CONSOLE_F_SIZE and VIRTIO_CONSOLE_F_EMERG_WRITE.
    let mirror_of_80x25 = Mirror::new(FEATURES | 1 | 1 << 2, PROTOCOL);
    mirror_of_80x25.space.lock().unwrap()[..4].copy_from_slice(&[80, 0, 25, 0]);
    let _server = Server::start(mirror_of_80x25, &sockets.path("disk"), Role::Connect);
    let (good, out, err) = check(&sockets, &disk(&sockets).replace("functions.blk", "functions.console"));
    assert!(good, "{err}");
    for line in [
        "function 0: console, PCI ID 1af4:1043",
        "  back end features:  SIZE EMERG_WRITE INDIRECT_DESC PROTOCOL_FEATURES VERSION_1",
        "  size:               80 columns, 25 rows",
        "  a board is offered: SIZE INDIRECT_DESC EVENT_IDX VERSION_1 NOTIFICATION_DATA RING_RESET",
        "  queues:             2 of at most 64 descriptors",
    ] {
        assert!(out.lines().any(|found| found == line), "no line `{line}` in\n{out}");
    }
}

#[test]
fn it_fails_clearly() {
    let sockets = Sockets::new();
    let (good, _, err) = check(&sockets, &disk(&sockets));
    assert!(!good && err.contains("cannot connect within 250ms"), "{err}");

    let (good, _, err) = check(&sockets, &disk(&sockets).replace("timeout_ms", "time_out"));
    for part in ["board.toml:4:", "unknown field `time_out`, expected one of", "`timeout_ms`"] {
        assert!(!good && err.contains(part), "no `{part}` in\n{err}");
    }

    let output = Command::new(env!("CARGO_BIN_EXE_bm-hypervisor"))
        .args(["--log-format", "xml", "check", "x"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("expected `text` or `json`"));

    let output =
        Command::new(env!("CARGO_BIN_EXE_bm-hypervisor")).args(["check", "/nowhere.toml"]).output().unwrap();
    assert!(
        !output.status.success()
            && String::from_utf8_lossy(&output.stderr).contains("cannot read /nowhere.toml")
    );
}
