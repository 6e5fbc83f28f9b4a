//! Where a PCI function is on the base server's buses.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The address of a PCI function, written `0000:01:00.0` as `lspci -D` and sysfs do: domain, bus, device,
/// function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// A text that is not an address of a PCI function.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a PCI address; expected domain, bus, device and function in hexadecimal such as 0000:01:00.0, as `lspci -D` prints them"
)]
pub struct PciAddressError(String);

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

impl FromStr for PciAddress {
    type Err = PciAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| PciAddressError(text.into()))
    }
}

/// The domain has four digits, or up to eight where a host bridge lies beyond the 65 536 of ACPI (Linux does
/// so for VMD).
fn parse(text: &str) -> Option<PciAddress> {
    let (domain, rest) = text.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let address = PciAddress {
        domain: number(domain, 4..=8)?,
        bus: number(bus, 2..=2)?.try_into().ok()?,
        device: number(device, 2..=2)?.try_into().ok()?,
        function: number(function, 1..=1)?.try_into().ok()?,
    };
    // PCI 3.0, 3.2.2.3.1: five bits of device and three of function.
    (address.device < 32 && address.function < 8).then_some(address)
}

fn number(digits: &str, length: std::ops::RangeInclusive<usize>) -> Option<u32> {
    // `from_str_radix` takes a sign, too.
    let fits = length.contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    fits.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

impl TryFrom<String> for PciAddress {
    type Error = PciAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_lspci_prints_them() {
        for (text, printed) in [
            ("0000:01:00.0", "0000:01:00.0"),
            ("0000:3B:1f.7", "0000:3b:1f.7"),
            ("10000:e1:00.0", "10000:e1:00.0"),
        ] {
            assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), printed);
        }
    }

    #[test]
    fn anything_else_is_answered_with_what_is_expected() {
        for wrong in [
            "",
            "01:00.0",
            "0000:01:00",
            "0000:01:20.0",
            "0000:01:00.8",
            "0000:1:00.0",
            "0000:01:00.0 ",
            "+000:01:00.0",
            "0000:01:00.00",
            "../../etc",
            "0000:001:00.0",
        ] {
            let error = wrong.parse::<PciAddress>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{wrong}` is not a PCI address")), "{error}");
            assert!(error.contains("such as 0000:01:00.0"), "{error}");
        }
    }
}
