//! JSON-RPC 2.0: requests, notifications, batches and errors, without any idea of what the methods do.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

/// Requests in one batch.
pub(super) const BATCH: usize = 64;

/// Error codes: the first five are of JSON-RPC 2.0, 5.1; the others are this server's own.
pub mod code {
    /// The message is not JSON.
    pub const PARSE: i32 = -32700;
    /// The message is JSON, but not a request.
    pub const INVALID_REQUEST: i32 = -32600;
    /// There is no such method.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// The method takes other parameters.
    pub const INVALID_PARAMS: i32 = -32602;
    /// A defect of the server.
    pub const INTERNAL: i32 = -32603;
    /// The board is in a state in which this cannot be done.
    pub const STATE: i32 = -32000;
    /// There is no function of that number.
    pub const NO_FUNCTION: i32 = -32001;
    /// The function is another device.
    pub const WRONG_DEVICE: i32 = -32002;
    /// A disk is not as large as was expected.
    pub const SIZE: i32 = -32003;
    /// There is no place for another function.
    pub const NO_PLACE: i32 = -32004;
    /// A back end, or the device, failed.
    pub const FAILED: i32 = -32005;
    /// The board was too busy, or did not answer in time.
    pub const NO_ANSWER: i32 = -32006;
    /// The board is stopped.
    pub const STOPPED: i32 = -32007;
    /// The log level cannot be set.
    pub const LOG_LEVEL: i32 = -32008;
    /// Too many clients are connected; this connection ends.
    pub const TOO_MANY_CLIENTS: i32 = -32009;
    /// A message is too long, or was not finished in time; this connection ends.
    pub const MESSAGE: i32 = -32010;
}

/// An error as its client gets it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, thiserror::Error)]
#[error("{message} ({code})")]
pub struct RpcError {
    /// One of the codes in [`code`].
    pub code: i32,
    /// What is wrong, where, and what to do.
    pub message: String,
}

impl RpcError {
    /// An error with this code and message.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The error as an answer without an id, to a message that had none that could be made out.
    pub(super) fn answer(self) -> Vec<u8> {
        line(&response(Value::Null, Err(self)))
    }
}

/// Parameters of a request: none, by name, or by position.
pub(super) type Params = Option<Value>;

/// Reads parameters; none are the same as an empty object.
pub(super) fn read<T: DeserializeOwned>(params: Params) -> Result<T, RpcError> {
    let params = params.unwrap_or_else(|| Value::Object(Map::new()));
    serde_json::from_value(params).map_err(|error| {
        RpcError::new(code::INVALID_PARAMS, format!("{error}; `rpc_describe_methods` says what it takes"))
    })
}

/// Answers one text, a request or a batch. Nothing is answered to notifications, and to batches of nothing
/// else.
pub(super) fn answer(text: &[u8], call: impl Fn(&str, Params) -> Result<Value, RpcError>) -> Option<Vec<u8>> {
    let value: Value = match serde_json::from_slice(text) {
        Ok(value) => value,
        Err(error) => return Some(RpcError::new(code::PARSE, format!("not JSON: {error}")).answer()),
    };
    let Value::Array(batch) = value else { return answer_one(value, &call).map(|one| line(&one)) };
    if batch.is_empty() || batch.len() > BATCH {
        let message = format!("{} requests in a batch; expected 1 to {BATCH}", batch.len());
        return Some(RpcError::new(code::INVALID_REQUEST, message).answer());
    }
    let answers: Vec<_> = batch.into_iter().filter_map(|one| answer_one(one, &call)).collect();
    (!answers.is_empty()).then(|| line(&Value::Array(answers)))
}

/// A request object (JSON-RPC 2.0, 4).
struct Request {
    method: String,
    params: Params,
    /// None in a notification.
    id: Option<Value>,
}

fn answer_one(value: Value, call: &impl Fn(&str, Params) -> Result<Value, RpcError>) -> Option<Value> {
    match check(value) {
        Err((id, what)) => Some(response(id, Err(RpcError::new(code::INVALID_REQUEST, what)))),
        Ok(Request { method, params, id }) => {
            let result = call(&method, params);
            id.map(|id| response(id, result))
        }
    }
}

/// Whether a value is a request object (JSON-RPC 2.0, 4). What is wrong otherwise, and its id if that can be
/// made out.
fn check(value: Value) -> Result<Request, (Value, &'static str)> {
    let Value::Object(mut object) = value else { return Err((Value::Null, "expected a request object")) };
    let id = object.remove("id");
    if !matches!(id, None | Some(Value::Null | Value::String(_) | Value::Number(_))) {
        return Err((Value::Null, "`id` is neither a string nor a number"));
    }
    let wrong = |what| Err((id.clone().unwrap_or(Value::Null), what));
    if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return wrong("`jsonrpc` is not \"2.0\"");
    }
    let params = object.remove("params");
    if !matches!(params, None | Some(Value::Object(_) | Value::Array(_))) {
        return wrong("`params` is neither an object nor an array");
    }
    match object.remove("method") {
        Some(Value::String(method)) => Ok(Request { method, params, id }),
        _ => wrong("`method` is not a string"),
    }
}

fn response(id: Value, result: Result<Value, RpcError>) -> Value {
    match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(error) => json!({ "jsonrpc": "2.0", "id": id, "error": error }),
    }
}

/// One line, for clients that read by lines.
fn line(value: &Value) -> Vec<u8> {
    let mut text = value.to_string().into_bytes();
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Answers `text` with a server of two methods; the answer, and what was called.
    fn ask(text: &str) -> (Option<Value>, Vec<String>) {
        let called = RefCell::new(vec![]);
        let answer = answer(text.as_bytes(), |method, params| {
            called.borrow_mut().push(method.to_owned());
            match method {
                "double" => read::<(u32,)>(params).map(|(number,)| json!(2 * u64::from(number))),
                "nothing" => Ok(Value::Null),
                _ => Err(RpcError::new(code::METHOD_NOT_FOUND, method)),
            }
        });
        (answer.map(|line| serde_json::from_slice(&line).unwrap()), called.into_inner())
    }

    fn error(text: &str) -> (i32, Value) {
        let answer = ask(text).0.unwrap();
        (answer["error"]["code"].as_i64().unwrap() as i32, answer["id"].clone())
    }

    #[test]
    fn requests_are_answered_with_their_id_and_notifications_are_not() {
        let request = r#"{"jsonrpc":"2.0","method":"double","params":[21],"id":"a"}"#;
        assert_eq!(ask(request).0.unwrap(), json!({"jsonrpc": "2.0", "id": "a", "result": 42}));
        let notification = r#"{"jsonrpc":"2.0","method":"nothing"}"#;
        assert_eq!(ask(notification), (None, vec!["nothing".into()]));
        assert_eq!(ask(r#"{"jsonrpc":"2.0","method":"unknown"}"#).0, None);
    }

    #[test]
    fn what_is_not_a_request_says_why() {
        let null = Value::Null;
        for (text, expected, id) in [
            ("{", code::PARSE, &null),
            ("{]", code::PARSE, &null),
            (&"[".repeat(4000), code::PARSE, &null),
            ("[]", code::INVALID_REQUEST, &null),
            ("{}", code::INVALID_REQUEST, &null),
            (r#"{"jsonrpc":"1.0","method":"nothing","id":1}"#, code::INVALID_REQUEST, &json!(1)),
            (r#"{"jsonrpc":"2.0","method":7,"id":1}"#, code::INVALID_REQUEST, &json!(1)),
            (r#"{"jsonrpc":"2.0","method":"nothing","id":{}}"#, code::INVALID_REQUEST, &null),
            (r#"{"jsonrpc":"2.0","method":"nothing","params":1,"id":1}"#, code::INVALID_REQUEST, &json!(1)),
            (r#"{"jsonrpc":"2.0","method":"unknown","id":1}"#, code::METHOD_NOT_FOUND, &json!(1)),
            (r#"{"jsonrpc":"2.0","method":"double","params":["x"],"id":1}"#, code::INVALID_PARAMS, &json!(1)),
            (r#"{"jsonrpc":"2.0","method":"double","id":null}"#, code::INVALID_PARAMS, &null),
        ] {
            assert_eq!(error(text), (expected, id.clone()), "{}", &text[..text.len().min(80)]);
        }
    }

    #[test]
    fn a_batch_is_answered_in_one_as_far_as_it_wants_answers() {
        let notification = r#"{"jsonrpc":"2.0","method":"nothing"}"#;
        let request = r#"{"jsonrpc":"2.0","method":"double","params":[1],"id":1}"#;
        let (answer, called) = ask(&format!("[{notification},{request},7]"));
        let answer = answer.unwrap();
        assert_eq!(called, ["nothing", "double"]);
        assert_eq!(answer[0]["result"], 2);
        assert_eq!((&answer[1]["error"]["code"], answer.as_array().unwrap().len()), (&json!(-32600), 2));
        assert_eq!(ask(&format!("[{notification},{notification}]")).0, None);
        let many = format!("[{}]", vec![request; BATCH + 1].join(","));
        assert_eq!((error(&many).0, ask(&many).1.len()), (code::INVALID_REQUEST, 0));
    }
}
