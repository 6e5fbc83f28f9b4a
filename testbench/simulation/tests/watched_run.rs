//! A run in virtual time that is watched: the picture and the capture hold what happened, and change nothing
//! of it.
#![allow(clippy::unwrap_used, reason = "a test's own functions fail as its tests do")]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use iobond_model::{
    cycle::{Event, Span, Time},
    fabric::Direction,
};
use pcap_file::{DataLink, TsResolution, pcap::PcapReader};
use results::measure::Stage;
use serde_json::Value;
use simulation::{
    Design, Notice, Outcome, Pace, Payload, Plan, Service, Shape, Stamps,
    cycle::{Captured, Packets, Seen, Timeline, Watch, run, run_watched},
};
use smoltcp::wire::{EthernetFrame, Ipv4Packet, UdpPacket};

/// What the tests themselves write down.
#[derive(Debug, Default)]
struct Log {
    last: Time,
    /// By board, queue and number: the stamps. Numbers are in the order of making.
    stamps: BTreeMap<(usize, usize, u64), Stamps>,
    numbers: BTreeMap<(usize, usize, u16), u64>,
    made: BTreeMap<(usize, usize), u64>,
    forwarded: u64,
}

struct Logs(RefCell<Log>);

impl Watch for Logs {
    fn see(&self, now: Time, board: usize, seen: &Seen<'_>) {
        let mut log = self.0.borrow_mut();
        assert!(now >= log.last, "{seen:?} at {now}, after {}", log.last);
        log.last = now;
        match *seen {
            Seen::Made { queue, request } => {
                let made = log.made.entry((board, queue)).or_default();
                let number = *made;
                *made += 1;
                log.numbers.insert((board, queue, request), number);
            }
            Seen::Done { queue, request, stamps } => {
                let number = log.numbers[&(board, queue, request)];
                log.stamps.insert((board, queue, number), *stamps);
            }
            Seen::Engine(Event::Forwarded { chains, .. }) => log.forwarded += u64::from(chains),
            _ => {}
        }
    }
}

struct Watched {
    outcome: Outcome,
    /// The file, and the same as events.
    picture: String,
    events: Vec<Value>,
    captured: Captured,
    log: Log,
}

const EVENTS: usize = 1 << 20;
const CAPTURE: u64 = 1 << 30;

fn watch(plan: &Plan) -> Watched {
    within(plan, EVENTS, CAPTURE)
}

fn within(plan: &Plan, events: usize, bytes: u64) -> Watched {
    let drawn = (Timeline::new(plan, events), Packets::new(bytes));
    let watch = Rc::new((drawn, Logs(RefCell::default())));
    let outcome = run_watched(plan, &(Rc::clone(&watch) as Rc<dyn Watch>)).unwrap();
    let ((timeline, packets), logs) = Rc::into_inner(watch).unwrap();
    let trace = timeline.take();
    assert!(trace.len() <= events);
    assert_eq!(trace.crossing(), 0);
    let mut picture = Vec::new();
    trace.write(&mut picture).unwrap();
    let picture = String::from_utf8(picture).unwrap();
    let parsed: Value = serde_json::from_str(&picture).unwrap();
    let events = parsed["traceEvents"].as_array().unwrap().clone();
    Watched { outcome, picture, events, captured: packets.take().unwrap(), log: logs.0.into_inner() }
}

/// Two boards of two queues, three requests outstanding in each, all of which carry frames.
fn small() -> Plan {
    Plan {
        boards: 2,
        queues: 2,
        pace: Pace::Closed { depth: 3 },
        payload: Payload::Frames,
        requests: 40,
        warm_up: 0,
        ..Plan::default()
    }
}

/// Designs and loads that differ in what there is to see.
fn plans() -> [(&'static str, Plan); 6] {
    let disk = Service::Disk { channels: 3, fixed: Span::from_us(2), random: Span::from_us(5) };
    let polled = Design { event_idx: true, interrupts: false, ..Design::default() };
    let paper = Plan { design: Design::PAPER, ..small() };
    let told = Plan { design: Design { notice: Notice::StatusPage, ..Design::default() }, ..small() };
    let large = Plan { shape: Shape { out: 9000, back: 65536 }, requests: 5, ..small() };
    let open = Plan { pace: Pace::Open { rate: 400_000 }, design: polled, ..small() };
    [
        ("ring", Plan { pace: Pace::Closed { depth: 100 }, requests: 150, ..small() }),
        ("paper", paper),
        ("status page", told),
        ("disk", Plan { service: disk, shape: Shape { out: 64, back: 4096 }, ..small() }),
        ("large", large),
        ("open", open),
    ]
}

fn ps(event: &Value, key: &str) -> u64 {
    (event[key].as_f64().unwrap_or(0.0) * 1e6).round() as u64
}

fn of_phase<'a>(events: &'a [Value], phase: &'a str) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(move |event| event["ph"] == phase)
}

/// Names of groups and of their tracks.
fn tracks(events: &[Value]) -> BTreeMap<u64, (String, String)> {
    let named = |what: &str| -> BTreeMap<u64, (u64, String)> {
        let heads = of_phase(events, "M").filter(|event| event["name"] == what);
        heads
            .map(|event| {
                let name = event["args"]["name"].as_str().unwrap().to_owned();
                (event["tid"].as_u64().unwrap(), (event["pid"].as_u64().unwrap(), name))
            })
            .collect()
    };
    let groups = named("process_name");
    named("thread_name").into_iter().map(|(tid, (pid, name))| (tid, (groups[&pid].1.clone(), name))).collect()
}

/// Slices of the tracks with this name, by group, in order of time.
fn slices<'a>(events: &'a [Value], group: &str, track: &str) -> Vec<&'a Value> {
    let tracks = tracks(events);
    let wanted = (group.to_owned(), track.to_owned());
    of_phase(events, "X").filter(|event| tracks[&event["tid"].as_u64().unwrap()] == wanted).collect()
}

#[test]
fn to_be_watched_changes_nothing() {
    for (name, plan) in plans() {
        let watched = watch(&plan).outcome;
        assert_eq!(run(&plan).unwrap(), watched, "{name}");
        let blank = Plan { payload: Payload::Blank, ..plan };
        assert_eq!(run(&blank).unwrap(), watched, "{name}: frames take no time");
    }
}

#[test]
fn the_same_run_leaves_the_same_bytes() {
    for (name, plan) in plans() {
        let (one, other) = (watch(&plan), watch(&plan));
        assert!(one.picture == other.picture && one.captured == other.captured, "{name}");
    }
    let [(_, plan), ..] = plans();
    assert_ne!(watch(&plan).picture, watch(&Plan { boards: 1, ..plan }).picture);
}

#[test]
fn each_board_is_a_group_and_each_part_a_track() {
    let Watched { events, .. } = watch(&small());
    let tracks: BTreeSet<_> = tracks(&events).into_values().collect();
    let queues = ["driver of queue 0", "driver of queue 1", "engine of queue 0", "engine of queue 1"];
    let links = ["link from the board", "link to the board", "link to the base", "link from the base"];
    let others = ["bm-hypervisor", "back end", "DMA channel 0"];
    for board in ["board0", "board1"] {
        for name in queues.iter().chain(&links).chain(&others) {
            assert!(
                tracks.contains(&(board.to_owned(), (*name).to_owned())),
                "{board}: {name} in {tracks:#?}"
            );
            assert!(!slices(&events, board, name).is_empty(), "{board}: {name} is empty");
        }
        assert!(!slices(&events, &format!("{board}: DMA reads"), "read").is_empty());
    }
    let groups: BTreeSet<_> = tracks.iter().map(|(group, _)| group.as_str()).collect();
    assert!(groups.iter().eq(&["board0", "board0: DMA reads", "board1", "board1: DMA reads"]), "{groups:?}");
    let (_, disk) = &plans()[3];
    let worked = slices(&watch(disk).events, "board0", "disk channel 2").len();
    assert!(worked > 0, "a disk's channels are tracks as well");
}

/// Every request is one flow, driver to driver, whose arrows are in order and lie in slices of their tracks.
#[test]
fn each_request_is_one_flow_from_slice_to_slice() {
    for (name, plan) in plans() {
        let Watched { events, log, .. } = watch(&plan);
        let tracks = tracks(&events);
        let mut flows: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
        for event in events.iter().filter(|event| "stf".contains(event["ph"].as_str().unwrap())) {
            flows.entry(event["id"].as_str().unwrap()).or_default().push(event);
        }
        let requests = plan.requests * u64::from(plan.queues) * u64::from(plan.boards);
        assert_eq!((flows.len() as u64, log.stamps.len() as u64), (requests, requests), "{name}");
        let mut bound: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        for slice in of_phase(&events, "X") {
            let from = ps(slice, "ts");
            bound.entry(slice["tid"].as_u64().unwrap()).or_default().push((from, from + ps(slice, "dur")));
        }
        let told = plan.design.notice != Notice::Ring;
        for (id, flow) in flows {
            let way: Vec<_> = flow
                .iter()
                .map(|event| tracks[&event["tid"].as_u64().unwrap()].1.split(" of ").next().unwrap())
                .collect();
            let mut expected = vec!["driver", "engine", "back end", "bm-hypervisor", "engine", "driver"];
            if told {
                expected.insert(2, "bm-hypervisor");
            }
            // The run is over with the last answer; an engine may be at the work that brought it still.
            let engine = flow[1]["tid"].as_u64().unwrap();
            let worked = bound[&engine].iter().map(|(_, to)| *to).max().unwrap();
            if way.len() < expected.len() && ps(flow[flow.len() - 1], "ts") > worked {
                expected.remove(expected.len() - 2);
            }
            assert_eq!(way, expected, "{name}: {id}");
            let phases: String = flow.iter().map(|event| event["ph"].as_str().unwrap()).collect();
            assert_eq!(phases, format!("s{}f", "t".repeat(way.len() - 2)), "{name}: {id}");
            assert!(flow.is_sorted_by_key(|event| ps(event, "ts")), "{name}: {id}");
            for event in flow {
                let (at, there) = (ps(event, "ts"), &bound[&event["tid"].as_u64().unwrap()]);
                assert!(
                    there.iter().any(|(from, to)| (*from..*to).contains(&at)),
                    "{name}: {event} in no slice"
                );
            }
        }
    }
}

/// The picture against what the recorder measures.
#[test]
fn slices_begin_and_end_at_the_moments_that_are_measured() {
    let plan = small();
    let Watched { events, log, .. } = watch(&plan);
    assert_eq!(log.forwarded, 160);
    let number = |event: &Value, key: &str| event["args"][key].as_u64().unwrap();
    for board in 0..2 {
        let group = format!("board{board}");
        let served: BTreeMap<_, _> = slices(&events, &group, "back end")
            .into_iter()
            .map(|event| {
                (
                    (number(event, "queue") as usize, number(event, "request")),
                    (ps(event, "ts"), ps(event, "dur")),
                )
            })
            .collect();
        for queue in 0..2 {
            let engine = slices(&events, &group, &format!("engine of queue {queue}"));
            let driver = slices(&events, &group, &format!("driver of queue {queue}"));
            let ends = |name: &str, end: u64| {
                driver.iter().any(|event| event["name"] == name && ps(event, "ts") + ps(event, "dur") == end)
            };
            for request in 0..plan.requests {
                let stamps = log.stamps[&(board, queue, request)].map(Time::ps);
                let at = |stage: Stage| stamps[stage as usize];
                let serve = (at(Stage::Kicked), at(Stage::Used) - at(Stage::Kicked));
                assert_eq!(served[&(queue, request)], serve);
                assert!(ends("submit", at(Stage::Doorbell)));
                assert!(
                    driver
                        .iter()
                        .any(|event| event["name"] == "complete" && ps(event, "ts") == at(Stage::Done))
                );
                let within = |name: &str, first: u64| {
                    let found = engine.iter().find(|event| {
                        event["name"] == name
                            && (number(event, "first")..number(event, "first") + number(event, "chains"))
                                .contains(&first)
                    });
                    let slice = found.unwrap_or_else(|| panic!("{name} of {first}"));
                    (ps(slice, "ts"), ps(slice, "ts") + ps(slice, "dur"))
                };
                // The index is on its way when the engine is through with it.
                let flight = plan.timing.base_flight().ps();
                let forward = within("forward", request);
                assert!(forward.0 < at(Stage::Shadow) - flight && at(Stage::Shadow) < forward.1 + 2 * flight);
                let back = within("return", request);
                assert!(at(Stage::Tail) < back.1 && back.0 < at(Stage::Guest));
            }
        }
    }
}

#[test]
fn dma_commands_lie_in_what_the_engine_does_and_reads_in_commands() {
    let Watched { events, .. } = watch(&plans()[4].1);
    let span = |event: &Value| (ps(event, "ts"), ps(event, "ts") + ps(event, "dur"));
    let engine: Vec<_> =
        (0..2).flat_map(|queue| slices(&events, "board0", &format!("engine of queue {queue}"))).collect();
    let of_engine = engine.iter().filter(|event| event["name"] == "DMA down");
    let mut moved = (0, 0);
    for event in of_engine {
        let (from, to) = span(event);
        let whole = engine
            .iter()
            .any(|outer| outer["name"] == "return" && span(outer).0 <= from && to <= span(outer).1);
        assert!(whole, "{event}");
        moved.0 += event["args"]["bytes"].as_u64().unwrap();
        moved.1 += event["args"]["reads"].as_u64().unwrap();
    }
    // Ten answers of 64 KiB, in requests of 512 bytes.
    assert_eq!(moved, (10 * 65536, 10 * 128));
    let tracks = tracks(&events);
    let reads: Vec<_> = of_phase(&events, "X")
        .filter(|event| {
            tracks[&event["tid"].as_u64().unwrap()].0 == "board0: DMA reads" && event["name"] == "DMA down"
        })
        .collect();
    assert_eq!(reads.len(), 10 * 128);
    assert_eq!(reads.iter().map(|event| event["args"]["bytes"].as_u64().unwrap()).sum::<u64>(), 10 * 65536);
}

#[test]
fn counters_say_how_many_are_outstanding_and_how_busy_links_are() {
    let plan = small();
    let Watched { events, .. } = watch(&plan);
    let tracks = tracks(&events);
    let counters = |group: &str, name: &str| -> Vec<(u64, u64)> {
        of_phase(&events, "C")
            .filter(|event| event["name"] == name && tracks[&event["tid"].as_u64().unwrap()].0 == group)
            .map(|event| (ps(event, "ts"), event["args"]["value"].as_u64().unwrap()))
            .collect()
    };
    let outstanding = counters("board1", "driver of queue 1 outstanding");
    assert_eq!(outstanding.iter().map(|(_, value)| *value).max(), Some(3));
    assert_eq!(outstanding.last().unwrap().1, 0);
    for link in ["link from the board", "link to the board", "link to the base", "link from the base"] {
        let busy: u64 = slices(&events, "board1", link).into_iter().map(|event| ps(event, "dur")).sum();
        let counted = counters("board1", &format!("{link} busy %"));
        assert!(counted.is_sorted_by_key(|(at, _)| *at) && counted.iter().all(|(_, value)| *value <= 100));
        let shares: u64 = counted.windows(2).map(|pair| (pair[1].0 - pair[0].0) * pair[0].1 / 100).sum();
        // Each window of a microsecond loses less than a hundredth of it.
        let lost = 10_000 * counted.len() as u64;
        assert!(shares <= busy && busy <= shares + lost, "{link}: {busy} ps busy, {shares} counted");
        assert_eq!(counted.last().unwrap().1, 0);
    }
}

/// A frame of a capture: when, whose, its way, its number.
type Parsed = (Duration, (usize, usize), Direction, u64);

fn parse(captured: &Captured) -> Vec<Parsed> {
    let mut reader = PcapReader::new(captured.file.as_slice()).unwrap();
    assert_eq!(reader.header().datalink, DataLink::ETHERNET);
    assert_eq!(reader.header().ts_resolution, TsResolution::NanoSecond);
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let packet = packet.unwrap();
        let wire = EthernetFrame::new_checked(&packet.data).unwrap();
        let ip = Ipv4Packet::new_checked(wire.payload()).unwrap();
        let datagram = UdpPacket::new_checked(ip.payload()).unwrap();
        assert!(ip.verify_checksum());
        assert!(datagram.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
        let (board, direction) = match (ip.src_addr().octets(), ip.dst_addr().octets()) {
            ([198, 18, ..], to @ [198, 19, ..]) => (to, Direction::Up),
            ([198, 19, ..], to @ [198, 18, ..]) => (to, Direction::Down),
            ends => panic!("{ends:?}"),
        };
        let number = u64::from_be_bytes(*datagram.payload().first_chunk().unwrap());
        let lane = (board[2].into(), usize::from(board[3]) - 1);
        frames.push((packet.timestamp, lane, direction, number));
    }
    assert_eq!(frames.len() as u64, captured.count);
    frames
}

#[test]
fn the_capture_has_every_frame_at_the_moment_that_is_measured() {
    for (name, plan) in plans() {
        let Watched { captured, log, .. } = watch(&plan);
        let frames = parse(&captured);
        assert_eq!(frames.len(), 2 * log.stamps.len(), "{name}");
        assert!(frames.is_sorted_by_key(|(at, ..)| *at), "{name}");
        let mut next: BTreeMap<_, u64> = BTreeMap::new();
        let mut answered = BTreeSet::new();
        for (at, (board, queue), direction, number) in frames {
            let stage = match direction {
                Direction::Up => Stage::Kicked,
                Direction::Down => Stage::Used,
            };
            let stamps = log.stamps[&(board, queue, number)];
            assert_eq!(
                at,
                Duration::from_nanos(stamps[stage as usize].ns()),
                "{name}: {board} {queue} {number}"
            );
            let next = next.entry((board, queue)).or_default();
            match direction {
                // What goes out does in order, and a disk answers in any.
                Direction::Up => {
                    assert_eq!(number, *next, "{name}");
                    *next += 1;
                }
                Direction::Down => {
                    assert!(number < *next && answered.insert((board, queue, number)), "{name}: {number}");
                }
            }
        }
        assert_eq!(answered.len(), log.stamps.len(), "{name}");
    }
}

#[test]
fn one_way_payload_has_frames_one_way() {
    for (out, back) in [(64, 0), (0, 64)] {
        let plan = Plan { shape: Shape { out, back }, ..small() };
        let Watched { captured, .. } = watch(&plan);
        let frames = parse(&captured);
        assert_eq!(frames.len(), 160);
        let wanted = if back == 0 { Direction::Up } else { Direction::Down };
        assert!(frames.iter().all(|(_, _, direction, _)| *direction == wanted));
    }
}

#[test]
fn limits_leave_out_and_say_so() {
    let plan = small();
    let Watched { events, captured, picture, outcome, .. } = within(&plan, 700, 10 * 52);
    assert_eq!(outcome, run(&plan).unwrap());
    assert_eq!((captured.count, captured.left_out), (10, 310));
    assert_eq!(parse(&captured).len(), 10);
    let last = events.last().unwrap()["name"].as_str().unwrap();
    assert!(last.ends_with("events left out, limit 700"), "{last}");
    assert!(!picture.contains("\"events_left_out\":\"0\""));
    let [begun, ended] = ["s", "f"].map(|phase| of_phase(&events, phase).count());
    assert!(begun == ended && begun > 0 && begun < 160, "{begun} flows began, {ended} ended");
}
