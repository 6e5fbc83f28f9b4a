//! A client of the API.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{rpc::RpcError, splitter::Splitter, until::Until};

/// Longest answer: that of every queue of every function takes some 20 KiB.
const LONGEST: usize = 4 << 20;

/// A connection to the API of one board. One request is under way at a time.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    stream: UnixStream,
    splitter: Splitter,
    timeout: Duration,
    number: u64,
}

/// What keeps a client from an answer.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields are those of the messages")]
pub enum ClientError {
    /// The socket cannot be connected to.
    #[error("cannot connect to {}: {reason}; is the board served, with this socket in its `[control]`, and may you write to it?", socket.display())]
    Connect { socket: PathBuf, reason: io::Error },
    /// The connection ended, or nothing came in time.
    #[error("no answer to {method} from {}: {reason}", socket.display())]
    NoAnswer { socket: PathBuf, method: String, reason: io::Error },
    /// The answer is not one of this API's.
    #[error("{} answered {method} with nonsense ({detail}); is it a bm-hypervisor of this version?", socket.display())]
    Nonsense { socket: PathBuf, method: String, detail: String },
    /// The server answered with an error.
    #[error("{method}: {error}")]
    Refused { method: String, error: RpcError },
}

impl Client {
    /// Connects to the API at `socket`. Answers are waited for at most `timeout` each.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn connect(socket: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let failed = |reason| ClientError::Connect { socket: socket.into(), reason };
        let stream = unix_service::connect(socket).map_err(failed)?;
        Ok(Self { socket: socket.into(), stream, splitter: Splitter::new(LONGEST), timeout, number: 0 })
    }

    /// Calls a method, and reads its answer as an `R`.
    ///
    /// # Errors
    /// Every [`ClientError`] but the first.
    pub fn call<R: DeserializeOwned>(
        &mut self,
        method: &str,
        params: impl Serialize,
    ) -> Result<R, ClientError> {
        let params = serde_json::to_value(params).map_err(|error| self.nonsense(method, &error))?;
        let value = self.call_raw(method, Some(params))?;
        serde_json::from_value(value).map_err(|error| self.nonsense(method, &error))
    }

    /// Calls a method with any parameters, and returns its answer as it came.
    ///
    /// # Errors
    /// Every [`ClientError`] but the first.
    pub fn call_raw(&mut self, method: &str, params: Option<Value>) -> Result<Value, ClientError> {
        self.number += 1;
        let mut request = json!({ "jsonrpc": "2.0", "method": method, "id": self.number });
        if let (Some(params), Some(object)) = (params, request.as_object_mut()) {
            object.insert("params".into(), params);
        }
        let mut answer = self.exchange(&request).map_err(|reason| ClientError::NoAnswer {
            socket: self.socket.clone(),
            method: method.into(),
            reason,
        })?;
        if let Some(error) = answer.get_mut("error").map(Value::take) {
            let error = serde_json::from_value(error).map_err(|error| self.nonsense(method, &error))?;
            return Err(ClientError::Refused { method: method.into(), error });
        }
        match answer.get_mut("result").map(Value::take) {
            Some(result) if answer.get("id").and_then(Value::as_u64) == Some(self.number) => Ok(result),
            Some(_) => Err(self.nonsense(method, &"the answer to another request")),
            None => Err(self.nonsense(method, &"neither result nor error")),
        }
    }

    /// Sends a request and waits for one text.
    fn exchange(&mut self, request: &Value) -> io::Result<Value> {
        let mut until = Until::within(&self.stream, self.timeout);
        // A server that refuses a client says so, and does not read: the answer may be there although this
        // fails.
        let sent = until.write_all(request.to_string().as_bytes());
        let mut bytes = [0; 4096];
        loop {
            match self.splitter.next() {
                Some(Ok(text)) => return serde_json::from_slice(&text).map_err(io::Error::other),
                Some(Err(unsplit)) => return Err(io::Error::other(unsplit)),
                None => {}
            }
            match until.read(&mut bytes) {
                Ok(0) => {
                    sent?;
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(count) => self.splitter.push(bytes.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return sent.and(Err(error)),
            }
        }
    }

    fn nonsense(&self, method: &str, detail: &impl ToString) -> ClientError {
        let (socket, detail) = (self.socket.clone(), detail.to_string());
        ClientError::Nonsense { socket, method: method.into(), detail }
    }
}
