//! The first exchange: a version and what each side can take (section "VFIO_USER_VERSION").

use serde::{Deserialize, Serialize};

use crate::{
    Violation,
    message::{Message, beginning, bytes},
    protocol::{MAJOR, MAX_DATA, MAX_FDS, MINOR, Version},
};

/// Capabilities that are named; those this server does not know are skipped. An answer may only name what was
/// proposed.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Capabilities {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_msg_fds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_data_xfer_size: Option<u64>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct Proposal {
    capabilities: Capabilities,
}

/// What both sides keep to from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreement {
    /// The most bytes of data in an access to a region or to memory; not 0.
    pub(crate) max_data: u32,
}

/// What `request` proposes, and the payload that answers it.
pub(crate) fn negotiate(request: &Message) -> Result<(Agreement, Vec<u8>), Violation> {
    let (Version { major, minor }, data) = beginning(request)?;
    if major != MAJOR {
        return Err(Violation::Version { major, minor });
    }
    let proposed = proposal(data)?.capabilities;
    let max_data = proposed.max_data_xfer_size.unwrap_or(MAX_DATA.into()).min(MAX_DATA.into()) as u32;
    if max_data == 0 {
        return Err(Violation::Capabilities { reason: "max_data_xfer_size is 0".into() });
    }
    let capabilities = Capabilities {
        max_msg_fds: proposed.max_msg_fds.map(|_| MAX_FDS as u64),
        max_data_xfer_size: proposed.max_data_xfer_size.map(|_| MAX_DATA.into()),
    };
    let mut json = serde_json::to_vec(&Proposal { capabilities }).unwrap_or_default();
    json.push(0);
    Ok((Agreement { max_data }, bytes(&Version { major, minor: minor.min(MINOR) }, &json)))
}

/// The JSON is optional, its NUL is not.
fn proposal(data: &[u8]) -> Result<Proposal, Violation> {
    let refuse = |reason| Err(Violation::Capabilities { reason });
    match data {
        [] => Ok(Proposal::default()),
        [json @ .., 0] => serde_json::from_slice(json).or_else(|error| refuse(error.to_string())),
        [..] => refuse("the last byte is not NUL".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Header;

    fn answer(major: u16, minor: u16, data: &[u8]) -> Result<(Agreement, String), Violation> {
        let payload = bytes(&Version { major, minor }, data);
        let (agreement, reply) = negotiate(&Message { header: Header::default(), payload, fds: vec![] })?;
        let (version, json) = reply.split_at(4);
        assert_eq!(version, [0, 0, minor.min(1) as u8, 0]);
        Ok((agreement, String::from_utf8(json.to_vec()).unwrap()))
    }

    #[test]
    fn only_what_was_proposed_is_answered() {
        let qemu = br#"{"capabilities": {"migration": {"pgsize": 4096}, "max_msg_fds": 16, "max_data_xfer_size": 65536, "write_multiple": true}}"#;
        let (agreement, reply) = answer(0, 0, &[&qemu[..], b"\0"].concat()).unwrap();
        assert_eq!(agreement, Agreement { max_data: 65_536 });
        assert_eq!(reply, "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576}}\0");
        let (agreement, reply) = answer(0, 5, b"").unwrap();
        assert_eq!(agreement, Agreement { max_data: MAX_DATA });
        assert_eq!(reply, "{\"capabilities\":{}}\0");
    }

    #[test]
    fn other_versions_and_other_bytes_are_refused() {
        assert_eq!(answer(1, 0, b"").unwrap_err(), Violation::Version { major: 1, minor: 0 });
        let zero = b"{\"capabilities\":{\"max_data_xfer_size\":0}}\0";
        let negative = b"{\"capabilities\":{\"max_msg_fds\":-1}}\0";
        let nested = [&[b'['; 4096][..], b"\0"].concat();
        for garbage in
            [&b"{}"[..], b"\0", b"{\0", b"{}{}\0", b"\xff\0", b"[]garbage\0", zero, negative, &nested]
        {
            let violation = answer(0, 1, garbage).unwrap_err();
            assert!(matches!(violation, Violation::Capabilities { .. }), "{violation}");
        }
    }
}
