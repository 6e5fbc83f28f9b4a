//! How a board's hypervisor is controlled and watched from outside: the socket of its API, and where metrics
//! are served.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::{ConfigError, within};

/// The control API of one board.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ControlConfig {
    /// Path of the Unix socket on which the API is served.
    pub socket: PathBuf,
    /// Permission bits of the socket, 0 to 0o777: a user who may write to it may do everything. Default
    /// 0o600, its owner alone.
    #[serde(default = "owner_only")]
    pub mode: u32,
    /// Where metrics are served over HTTP, too; nowhere by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsAddress>,
}

fn owner_only() -> u32 {
    0o600
}

/// Where metrics are served over HTTP. There is no authentication, so that a network address has to be one of
/// the loopback's.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum MetricsAddress {
    /// A TCP port of the loopback interface: `127.0.0.1:9100`, `[::1]:9100`. Port 0 takes any that is free.
    Loopback(SocketAddr),
    /// A Unix socket, by its absolute path; it has the mode of the API's.
    Unix(PathBuf),
}

/// A text that is not such an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an address for metrics; expected an address of the loopback interface with a port, such as 127.0.0.1:9100, or the absolute path of a Unix socket"
)]
pub struct MetricsAddressError(String);

impl ControlConfig {
    /// An API at `socket` for its owner, without metrics over HTTP.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), mode: owner_only(), metrics: None }
    }

    /// Whether every value is in its range.
    pub(super) fn check(&self, at: &str) -> Result<(), ConfigError> {
        within(&format!("{at}.mode"), self.mode, 0, 0o777)
    }
}

impl FromStr for MetricsAddress {
    type Err = MetricsAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if Path::new(text).is_absolute() {
            return Ok(Self::Unix(text.into()));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Loopback(address)),
            Ok(_) | Err(_) => Err(MetricsAddressError(text.into())),
        }
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl TryFrom<String> for MetricsAddress {
    type Error = MetricsAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MetricsAddress> for String {
    fn from(address: MetricsAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::BoardConfig;

    fn board(control: &str) -> Result<BoardConfig, String> {
        let text = format!(
            "name = \"b\"\n[control]\n{control}\n[[functions]]\n[functions.blk]\nbackend = {{ socket = \"/s\" }}\n"
        );
        BoardConfig::from_toml(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn an_api_is_its_owners_unless_another_mode_is_said() {
        let control = board("socket = \"/run/bm.sock\"").unwrap().control.unwrap();
        assert_eq!((control.mode, control.metrics), (0o600, None));
        let read_back = board("socket = \"/run/bm.sock\"\nmode = 0o660\nmetrics = \"[::1]:9100\"").unwrap();
        assert_eq!(read_back.control.as_ref().unwrap().mode, 0o660);
        assert_eq!(BoardConfig::from_toml(&toml::to_string(&read_back).unwrap()).unwrap(), read_back);
        let refused = board("socket = \"/run/bm.sock\"\nmode = 0o1777").unwrap_err();
        assert_eq!(refused, "control.mode is 1023; expected 0 to 511");
    }

    #[test]
    fn metrics_are_for_this_machine_only() {
        for good in ["127.0.0.1:0", "127.9.9.9:9100", "[::1]:9100", "/run/metrics.sock"] {
            assert!(board(&format!("socket = \"/s\"\nmetrics = \"{good}\"")).is_ok(), "{good}");
        }
        for bad in ["", "0.0.0.0:9100", "[::]:9100", "192.0.2.1:9100", "localhost:9100", "9100", "run/sock"] {
            let refused = board(&format!("socket = \"/s\"\nmetrics = \"{bad}\"")).unwrap_err();
            assert!(refused.contains(&format!("`{bad}` is not an address for metrics")), "{refused}");
        }
    }
}
