use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn text(trace: &Trace) -> String {
    let mut bytes = Vec::new();
    trace.write(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn parsed(trace: &Trace) -> Value {
    serde_json::from_str(&text(trace)).unwrap()
}

fn events(trace: &Trace) -> Vec<Value> {
    parsed(trace)["traceEvents"].as_array().unwrap().clone()
}

fn of_phase<'a>(events: &'a [Value], phase: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["ph"] == phase).collect()
}

/// Two descriptors from a driver through a queue and back.
fn two_descriptors() -> Trace {
    let mut trace = Trace::new(1000);
    let driver = trace.track("board0", "driver");
    let queue = trace.track("IO-Bond", "queue 0");
    for id in 0..2 {
        let start = id * 5_000_000;
        trace.slice(
            driver,
            "submit",
            start,
            start + 310_001,
            &[("head", id.into()), ("kind", "read".into())],
        );
        trace.flow_begin(driver, id, start + 310_000, "descriptor");
        trace.slice(queue, "forward", start + 500_000, start + 800_000, &[]);
        trace.slice(queue, "DMA read", start + 500_000, start + 700_000, &[]);
        trace.flow_step(queue, id, start + 500_000, "descriptor");
        trace.counter(queue, "in flight", start + 800_000, 1);
        trace.instant(queue, "interrupt", start + 900_000, &[("vector", 3.into())]);
        trace.slice(driver, "complete", start + 1_000_000, start + 1_200_000, &[]);
        trace.flow_end(driver, id, start + 1_000_000, "descriptor");
    }
    trace
}

#[test]
fn a_trace_reads_like_this() {
    insta::assert_snapshot!(text(&two_descriptors()));
}

/// The Trace Event Format, as far as it is used here: what each phase has to have.
#[test]
fn every_event_has_what_its_phase_demands() {
    let trace = two_descriptors();
    let events = events(&trace);
    assert_eq!(parsed(&trace)["displayTimeUnit"], "ns");
    for event in &events {
        assert!(event["name"].is_string() && event["pid"].is_u64() && event["tid"].is_u64(), "{event}");
        let phase = event["ph"].as_str().unwrap();
        assert_eq!(event["ts"].is_number(), phase != "M", "{event}");
        assert_eq!(event["dur"].is_number(), phase == "X", "{event}");
        assert_eq!(event["s"] == "t", phase == "i", "{event}");
        assert_eq!(event["id"].is_string() && event["cat"].is_string(), "stf".contains(phase), "{event}");
        assert_eq!(event["bp"] == "e", phase == "f", "{event}");
        let args = event["args"].as_object();
        assert!(phase != "C" || args.unwrap().values().all(Value::is_number), "{event}");
    }
    assert_eq!(events.len(), trace.len() + 2 * 4);
}

#[test]
fn groups_and_tracks_have_names_and_their_order() {
    let mut trace = two_descriptors();
    assert_eq!(trace.track("board0", "driver"), trace.track("board0", "driver"));
    let other = trace.track("IO-Bond", "driver");
    assert_ne!(other, trace.track("board0", "driver"), "the same name in another group");
    let events = events(&trace);
    let named = |what: &str| -> Vec<(Value, Value)> {
        let heads = of_phase(&events, "M").into_iter().filter(|event| event["name"] == what);
        heads.map(|event| (event["tid"].clone(), event["args"]["name"].clone())).collect()
    };
    assert_eq!(named("process_name"), [(json!(1), json!("board0")), (json!(3), json!("IO-Bond"))]);
    let threads = [(2, "driver"), (4, "queue 0"), (5, "driver")].map(|(tid, name)| (json!(tid), json!(name)));
    assert_eq!(named("thread_name"), threads);
    let numbers: BTreeMap<_, _> = of_phase(&events, "M")
        .into_iter()
        .filter(|event| event["args"]["sort_index"].is_u64())
        .map(|event| (event["tid"].as_u64(), event["args"]["sort_index"].as_u64()))
        .collect();
    assert_eq!(numbers.len(), 5);
    assert!(numbers.iter().all(|(number, place)| number == place), "{numbers:?}");
}

#[test]
fn times_are_exact_to_the_picosecond() {
    let mut trace = Trace::new(10);
    let track = trace.track("g", "t");
    trace.slice(track, "a", 12_345_678, 12_345_679, &[]);
    trace.slice(track, "b", u64::MAX - 500_000, u64::MAX, &[]);
    trace.slice(track, "late", 3_000_000, 1, &[]);
    let text = text(&trace);
    assert!(text.contains("\"ts\":12.345678,\"name\":\"a\",\"dur\":0.000001}"), "{text}");
    assert!(text.contains("\"ts\":18446744073709.051615,\"name\":\"b\",\"dur\":0.5}"), "{text}");
    assert!(text.contains("\"ts\":3,\"name\":\"late\",\"dur\":0}"), "{text}");
}

/// In file order, each arrow lies in a slice of its track that was read before it, and each flow is one s,
/// its t, one f.
#[test]
fn arrows_are_paired_and_bound_to_slices() {
    let trace = two_descriptors();
    let events = events(&trace);
    let time = |event: &Value, key: &str| (event[key].as_f64().unwrap() * 1e6).round() as u64;
    let mut flows: BTreeMap<String, String> = BTreeMap::new();
    for (index, event) in events.iter().enumerate().filter(|(_, e)| "stf".contains(e["ph"].as_str().unwrap()))
    {
        let phases = flows.entry(event["id"].as_str().unwrap().to_owned()).or_default();
        phases.push_str(event["ph"].as_str().unwrap());
        let at = time(event, "ts");
        let bound = of_phase(&events[..index], "X").into_iter().any(|slice| {
            let from = time(slice, "ts");
            slice["tid"] == event["tid"] && (from..from + time(slice, "dur")).contains(&at)
        });
        assert!(bound, "{event} lies in no slice");
    }
    let whole = ["0x0", "0x1"].map(|id| (id.to_owned(), "stf".to_owned()));
    assert_eq!(flows, BTreeMap::from(whole));
}

#[test]
fn events_are_in_order_of_time_and_outer_slices_first() {
    let mut trace = Trace::new(10);
    let track = trace.track("g", "t");
    trace.slice(track, "later", 50, 60, &[]);
    trace.flow_begin(track, 1, 10, "f");
    trace.slice(track, "inner", 10, 20, &[]);
    trace.slice(track, "outer", 10, 40, &[]);
    let names: Vec<_> = events(&trace)[4..].iter().map(|event| event["name"].clone()).collect();
    assert_eq!(names, ["outer", "inner", "f", "later"]);
    assert_eq!(trace.crossing(), 0);
}

#[test]
fn slices_that_cross_are_counted() {
    let mut trace = Trace::new(10);
    let (track, other) = (trace.track("g", "t"), trace.track("g", "u"));
    trace.slice(track, "a", 0, 20, &[]);
    trace.slice(track, "crosses a", 10, 30, &[]);
    trace.slice(track, "after a", 20, 25, &[]);
    trace.slice(other, "elsewhere", 10, 30, &[]);
    assert_eq!(trace.crossing(), 1);
    assert_eq!(parsed(&trace)["otherData"]["slices_that_cross"], "1");
}

#[test]
fn beyond_the_limit_events_are_counted_and_the_file_says_so() {
    let mut trace = Trace::new(3);
    let track = trace.track("g", "t");
    trace.slice(track, "a", 0, 9, &[]);
    trace.flow_begin(track, 1, 0, "kept");
    trace.counter(track, "c", 1, 1);
    for _ in 0..4 {
        trace.instant(track, "over", 5, &[]);
    }
    trace.flow_end(track, 1, 8, "kept");
    assert_eq!((trace.len(), trace.left_out()), (3, 5));
    let events = events(&trace);
    let last = events.last().unwrap();
    assert_eq!(last["name"], "5 events left out, limit 3");
    assert_eq!((&last["s"], last["ts"].as_f64()), (&json!("g"), Some(0.000_009)));
    assert_eq!(parsed(&trace)["otherData"]["events_left_out"], "5");
    assert!(of_phase(&events, "f").is_empty());
}

#[test]
fn arrows_are_kept_all_or_not_at_all() {
    let mut trace = Trace::new(5);
    let (track, other) = (trace.track("g", "t"), trace.track("g", "u"));
    trace.arrows(1, "f", &[(track, 1), (other, 2), (track, 3)]);
    trace.arrows(2, "f", &[(track, 1), (other, 2), (track, 3)]);
    trace.arrows(3, "f", &[(track, 4), (other, 5)]);
    trace.arrows(4, "f", &[(track, 4)]);
    assert_eq!((trace.len(), trace.left_out()), (5, 3), "one point is no arrow");
    let events = events(&trace);
    let phases = |id: &str| -> String {
        events.iter().filter(|event| event["id"] == id).map(|event| event["ph"].as_str().unwrap()).collect()
    };
    assert_eq!(["0x1", "0x2", "0x3"].map(phases), ["stf", "", "sf"]);
}

#[test]
fn an_arrow_from_nowhere_is_left_out() {
    let mut trace = Trace::new(9);
    let track = trace.track("g", "t");
    trace.flow_step(track, 1, 1, "f");
    trace.flow_begin(track, 1, 1, "f");
    trace.flow_end(track, 1, 1, "another name");
    trace.flow_end(track, 1, 1, "f");
    trace.flow_end(track, 1, 1, "f");
    assert_eq!((trace.len(), trace.left_out()), (2, 3));
}

#[test]
fn a_track_of_another_trace_is_none_here() {
    let stranger = Trace::new(1).track("g", "t");
    let mut trace = Trace::new(1);
    trace.instant(stranger, "x", 0, &[]);
    assert_eq!((trace.len(), trace.left_out()), (0, 1));
    assert_eq!(events(&trace).len(), 1, "only the note");
}

#[test]
fn names_cannot_break_out_of_their_strings() {
    let evil = "\"},{\"ph\":\"X\"\\\n\r\t\u{0}\u{1f}\u{2028}</script>\u{1f980}";
    let mut trace = Trace::new(10);
    let track = trace.track(evil, evil);
    trace.slice(track, evil, 0, 1, &[(evil, evil.into())]);
    trace.flow_begin(track, 1, 0, evil);
    trace.counter(track, evil, 0, 1);
    trace.instant(track, evil, 0, &[]);
    trace.slice(track, &"\u{e9}".repeat(10_000), 2, 3, &[]);
    let events = events(&trace);
    assert_eq!(events.len(), 4 + 5);
    assert_eq!(events[0]["args"]["name"], evil);
    let slices = of_phase(&events, "X");
    assert_eq!((&slices[0]["name"], &slices[0]["args"][evil]), (&json!(evil), &json!(evil)));
    assert_eq!(slices[1]["name"].as_str().unwrap().chars().count(), 257, "long names are shortened");
    assert_eq!(text(&trace).lines().count(), 2 + events.len(), "an event a line");
}

#[test]
fn numbers_that_a_viewer_would_round_are_text() {
    let mut trace = Trace::new(1);
    let track = trace.track("g", "t");
    let args = [("exact", Arg::Number(1 << 53)), ("address", Arg::Number(u64::MAX))];
    trace.instant(track, "x", 0, &args);
    let events = events(&trace);
    assert_eq!(events[4]["args"], json!({"exact": 1u64 << 53, "address": "18446744073709551615"}));
}

#[test]
fn the_same_calls_give_the_same_bytes() {
    assert_eq!(text(&two_descriptors()), text(&two_descriptors()));
    assert_eq!(text(&Trace::new(0)).lines().count(), 2);
}
