//! Ethernet addresses.

use std::{fmt, str::FromStr};

use serde::Deserialize;

/// A unicast Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Mac([u8; 6]);

/// Why a text is not a [`Mac`].
#[derive(Debug, thiserror::Error)]
#[error("invalid value: `{found}`, expected {expected}")]
pub struct BadMac {
    found: String,
    expected: &'static str,
}

impl Mac {
    /// The six octets in the order of transmission.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let bad = |expected| BadMac { found: text.to_owned(), expected };
        let shape = "six hexadecimal pairs such as 52:54:00:10:0b:00";
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(|| bad(shape))?;
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(bad(shape));
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| bad(shape))?;
        }
        if parts.next().is_some() {
            return Err(bad(shape));
        }
        // IEEE 802, 8.2.2: the least significant bit of the first octet marks a group address.
        if octets[0] & 1 != 0 || octets == [0; 6] {
            return Err(bad("a unicast address: even first octet, not all zero"));
        }
        Ok(Self(octets))
    }
}

impl TryFrom<String> for Mac {
    type Error = BadMac;

    fn try_from(text: String) -> Result<Self, BadMac> {
        text.parse()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}
