//! `bmhive trace` as a user starts it.
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::fs;

use pcap_file::pcap::PcapReader;
use rig::test_folder::TestFolder;
use serde_json::Value;

#[test]
fn it_leaves_a_picture_and_a_capture_and_says_how_to_open_them() {
    let folder = TestFolder::new();
    let files = ["one", "other"].map(|name| {
        let out = folder.path(name);
        let size = ["--boards", "3", "--queues", "1", "--size", "1500", "--depth", "2", "--requests", "20"];
        let ended = folder
            .bmhive(["trace", "--seed", "5", "--out", out.to_str().unwrap()].into_iter().chain(size))
            .finish();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:#?}");
        for said in ["60 requests of 1500 bytes", "3 boards", "ui.perfetto.dev", "120 frames", "Wireshark"] {
            assert!(ended.stdout.contains(said), "{said:?} in {}", ended.stdout);
        }
        let mut left: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["packets.pcap", "trace.json"]);
        (fs::read(out.join("trace.json")).unwrap(), fs::read(out.join("packets.pcap")).unwrap())
    });
    assert!(files[0] == files[1], "the same run leaves the same bytes");
    let [(trace, capture), _] = files;
    let trace: Value = serde_json::from_slice(&trace).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    assert_eq!(events.iter().filter(|event| event["ph"] == "f").count(), 60, "a flow for each request");
    let mut reader = PcapReader::new(capture.as_slice()).unwrap();
    // Without the virtio-net header.
    assert_eq!(reader.next_packet().unwrap().unwrap().data.len(), 1488);
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let folder = TestFolder::new();
    let out = folder.path("out");
    for (option, value, reason) in [
        ("--size", "61", "a frame has headers and a number in it; choose 62 to 65536"),
        ("--boards", "17", "a base server has so many board slots; choose 1 to 16"),
        ("--depth", "129", "a ring holds so many requests"),
        ("--requests", "0", "nothing is measured without one"),
    ] {
        let ended = folder.bmhive(["trace", "--out", out.to_str().unwrap(), option, value]).finish();
        assert_eq!(ended.code, Some(1), "{ended:#?}");
        assert!(ended.stderr.contains(reason), "{option}: {}", ended.stderr);
        assert!(!out.exists());
    }
}
