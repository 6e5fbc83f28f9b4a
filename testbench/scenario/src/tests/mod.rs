mod typos;

use std::path::Path;

use bm_hypervisor::config::RingSizes;
use iobond_model::cycle::Span;
use proptest::prelude::*;

use super::{design::Notice, *};

/// A scenario without a fault, which each typo below spoils in one place.
const GOOD: &str = r#"[server]
name = "two boards"

[[board]]
name = "left"
memory_mib = 64

[[board.function]]
kind = "blk"
size_mib = 8

[[board.function]]
kind = "net"
mac = "52:54:00:00:00:01"

[[board]]
name = "right"
memory_mib = 64

[[board.function]]
kind = "net"
mac = "52:54:00:00:00:02"
queue_pairs = 2

[workload.blk]
reads = 100
queue_depths = [1, 32]

[[fault]]
kill = "left.0"
after_ms = 10
"#;

fn spoil(good: &str, bad: &str) -> String {
    assert!(GOOD.contains(good), "{good:?} is not in the scenario");
    GOOD.replacen(good, bad, 1)
}

#[test]
fn a_scenario_is_what_its_text_says() {
    let scenario = Scenario::parse("scenario.toml", GOOD, Path::new("")).unwrap();
    let [left, right] = scenario.boards.as_slice() else { panic!("{scenario:?}") };
    assert_eq!((left.name.as_str(), left.memory_bytes), ("left", 64 << 20));
    assert!(
        matches!(&left.functions[0].device, Device::Blk(blk) if blk.backing == Backing::Scratch(8 << 20))
    );
    assert!(
        matches!(&left.functions[1].device, Device::Net(net) if net.mac.bytes() == [0x52, 0x54, 0, 0, 0, 1])
    );
    assert_eq!(left.functions[1].queues(), 2);
    assert_eq!(right.functions[0].queues(), 5, "two pairs and the control queue");
    assert_eq!(scenario.workload.blk.as_ref().map(|blk| blk.extent), Some(Extent::Count(100)));
    assert_eq!(
        scenario.back_ends(),
        [
            ("left.0".to_owned(), BackEnd::Disk { board: 0, function: 0 }),
            ("switch".to_owned(), BackEnd::Switch)
        ]
    );
    let after = Duration::from_millis(10);
    assert_eq!(
        scenario.faults,
        [Fault { kill: BackEnd::Disk { board: 0, function: 0 }, after, restart_after: None }]
    );
}

#[test]
fn the_demonstration_is_a_scenario() {
    let scenario = Scenario::demonstration().unwrap();
    assert_eq!(scenario.boards.len(), 2);
    for board in &scenario.boards {
        assert!(matches!(board.functions[0].device, Device::Blk(_)));
        assert!(matches!(board.functions[1].device, Device::Net(_)));
    }
}

#[test]
fn a_board_with_a_guest_may_have_more_memory() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("vmlinux"), b"\x7fELF").unwrap();
    let guest = "\n[board.guest]\ncpus = 2\nkernel = \"vmlinux\"\ncmdline = \"loglevel=7 nosmp\"\nautostart = false\n";
    let text = spoil("\n[[board]]\nname = \"right\"", &format!("{guest}[[board]]\nname = \"right\""))
        .replacen("memory_mib = 64", "memory_mib = 65536", 1);
    let scenario = Scenario::parse("scenario.toml", &text, directory.path()).unwrap();
    let [left, right] = scenario.boards.as_slice() else { panic!("{scenario:?}") };
    let expected = Guest {
        cpus: 2,
        kernel: Some(directory.path().join("vmlinux")),
        initrd: None,
        cmdline: Some("loglevel=7 nosmp".into()),
        autostart: false,
    };
    assert_eq!((left.memory_bytes, left.guest.as_ref()), (64 << 30, Some(&expected)));
    assert_eq!((right.memory_bytes, right.guest.as_ref()), (64 << 20, None));
}

#[test]
fn a_console_is_a_function_with_a_back_end_of_its_own() {
    let console = "[[board.function]]\nkind = \"console\"\n\n[workload.blk]";
    let text = spoil("[workload.blk]", console).replacen("left.0", "right.1", 1);
    let scenario = Scenario::parse("scenario.toml", &text, Path::new("")).unwrap();
    let function = &scenario.boards[1].functions[1];
    assert!(matches!(function.device, Device::Console(Console)), "{function:?}");
    assert_eq!(function.queues(), 2);
    let back_end = BackEnd::Console { board: 1, function: 1 };
    assert!(scenario.back_ends().contains(&("right.1".to_owned(), back_end)));
    assert_eq!(scenario.faults[0].kill, back_end);
}

#[test]
fn a_base_core_polls_adaptively_unless_told_otherwise() {
    let poll = |keys: &str| {
        let text = spoil("[server]\n", &format!("[server]\n{keys}"));
        let scenario = Scenario::parse("scenario.toml", &text, Path::new("")).unwrap();
        (scenario.poll, scenario.poll_us)
    };
    assert_eq!(poll(""), (Poll::Adaptive, 200));
    assert_eq!(poll("poll = \"busy\"\npoll_us = 0\n"), (Poll::Busy, 0));
}

#[test]
fn the_boards_of_the_linux_scenario_run_guests_on_a_console() {
    let scenario = Scenario::linux().unwrap();
    assert_eq!(scenario.boards.len(), 2);
    for board in &scenario.boards {
        assert!(board.guest.as_ref().is_some_and(|guest| guest.autostart), "{board:?}");
        let [console, disk, net] = board.functions.as_slice() else { panic!("{board:?}") };
        assert!(matches!(console.device, Device::Console(_)));
        assert!(matches!(disk.device, Device::Blk(_)));
        assert!(matches!(net.device, Device::Net(_)));
    }
}

#[test]
fn timing_and_design_are_the_defaults_but_for_what_is_said() {
    let rest = "\n[timing]\nboard_access = 300\npoll.entry = 5\n[design]\nnotice = \"registers\"\nevent_idx = true\n";
    let text = spoil("size_mib = 8", "size_mib = 8\nqueue_size = 256\nslots = 700") + rest;
    let scenario = Scenario::parse("scenario.toml", &text, Path::new("")).unwrap();
    let rings = scenario.boards[0].functions[0].rings;
    assert_eq!((rings.guest, rings.shadow, rings.slot_size, rings.slots), (256, 1024, 32768, 700));
    let mut timing = Timing { board_access: Span::from_ns(300), ..Timing::default() };
    timing.poll.entry = Span::from_ns(5);
    assert_eq!(scenario.timing, timing);
    let design = Design { notice: Notice::Registers, event_idx: true, ..Design::default() };
    assert_eq!(scenario.design, design);
    let plain = Scenario::parse("scenario.toml", GOOD, Path::new("")).unwrap();
    assert_eq!((plain.timing, plain.design), (Timing::default(), Design::default()));
    assert_eq!(plain.boards[0].functions[1].rings, RingSizes { slot_size: 4096, ..RingSizes::NET });
}

#[test]
fn what_is_started_again_is_killed_once() {
    let kill = |name: &str, after: u32, rest: &str| {
        format!("\n[[fault]]\nkill = \"{name}\"\nafter_ms = {after}\n{rest}")
    };
    let restart = "restart_after_ms = 20\n";
    let [none, plain, other, restarted] =
        [String::new(), kill("left.0", 30, ""), kill("switch", 30, restart), kill("left.0", 30, restart)];
    let parse = |first: &str, second: &str| {
        let text = GOOD.replace("after_ms = 10\n", &format!("after_ms = 10\n{first}")) + second;
        Scenario::parse("x.toml", &text, Path::new("")).map_err(|error| error.to_string())
    };
    for (first, second) in [("", &plain), ("", &other), (restart, &none), (restart, &other)] {
        parse(first, second).unwrap();
    }
    for (line, first, second) in [(34, "", &restarted), (35, restart, &plain), (35, restart, &restarted)] {
        let expected = format!(
            "x.toml:{line}:8: fault[1].kill: fault[0] kills the same back end; expected one fault at most for a back end that \
             is started again, by `restart_after_ms` of either"
        );
        assert_eq!(parse(first, second).unwrap_err(), expected);
    }
}

#[test]
fn a_scenario_that_is_not_there_is_named() {
    let error = Scenario::load(Path::new("/no/such/scenario.toml")).unwrap_err();
    assert!(error.to_string().contains("/no/such/scenario.toml"), "{error}");
}

#[test]
fn an_image_has_one_user_unless_all_only_read() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("disk.img"), [0; 512]).unwrap();
    let two = |first: &str, second: &str| {
        let disk = |rest: &str| format!("[[board.function]]\nkind = \"blk\"\nimage = \"disk.img\"\n{rest}\n");
        let text = format!(
            "[server]\nname = \"x\"\n[[board]]\nname = \"b\"\nmemory_mib = 64\n{}{}",
            disk(first),
            disk(second)
        );
        Scenario::parse("x.toml", &text, directory.path())
    };
    two("read_only = true", "read_only = true").unwrap();
    let error = two("read_only = true", "").unwrap_err().to_string();
    assert!(error.contains("board[0].function[1].image") && error.contains("read_only"), "{error}");
}

proptest! {
    /// Whatever is cut out of or put into a scenario, the answer is a scenario or a place inside the text;
    /// never a panic.
    #[test]
    fn no_text_panics(at in 0..GOOD.len(), cut in 0usize..20, put in "\\PC{0,12}") {
        let end = (at + cut).min(GOOD.len());
        let text = format!("{}{put}{}", &GOOD[..at], &GOOD[end..]);
        if let Err(ScenarioError::Invalid(invalid)) = Scenario::parse("x.toml", &text, Path::new("")) {
            prop_assert!(invalid.line <= text.lines().count() + 1, "line {} of {text:?}", invalid.line);
        }
    }
}
