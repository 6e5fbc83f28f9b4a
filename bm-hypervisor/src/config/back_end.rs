//! vhost-user back ends: where they are, and how they are talked to.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// A vhost-user back end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BackEndConfig {
    /// Path of the Unix socket.
    pub socket: PathBuf,
    /// Which side listens there; by default the back end.
    #[serde(default)]
    pub role: Role,
    /// Whether the back end wants to be told of new buffers.
    #[serde(default)]
    pub notify: Notify,
    /// Milliseconds to wait for the back end: for a connection, and for each of its answers; 1 to 60 000.
    /// Default 2 000.
    #[serde(default = "default_timeout")]
    pub timeout_ms: u32,
    /// What happens when it is lost.
    #[serde(default)]
    pub on_loss: OnLoss,
}

/// Which side listens on the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The back end; bm-hypervisor connects, and tries again until the time-out.
    #[default]
    Connect,
    /// bm-hypervisor; it waits for the back end until the time-out.
    Listen,
}

/// What happens when a back end is lost: it dies, or hangs up, or does not answer in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnLoss {
    /// Its queues wait, and it is looked for until it is there again, however long that takes. Then its
    /// queues continue where they were.
    #[default]
    Reconnect,
    /// Its function's driver is asked for a reset, and the function stays without a back end.
    Reset,
}

/// How a back end learns of new buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    /// By a kick, unless it suppresses that (virtio 1.3, 2.7.10).
    #[default]
    Kick,
    /// It polls the rings; it is never kicked.
    Poll,
}

fn default_timeout() -> u32 {
    2_000
}

impl BackEndConfig {
    /// A back end that listens at `socket` and is kicked.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            role: Role::default(),
            notify: Notify::default(),
            timeout_ms: default_timeout(),
            on_loss: OnLoss::default(),
        }
    }

    /// [`BackEndConfig::timeout_ms`] as a duration.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.into())
    }
}
