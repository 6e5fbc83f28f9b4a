//! Into how many TLPs a transfer falls.
//!
//! A request may not cross 4 KiB (PCIe 5.0, 2.2.7), and its length may not be over MRRS or MPS (2.2.2,
//! 2.2.7). That length is in DWs, those included of which only a part is meant: 256 bytes from address 1 are
//! 65 DWs. So a first piece that begins inside of a DW is shorter, and the following ones begin at one.
//!
//! Each transfer takes the fewest TLPs that are allowed. Addresses continue with 0 after the last one.

use std::iter;

use super::{Pcie, tlp::DW};

/// What no request may cross (PCIe 5.0, 2.2.7).
const PAGE: u32 = 4096;

impl Pcie {
    /// The memory reads for `len` bytes from `at`: address and bytes of each, in order.
    pub fn read_requests(&self, at: u64, len: u32) -> impl Iterator<Item = (u64, u32)> + use<> {
        requests(at, len, self.max_read_request)
    }

    /// The memory writes for `len` bytes from `at`: address and bytes of each, in order.
    pub fn writes(&self, at: u64, len: u32) -> impl Iterator<Item = (u64, u32)> + use<> {
        requests(at, len, self.max_payload)
    }

    /// The completions of one memory read of `len` bytes from `at`: bytes of each, in order. All but the last
    /// end at a multiple of RCB, and none is over MPS (PCIe 5.0, 2.3.1.1).
    pub fn completions(&self, at: u64, len: u32) -> impl Iterator<Item = u32> + use<> {
        let (most, boundary) = (u32::from(self.max_payload), u32::from(self.completion_boundary));
        pieces(at, len, move |at| {
            let over = (at as u32).wrapping_add(most) & boundary.saturating_sub(1);
            most.saturating_sub(over)
        })
        .map(|(_, len)| len)
    }
}

fn requests(at: u64, len: u32, most: u16) -> impl Iterator<Item = (u64, u32)> {
    pieces(at, len, move |at| {
        let at = at as u32;
        let page = PAGE - at % PAGE;
        u32::from(most).saturating_sub(at % DW).min(page)
    })
}

/// `len` bytes from `at` in pieces, each of at most as many bytes as `fits` says from its address on. One
/// always fits, so that also a link that [`Pcie::check`] would refuse comes to an end.
fn pieces(mut at: u64, mut len: u32, fits: impl Fn(u64) -> u32) -> impl Iterator<Item = (u64, u32)> {
    iter::from_fn(move || {
        let piece = (at, len.min(fits(at).max(1)));
        at = at.wrapping_add(u64::from(piece.1));
        len -= piece.1;
        (piece.1 > 0).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::Generation, *};

    /// MPS 256, MRRS 512, RCB 64.
    fn link() -> Pcie {
        Pcie::new(Generation::Gen3, 4)
    }

    /// 1 KiB from 0x1FC4: 60 bytes are left of the page, then MRRS, then 1024 - 60 - 512 = 452.
    /// The last read, 452 bytes from 0x2200, comes back as 256 to 0x2300 and 196.
    #[test]
    fn a_misaligned_read_across_a_page() {
        let requests: Vec<_> = link().read_requests(0x1FC4, 1024).collect();
        assert_eq!(requests, [(0x1FC4, 60), (0x2000, 512), (0x2200, 452)]);
        let completions: Vec<Vec<_>> =
            requests.into_iter().map(|(at, len)| link().completions(at, len).collect()).collect();
        assert_eq!(completions, [vec![60], vec![256, 256], vec![256, 196]]);
    }

    /// 512 bytes from 0x10: MPS would end at 0x110, the boundary before it is 0x100, so 240 bytes; then 256
    /// to 0x200; then 16. With an RCB of 128 and an MPS of 128: to 0x80, 0x100, 0x180, 0x200, and 16.
    #[test]
    fn completions_end_at_boundaries() {
        assert_eq!(link().completions(0x10, 512).collect::<Vec<_>>(), [240, 256, 16]);
        let narrow = Pcie { max_payload: 128, completion_boundary: 128, ..link() };
        assert_eq!(narrow.completions(0x10, 512).collect::<Vec<_>>(), [112, 128, 128, 128, 16]);
        assert_eq!(narrow.completions(0x7F, 2).collect::<Vec<_>>(), [1, 1]);
    }

    /// 1500 bytes from 0xF02: 254 bytes are 64 DWs, of which the first begins at 0xF00, and end the page;
    /// then 4 * 256, then 222.
    #[test]
    fn writes_fill_payloads() {
        let writes: Vec<_> = link().writes(0xF02, 1500).collect();
        let expected =
            [(0xF02, 254), (0x1000, 256), (0x1100, 256), (0x1200, 256), (0x1300, 256), (0x1400, 222)];
        assert_eq!(writes, expected);
    }

    /// 256 bytes from address 1 touch 65 DWs: one more than MPS allows.
    #[test]
    fn a_length_is_in_dws() {
        assert_eq!(link().writes(1, 256).collect::<Vec<_>>(), [(1, 255), (256, 1)]);
        assert_eq!(link().read_requests(3, 512).collect::<Vec<_>>(), [(3, 509), (512, 3)]);
    }

    #[test]
    fn nothing_is_nothing_and_the_end_is_no_panic() {
        assert_eq!(link().writes(5, 0).count(), 0);
        assert_eq!(link().completions(5, 0).count(), 0);
        assert_eq!(link().read_requests(u64::MAX, 2).collect::<Vec<_>>(), [(u64::MAX, 1), (0, 1)]);
        assert_eq!(link().completions(u64::MAX, 2).collect::<Vec<_>>(), [2]);
        let impossible = Pcie { max_payload: 0, max_read_request: 0, completion_boundary: 0, ..link() };
        assert_eq!(impossible.writes(0, 3).count(), 3);
        assert_eq!(impossible.read_requests(1, 3).count(), 3);
        assert_eq!(impossible.completions(2, 3).count(), 3);
    }

    fn links() -> impl Strategy<Value = Pcie> {
        (7u32..=12, 0u32..=5, prop::bool::ANY).prop_map(|(read, less, wide)| Pcie {
            max_payload: 1 << read.saturating_sub(less).max(7),
            max_read_request: 1 << read,
            completion_boundary: if wide { 128 } else { 64 },
            ..link()
        })
    }

    /// Addresses anywhere, and often right before something that matters.
    fn addresses() -> impl Strategy<Value = u64> {
        let near = |at: u64| (0u64..300).prop_map(move |less| at.wrapping_sub(less));
        prop_oneof![any::<u64>(), near(0x5000), near(1 << 32), near(0)]
    }

    /// DWs that some bytes touch.
    fn dws(at: u64, len: u32) -> u64 {
        (at % 4 + u64::from(len)).div_ceil(4)
    }

    proptest! {
        #[test]
        fn requests_keep_to_the_rules(link in links(), start in addresses(), len in 0u32..20_000) {
            link.check().unwrap();
            let both = [
                (link.read_requests(start, len).collect::<Vec<_>>(), link.max_read_request),
                (link.writes(start, len).collect::<Vec<_>>(), link.max_payload),
            ];
            for (requests, most) in both {
                let mut at = start;
                for (index, (from, bytes)) in requests.iter().copied().enumerate() {
                    prop_assert!(from == at && bytes > 0);
                    prop_assert!(from % 4096 + u64::from(bytes) <= 4096, "{from:#x} and {bytes} cross a page");
                    prop_assert!(dws(from, bytes) * 4 <= u64::from(most));
                    prop_assert!(index == 0 || from % 4 == 0, "only the first begins inside of a DW");
                    at = at.wrapping_add(u64::from(bytes));
                }
                prop_assert_eq!(at, start.wrapping_add(u64::from(len)));
            }
        }

        #[test]
        fn completions_keep_to_the_rules(link in links(), start in addresses(), len in 0u32..20_000) {
            for (from, bytes) in link.read_requests(start, len) {
                let completions: Vec<_> = link.completions(from, bytes).collect();
                let mut at = from;
                for (index, data) in completions.iter().copied().enumerate() {
                    prop_assert!(data > 0 && dws(at, data) * 4 <= u64::from(link.max_payload));
                    at = at.wrapping_add(u64::from(data));
                    let last = index + 1 == completions.len();
                    prop_assert!(last || at % u64::from(link.completion_boundary) == 0, "ends at {at:#x}");
                }
                prop_assert_eq!(at, from.wrapping_add(u64::from(bytes)));
            }
        }
    }
}
