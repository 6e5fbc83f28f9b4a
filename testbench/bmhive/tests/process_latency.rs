//! `bmhive bench latency` as a user starts it.
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::collections::BTreeSet;

use rig::{bmhive::Ended, test_folder::TestFolder};
use serde_json::Value;

/// Few requests, and one or two of everything.
const SMALL: &str = "--sizes 64,1500 --boards 1,2 --queues 1,2 --loads idle,50,saturation --requests 100";

const SCENARIO: &str = "[server]\nname = \"pair\"\n\
    [[board]]\nname = \"a\"\nmemory_mib = 16\n[[board.function]]\nkind = \"blk\"\nsize_mib = 1\nqueues = 2\n\
    [[board]]\nname = \"b\"\nmemory_mib = 16\n[[board.function]]\nkind = \"blk\"\nsize_mib = 1\n";

fn latency(folder: &TestFolder, arguments: &str) -> Ended {
    folder.bmhive(["--quiet", "bench", "latency"].into_iter().chain(arguments.split_whitespace())).finish()
}

fn json(folder: &TestFolder, arguments: &str) -> Value {
    let ended = latency(folder, &format!("{SMALL} --json {arguments}"));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

/// The names of everything that can be compared, and where along a curve it is.
fn names(result: &Value) -> BTreeSet<String> {
    let list = |value: &Value| value.as_array().unwrap().clone();
    let named =
        |key: &str| list(&result[key]).into_iter().map(|row| row["name"].as_str().unwrap().to_owned());
    let points = list(&result["curves"]).into_iter().flat_map(|curve| {
        let points = list(&curve["series"]).into_iter().flat_map(|series| {
            let places = list(&series["points"]).into_iter().map(|point| point[0].clone());
            places.map(|x| format!("{} @ {x}", series["name"])).collect::<Vec<_>>()
        });
        points.map(|point| format!("{} {point}", curve["name"])).collect::<Vec<_>>()
    });
    ["figures", "latencies", "stages"].into_iter().flat_map(named).chain(points).collect()
}

#[test]
fn both_worlds_measure_the_same_under_the_same_names() {
    let folder = TestFolder::new();
    let cycle = json(&folder, "--world cycle");
    let found = names(&cycle);
    for name in [
        "latency.64.qd1.doorbell_to_shadow",
        "latency.1500.qd1.shadow_to_back_end",
        "latency.64.load50.back_end_to_guest",
        "latency.64.saturation.round_trip",
        "latency.64.capacity.throughput",
        "latency.1500.saturation.throughput",
        "latency.1500.qd1",
        "\"latency.load\" \"p99\" @ 50.0",
        "\"latency.size\" \"p50\" @ 1500.0",
        "\"latency.queues\" \"p99\" @ 2.0",
        "\"latency.boards\" \"all boards\" @ 2.0",
    ] {
        assert!(found.contains(name), "{name} is missing in {found:#?}");
    }
    for execution in ["inline", "threads"] {
        let live = json(&folder, &format!("--world live --execution {execution}"));
        assert_eq!(live["world"], "live");
        assert_eq!(names(&live), found, "{execution}");
        let share = live["figures"][0]["cpu_share"].as_f64().unwrap();
        assert!(share > 0.0, "{share}");
        for latency in live["latencies"].as_array().unwrap() {
            assert_eq!(latency["count"], 100, "{latency}");
        }
    }
    assert_eq!((&cycle["world"], &cycle["figures"][0]["cpu_share"]), (&"cycle".into(), &Value::Null));
}

#[test]
fn virtual_time_passes_alike_every_time_and_not_with_another_seed() {
    let folder = TestFolder::new();
    let run = |arguments: &str| {
        let mut result = json(&folder, arguments);
        let whole = result.as_object_mut().unwrap();
        assert!(whole.remove("machine").is_some() && whole.remove("started_unix_seconds").is_some());
        result.to_string()
    };
    let first = run("");
    assert!(first == run(""), "two runs differ");
    assert!(first != run("--seed 2"), "chance does not depend on the seed");
}

#[test]
fn a_result_is_left_and_compared_with_that_of_another_world() {
    let folder = TestFolder::new();
    for world in ["cycle", "live"] {
        let ended = latency(&folder, &format!("{SMALL} --world {world} --out {world}"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        for part in [
            &format!("world {world}"),
            "IO-Bond: doorbell to shadow",
            "Round trip against size",
            "result.json",
        ] {
            assert!(ended.stdout.contains(part), "{part:?} is missing in\n{}", ended.stdout);
        }
        let report = std::fs::read_to_string(folder.path(world).join("report.html")).unwrap();
        assert!(report.contains("latency.64.load50.round_trip"));
    }
    let compared = folder.bmhive(["compare", "cycle", "live"]).finish();
    assert_eq!(compared.code, Some(0), "{compared:?}");
    assert!(compared.stdout.contains("different worlds: A is cycle, B is live"), "{}", compared.stdout);
    for name in ["latency.64.qd1.doorbell_to_shadow p50", "latency.load"] {
        assert!(compared.stdout.contains(name), "{name} is missing in\n{}", compared.stdout);
    }
    assert!(!compared.stdout.contains("only in"), "{}", compared.stdout);
}

#[test]
fn a_scenario_says_what_is_simulated() {
    let folder = TestFolder::new();
    let slow = format!("{SCENARIO}[timing]\nboard_access = 8000\n[design]\ninterrupts = false\n");
    let median = |name: &str, text: &str| {
        folder.write(name, text);
        let ended =
            latency(&folder, &format!("--scenario {name} --sizes 64 --loads idle --requests 50 --json"));
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let result: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(result["scenario"]["name"], "pair");
        assert!(
            result["notes"][1].as_str().unwrap().contains("512 slots of 32768 bytes"),
            "{}",
            result["notes"]
        );
        let latency = &result["latencies"][3];
        // Two boards with two queues each.
        assert_eq!(
            (latency["name"].as_str(), latency["count"].as_u64()),
            (Some("latency.64.qd1.round_trip"), Some(200))
        );
        latency["p50"].as_u64().unwrap()
    };
    let (paper, slow) = (median("paper.toml", SCENARIO), median("slow.toml", &slow));
    assert!(slow > paper + 20_000, "ten times the flight: {paper} ns and {slow} ns");
}

#[test]
fn what_cannot_be_is_refused_with_the_reason() {
    let folder = TestFolder::new();
    folder.write("lanes.toml", format!("{SCENARIO}[timing.board]\ngeneration = \"gen3\"\nlanes = 3\n"));
    let mps = "[timing.base]\ngeneration = \"gen3\"\nlanes = 8\nmax_payload = 512\nmax_read_request = 256\n";
    folder.write("mps.toml", format!("{SCENARIO}{mps}"));
    folder.write("slot.toml", SCENARIO.replacen("queues = 2", "slot_size = 0", 1));
    folder.write("rate.toml", format!("{SCENARIO}[timing.dma]\nrate = 100_000_000_000\n"));
    folder.write("slots.toml", SCENARIO.replacen("queues = 2", "slot_size = 4096\nslots = 16", 1));
    for (arguments, said) in [
        ("--scenario lanes.toml", "lanes.toml:18:9: timing.board.lanes: lanes = 3: there is no such link"),
        ("--scenario mps.toml", "max_payload = 512 is more than max_read_request = 256"),
        (
            "--scenario slot.toml",
            "slot.toml:9:13: board[0].function[0].slot_size: found 0; expected a power of two",
        ),
        ("--scenario rate.toml", "rate = 100000000000 bit/s cannot be met"),
        (
            "--scenario slots.toml",
            "a request of 131072 bytes takes 32 slots of 4096, and a queue has 16 of them",
        ),
        ("--boards 17", "boards = 17: a base server has so many board slots; choose 1 to 16"),
        ("--queues 65", "queues = 65: an IO-Bond has so many queue contexts"),
        ("--sizes 0", "size = 0: a request carries something"),
        ("--loads 150", "a load of 150 % cannot be met"),
        ("--world rtl", "this tree has no IO-Bond in SystemVerilog"),
        ("--world vfio", "`bm-hypervisor selftest CONFIG`"),
    ] {
        let ended = latency(&folder, arguments);
        assert!(matches!(ended.code, Some(1 | 2)) && ended.stdout.is_empty(), "{arguments}: {ended:?}");
        assert!(ended.stderr.contains(said), "{arguments}: {said:?} is missing in\n{}", ended.stderr);
    }
    let checked = folder.bmhive(["check", "lanes.toml"]).finish();
    assert!(checked.code == Some(1) && checked.stderr.contains("lanes = 3"), "{checked:?}");
}
