//! A PCI Express link at the level of its TLPs: how large they are on the wire, how long that takes, and into
//! how many a transfer falls. Nothing here has a state; the sender counts credits and tags, and keeps the
//! time.
//!
//! Left out: 32-bit addresses (a request below 4 GiB would be 4 bytes shorter), TLP prefixes, ECRC, the retry
//! buffer, and replays.

mod error;
mod rate;
mod split;
mod tlp;

use serde::{Deserialize, Serialize};

pub use self::{error::PcieError, rate::Link, tlp::Tlp};

/// Widths of a link (PCIe 5.0, 7.5.3.6, Maximum Link Width).
const WIDTHS: [u8; 7] = [1, 2, 4, 8, 12, 16, 32];
/// Max_Payload_Size and Max_Read_Request_Size are powers of two in this range (PCIe 5.0, 7.5.3.4).
const SIZES: std::ops::RangeInclusive<u16> = 128..=4096;
/// Read completion boundaries (PCIe 5.0, 7.5.3.7).
const BOUNDARIES: [u16; 2] = [64, 128];

/// Speed of a link's lanes (PCIe 5.0, 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Generation {
    /// 2.5 GT/s in 8b/10b encoding.
    Gen1,
    /// 5 GT/s in 8b/10b encoding.
    Gen2,
    /// 8 GT/s in 128b/130b encoding.
    Gen3,
    /// 16 GT/s in 128b/130b encoding.
    Gen4,
    /// 32 GT/s in 128b/130b encoding.
    Gen5,
}

/// One link, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pcie {
    /// Speed of each lane.
    pub generation: Generation,
    /// Lanes: 1, 2, 4, 8, 12, 16 or 32.
    pub lanes: u8,
    /// Max_Payload_Size (MPS) in bytes: a power of two from 128 to 4096, at most `max_read_request`.
    #[serde(default = "max_payload")]
    pub max_payload: u16,
    /// Max_Read_Request_Size (MRRS) in bytes: a power of two from 128 to 4096.
    #[serde(default = "max_read_request")]
    pub max_read_request: u16,
    /// Read Completion Boundary (RCB) in bytes: 64 or 128.
    #[serde(default = "completion_boundary")]
    pub completion_boundary: u16,
    /// What each end advertises as a receiver.
    #[serde(default)]
    pub credits: Credits,
}

/// What a receiver advertises when the link comes up: headers in TLPs, data in units of 16 bytes (PCIe 5.0,
/// 2.6.1). A memory read has no data.
///
/// By default what the receive buffer of an FPGA's hard block has (Intel, L- and H-Tile PCIe user guide
/// 683111, 6.5: 127 and 750 posted, 115 non-posted), and no bound for completions, as every endpoint must
/// advertise (PCIe 5.0, 2.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Credits {
    /// Memory writes that fit, messages of MSI-X among them.
    pub posted_headers: u16,
    /// Data of memory writes that fits.
    pub posted_data: u16,
    /// Memory reads that fit.
    pub non_posted_headers: u16,
    /// Completions that fit.
    pub completion_headers: u16,
    /// Data of completions that fits.
    pub completion_data: u16,
}

impl Credits {
    /// More than can be on its way: 65535 TLPs, 1 MiB of data.
    pub const UNBOUNDED: u16 = u16::MAX;
}

impl Default for Credits {
    fn default() -> Self {
        Self {
            posted_headers: 127,
            posted_data: 750,
            non_posted_headers: 115,
            completion_headers: Self::UNBOUNDED,
            completion_data: Self::UNBOUNDED,
        }
    }
}

/// What IO-Bond's Device Capabilities name, and root ports of x86 servers mostly support.
const fn max_payload() -> u16 {
    256
}

/// The value after reset (PCIe 5.0, 7.5.3.4).
const fn max_read_request() -> u16 {
    512
}

/// The value after reset (PCIe 5.0, 7.5.3.7), and mostly that of x86 root ports.
const fn completion_boundary() -> u16 {
    64
}

impl Pcie {
    /// A link of so many lanes with the usual limits: MPS 256, MRRS 512, RCB 64, credits as by default.
    #[must_use]
    pub fn new(generation: Generation, lanes: u8) -> Self {
        Self {
            generation,
            lanes,
            max_payload: max_payload(),
            max_read_request: max_read_request(),
            completion_boundary: completion_boundary(),
            credits: Credits::default(),
        }
    }

    /// Whether there can be such a link.
    ///
    /// # Errors
    ///
    /// What is impossible, the first thing found. Of a link that is refused, times and pieces mean nothing;
    /// nothing panics, and everything ends.
    pub fn check(&self) -> Result<(), PcieError> {
        let size = |size: u16| size.is_power_of_two() && SIZES.contains(&size);
        // No link has so many lanes (PCIe 5.0, 7.5.3.6).
        if !WIDTHS.contains(&self.lanes) {
            let found = format!("= {}: there is no such link", self.lanes);
            return Err(PcieError::new("lanes", found, "choose 1, 2, 4, 8, 12, 16 or 32"));
        }
        let (payload, read) = (self.max_payload, self.max_read_request);
        // Device Control cannot say another size (PCIe 5.0, 7.5.3.4).
        for (field, bytes) in [("max_payload", payload), ("max_read_request", read)] {
            if !size(bytes) {
                let expected = "choose a power of two from 128 to 4096";
                return Err(PcieError::new(field, format!("= {bytes}"), expected));
            }
        }
        // PCI Express allows it; yet no completion would ever be as large as a write, which can only be a
        // mistake.
        if payload > read {
            let found = format!(
                "= {payload} is more than max_read_request = {read}, so no completion could be so large"
            );
            let expected = "raise max_read_request or lower max_payload";
            return Err(PcieError::new("max_payload", found, expected));
        }
        // Link Control cannot say another boundary (PCIe 5.0, 7.5.3.7).
        if !BOUNDARIES.contains(&self.completion_boundary) {
            let expected = "a read completion boundary is 64 or 128 bytes";
            let found = format!("= {}", self.completion_boundary);
            return Err(PcieError::new("completion_boundary", found, expected));
        }
        self.check_credits()
    }

    /// Less than one TLP needs is a link that stands still for ever (PCIe 5.0, 2.6.1, minimum initial
    /// advertisements).
    fn check_credits(&self) -> Result<(), PcieError> {
        let (header, data) = Self::credits_of(Tlp::MemoryWrite { data: u32::from(self.max_payload) });
        let Credits { posted_headers, posted_data, non_posted_headers, completion_headers, completion_data } =
            self.credits;
        let advertised = [
            ("posted_headers", posted_headers, header),
            ("posted_data", posted_data, data),
            ("non_posted_headers", non_posted_headers, header),
            ("completion_headers", completion_headers, header),
            ("completion_data", completion_data, data),
        ];
        match advertised.into_iter().find(|(_, credits, needs)| credits < needs) {
            Some((field, credits, needs)) => {
                let payload = self.max_payload;
                let found =
                    format!("= {credits}: a TLP with max_payload = {payload} bytes would wait for ever");
                let expected = format!("advertise {needs} or more");
                Err(PcieError::new(format!("credits.{field}"), found, expected))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl Fn(&mut Pcie)) -> String {
        let mut link = Pcie::new(Generation::Gen3, 4);
        change(&mut link);
        link.check().unwrap_err().to_string()
    }

    #[test]
    fn links_that_can_be() {
        for lanes in WIDTHS {
            for size in [128, 256, 512, 1024, 2048, 4096] {
                let mut link = Pcie::new(Generation::Gen5, lanes);
                (link.max_payload, link.max_read_request) = (size, size);
                link.check().unwrap();
            }
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert_eq!(
            refused(|link| link.lanes = 3),
            "lanes = 3: there is no such link; choose 1, 2, 4, 8, 12, 16 or 32"
        );
        assert_eq!(
            refused(|link| link.max_payload = 64),
            "max_payload = 64; choose a power of two from 128 to 4096"
        );
        assert_eq!(
            refused(|link| link.max_read_request = 600),
            "max_read_request = 600; choose a power of two from 128 to 4096"
        );
        assert_eq!(
            refused(|link| link.max_payload = 1024),
            "max_payload = 1024 is more than max_read_request = 512, so no completion could be so large; raise \
             max_read_request or lower max_payload"
        );
        assert_eq!(
            refused(|link| link.completion_boundary = 256),
            "completion_boundary = 256; a read completion boundary is 64 or 128 bytes"
        );
    }

    #[test]
    fn credits_let_the_largest_tlp_pass() {
        let text = "credits.posted_data = 15: a TLP with max_payload = 256 bytes would wait for ever; advertise 16 \
                    or more";
        assert_eq!(refused(|link| link.credits.posted_data = 15), text);
        let mut link = Pcie::new(Generation::Gen3, 4);
        link.credits = Credits {
            posted_headers: 1,
            posted_data: 16,
            non_posted_headers: 1,
            completion_headers: 1,
            completion_data: 16,
        };
        link.check().unwrap();
        for field in 0..5 {
            let mut link = link;
            let credits = &mut link.credits;
            *[
                &mut credits.posted_headers,
                &mut credits.posted_data,
                &mut credits.non_posted_headers,
                &mut credits.completion_headers,
                &mut credits.completion_data,
            ][field] -= 1;
            assert!(link.check().unwrap_err().field.starts_with("credits."), "{link:?}");
        }
    }

    #[test]
    fn a_document_names_speed_and_width_at_least() {
        let link: Pcie = toml::from_str("generation = \"gen3\"\nlanes = 4").unwrap();
        assert_eq!(link, Pcie::new(Generation::Gen3, 4));
        let link: Pcie =
            toml::from_str("generation = \"gen4\"\nlanes = 8\ncredits.posted_headers = 8").unwrap();
        assert_eq!(link.credits, Credits { posted_headers: 8, ..Credits::default() });
        assert!(
            toml::from_str::<Pcie>("generation = \"gen3\"").is_err(),
            "no width is more usual than others"
        );
        assert!(toml::from_str::<Pcie>("generation = \"gen3\"\nlanes = 4\nmps = 128").is_err());
    }
}
