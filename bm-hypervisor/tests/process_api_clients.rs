//! Clients of the API that talk nonsense, too much, too slowly, or all at once.

mod double;

use std::{
    io::{ErrorKind, Write},
    os::unix::net::UnixListener,
    thread,
    time::Instant,
};

use bm_hypervisor::{BoardState, api, config::Role};
use double::{
    Bench,
    api::{Rig, ends, eventually, line, mirror},
    back_end::{Server, Sockets, blk, board},
};
use serde_json::{Value, json};

#[test]
fn clients_that_talk_nonsense_are_told_so_and_harm_no_other() {
    let sockets = Sockets::new();
    let _disk = Server::start(mirror(), &sockets.path("disk"), Role::Connect);
    let rig = Rig::new(&sockets, Bench::start(board(vec![blk(sockets.good_back_end("disk"))])));
    let code = |answer: &Value| answer["error"]["code"].as_i64().unwrap() as i32;
    let ask = |text: &str| code(&rig.send(text.as_bytes()));
    assert_eq!(ask("GET / HTTP/1.1\r\n\r\n"), api::code::PARSE);
    assert_eq!(code(&rig.send(&[0, 0xFF, 0xFE, b'\n'])), api::code::PARSE);
    assert_eq!(ask("{nonsense}"), api::code::PARSE);
    assert_eq!(ask("[]"), api::code::INVALID_REQUEST);
    assert_eq!(ask(r#"{"jsonrpc":"2.0","method":"board_burn","id":1}"#), api::code::METHOD_NOT_FOUND);
    for params in [r#"{}"#, r#"{"on":"yes"}"#, r#"{"on":true,"off":false}"#, r#"[true,false]"#, r#"[]"#] {
        let request = format!(r#"{{"jsonrpc":"2.0","method":"board_power","params":{params},"id":1}}"#);
        assert_eq!(ask(&request), api::code::INVALID_PARAMS, "{params}");
    }
    let by_position = r#"{"jsonrpc":"2.0","method":"board_power","params":[true],"id":1}"#;
    assert_eq!(rig.send(by_position.as_bytes())["result"]["state"], "booting");
    assert_eq!(
        ask(r#"{"jsonrpc":"2.0","method":"disk_resize","params":{"function":256},"id":1}"#),
        api::code::INVALID_PARAMS
    );
    assert_eq!(rig.call("log_set_level", json!({"level": "info"})).unwrap_err().0, api::code::LOG_LEVEL);
    assert_eq!(rig.call("log_set_level", json!({"level": "loud"})).unwrap_err().0, api::code::INVALID_PARAMS);
    let names = rig.call("rpc_get_methods", json!({})).unwrap();
    assert!(names.as_array().unwrap().contains(&json!("disk_resize")), "{names}");

    // Several requests in a row, in a batch, and a notification that is not answered.
    let mut stream = rig.raw();
    let one = |id: u32| format!(r#"{{"jsonrpc":"2.0","method":"board_get","id":{id}}}"#);
    let notification = r#"{"jsonrpc":"2.0","method":"board_get"}"#;
    let sent = format!("{}{notification}[{},{notification},{}]\n{}", one(1), one(2), one(3), one(4));
    stream.write_all(sent.as_bytes()).unwrap();
    assert_eq!(line(&mut stream)["id"], 1);
    let batch = line(&mut stream);
    assert_eq!(
        (&batch[0]["id"], &batch[1]["id"], batch.as_array().unwrap().len()),
        (&json!(2), &json!(3), 2)
    );
    assert_eq!(line(&mut stream)["result"]["name"], "test");
}

#[test]
fn a_client_that_sends_too_much_is_dropped() {
    let sockets = Sockets::new();
    let _disk = Server::start(mirror(), &sockets.path("disk"), Role::Connect);
    let rig = Rig::new(&sockets, Bench::start(board(vec![blk(sockets.good_back_end("disk"))])));
    let mut stream = rig.raw();
    let mut message = b"{\"jsonrpc\":\"".to_vec();
    message.resize(api::MAX_MESSAGE + 1, b'x');
    stream.write_all(&message).unwrap();
    let answer = line(&mut stream);
    assert_eq!(answer["error"]["code"], api::code::MESSAGE, "{answer}");
    assert!(ends(&mut stream));
    // The longest message that is taken is taken.
    let request = r#"{"jsonrpc":"2.0","method":"board_get","id":1}"#;
    let padded =
        request.replace("{\"json", &format!("{{{}\"json", " ".repeat(api::MAX_MESSAGE - request.len())));
    assert_eq!(padded.len(), api::MAX_MESSAGE);
    assert_eq!(rig.send(padded.as_bytes())["id"], 1);
}

#[test]
fn clients_that_do_not_finish_or_do_not_read_are_dropped_and_hold_no_other_up() {
    let sockets = Sockets::new();
    let _disk = Server::start(mirror(), &sockets.path("disk"), Role::Connect);
    let rig = Rig::new(&sockets, Bench::start(board(vec![blk(sockets.good_back_end("disk"))])));
    let mut half = rig.raw();
    half.write_all(br#"{"jsonrpc":"2.0","#).unwrap();
    // This one asks and never reads. Its answers fill its socket until the server waits, and then drops it.
    let mut deaf = rig.raw();
    let deaf = thread::spawn(move || {
        let requests = r#"{"jsonrpc":"2.0","method":"rpc_describe_methods","id":1}"#.repeat(64);
        loop {
            if let Err(error) = deaf.write_all(requests.as_bytes()) {
                return error.kind();
            }
        }
    });
    let mut idle = rig.raw();
    let before = Instant::now();
    assert!(rig.call("board_get", json!({})).is_ok());
    assert!(before.elapsed() < api::CLIENT_TIMEOUT, "others are answered meanwhile");
    let answer = line(&mut half);
    assert_eq!(answer["error"]["code"], api::code::MESSAGE, "{answer}");
    assert!(ends(&mut half));
    let ended = deaf.join().unwrap();
    assert!(matches!(ended, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{ended}");
    // Idle clients stay connected.
    idle.write_all(br#"{"jsonrpc":"2.0","method":"board_get","id":7}"#).unwrap();
    assert_eq!(line(&mut idle)["id"], 7);
}

#[test]
fn one_client_too_many_is_refused_until_another_goes() {
    let sockets = Sockets::new();
    let _disk = Server::start(mirror(), &sockets.path("disk"), Role::Connect);
    let rig = Rig::new(&sockets, Bench::start(board(vec![blk(sockets.good_back_end("disk"))])));
    let mut clients: Vec<_> = (0..api::MAX_CLIENTS).map(|_| rig.client()).collect();
    clients.iter_mut().for_each(|client| drop(client.call_raw("board_get", None).unwrap()));
    let mut surplus = rig.raw();
    assert_eq!(line(&mut surplus)["error"]["code"], api::code::TOO_MANY_CLIENTS);
    assert!(ends(&mut surplus));
    let (good, _, err) = rig.bmctl(&["board"]);
    assert!(!good && err.contains("16 clients are connected already"), "{err}");
    clients.pop();
    eventually("there is a place again", || rig.bmctl(&["board"]).0);
    assert!(clients.iter_mut().all(|client| client.call_raw("board_get", None).is_ok()));
}

#[test]
fn what_is_left_of_a_batch_when_the_server_ends_comes_to_nothing() {
    let sockets = Sockets::new();
    let _disk = Server::start(mirror(), &sockets.path("disk"), Role::Connect);
    let mut rig = Rig::new(&sockets, Bench::start(board(vec![blk(sockets.good_back_end("disk"))])));
    // The first command waits for a back end that takes its time.
    let slow = UnixListener::bind(sockets.path("slow")).unwrap();
    slow.set_nonblocking(true).unwrap();
    let back_end = json!({ "socket": sockets.path("slow"), "timeout_ms": 60_000 });
    let batch = json!([
        { "jsonrpc": "2.0", "method": "function_add", "params": [{ "blk": { "backend": back_end } }], "id": 1 },
        { "jsonrpc": "2.0", "method": "board_power", "params": [false], "id": 2 },
    ]);
    let mut stream = rig.raw();
    stream.write_all(batch.to_string().as_bytes()).unwrap();
    let mut waiting = None;
    eventually("the back end is connected to", || {
        waiting = slow.accept().ok();
        waiting.is_some()
    });
    let api = rig.api.take();
    let ending = thread::spawn(move || drop(api));
    assert!(ends(&mut stream));
    drop(waiting);
    ending.join().unwrap();
    assert_eq!(rig.control().statistics().state, BoardState::Booting);
}
