//! A network function's address.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A unicast Ethernet address, written `52:54:00:12:34:56`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

/// A text or a set of bytes that is not a unicast Ethernet address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a unicast Ethernet address; expected six hexadecimal bytes such as 52:54:00:12:34:56, the first one even"
)]
pub struct MacAddressError(String);

impl MacAddress {
    /// The address with these bytes.
    ///
    /// # Errors
    /// When it is a group address (IEEE 802: bit 0 of the first byte) or all zeroes.
    pub fn new(bytes: [u8; 6]) -> Result<Self, MacAddressError> {
        if bytes[0] & 1 != 0 || bytes == [0; 6] {
            return Err(MacAddressError(Self(bytes).to_string()));
        }
        Ok(Self(bytes))
    }

    /// Its bytes in the order in which they are sent.
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || MacAddressError(text.into());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part =
                parts.next().filter(|part| part.len() == 2 && !part.starts_with('+')).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        Self::new(bytes)
    }
}

impl TryFrom<String> for MacAddress {
    type Error = MacAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> Self {
        address.to_string()
    }
}
