//! The control API of a board: JSON-RPC 2.0 on a Unix socket, with a typed client, and metrics for
//! Prometheus.
//!
//! ```no_run
//! # fn demo(control: bm_hypervisor::Control) -> Result<(), Box<dyn std::error::Error>> {
//! use bm_hypervisor::{api::Server, config::ControlConfig, logging::{self, LogFormat}};
//!
//! let log = logging::start(LogFormat::Text, tracing::Level::INFO);
//! let server = Server::start(&ControlConfig::new("/run/board0.sock"), control.handle(), log)?;
//! while !server.stop_asked() {
//!     // passes; or sleeps until `server.stop_event()` polls readable
//! }
//! drop(server);                           // clients are answered no longer, and the socket is gone
//! control.stop()?;
//! # Ok(())
//! # }
//! ```
//!
//! Every client has a thread, and there are at most [`MAX_CLIENTS`]. Nothing that a client does or leaves
//! undone delays the board: its control thread sees whole commands only. Users who may write to the socket,
//! by its mode, may connect; there is no other permission. `docs/control.md` describes every method.

mod client;
mod error;
mod http;
mod messages;
mod methods;
mod metrics;
mod rpc;
mod server;
mod splitter;
mod until;

use std::time::Duration;

pub use self::{
    client::{Client, ClientError},
    error::ApiError,
    messages::*,
    rpc::{RpcError, code},
    server::Server,
};

/// Clients that may be connected at a time.
pub const MAX_CLIENTS: usize = 16;
/// Longest message that a client may send, in bytes.
pub const MAX_MESSAGE: usize = 64 << 10;
/// How long a client may take to finish a message, and to read an answer.
pub const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
