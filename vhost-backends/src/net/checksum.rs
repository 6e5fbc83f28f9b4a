//! The Internet checksum (RFC 1071). Pure.

/// `csum_start` and `csum_offset` (virtio 1.3, 5.1.6.2); both bytes of the sum lie in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartialChecksum {
    pub(crate) start: u16,
    pub(crate) offset: u16,
}

/// Ones' complement sum of `bytes` as big-endian words, added to `sum`; not yet folded to 16 bits.
pub(crate) fn add(sum: u64, bytes: &[u8]) -> u64 {
    // Eight bytes at a time: 2^16 = 1 modulo 2^16 - 1, so that words of any width may be added (RFC 1071, 2
    // (C)).
    let (words, rest) = bytes.as_chunks::<8>();
    let mut sum = sum;
    for word in words {
        let word = u64::from_be_bytes(*word);
        sum += (word >> 32) + (word & 0xffff_ffff);
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let word = u64::from_be_bytes(last);
    sum + (word >> 32) + (word & 0xffff_ffff)
}

/// The checksum that `sum` gives, to be stored big-endian.
pub(crate) fn finish(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Does what NEEDS_CSUM asks for (virtio 1.3, 5.1.6.2): the field holds the sum of the pseudo header already.
///
/// A sum of zero is stored as all ones. The two are the same number, and in UDP zero means that there is no
/// checksum.
pub(crate) fn complete(frame: &mut [u8], PartialChecksum { start, offset }: PartialChecksum) {
    let sum = add(0, frame.get(start.into()..).unwrap_or_default());
    let value = match finish(sum) {
        0 => 0xffff,
        value => value,
    };
    let at = usize::from(start) + usize::from(offset);
    if let Some(field) = frame.get_mut(at..at + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071, 1, word by word.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_the_rfc() {
        // RFC 1071, 3: the sum is ddf2.
        assert_eq!(finish(add(0, &[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), !0xddf2);
    }

    #[test]
    fn a_sum_of_zero_becomes_all_ones() {
        let mut frame = vec![0; 20];
        frame[14..16].copy_from_slice(&[0xff, 0xff]);
        complete(&mut frame, PartialChecksum { start: 14, offset: 4 });
        assert_eq!(frame[18..20], [0xff, 0xff]);
    }

    proptest! {
        #[test]
        fn wide_words_give_the_same_sum(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
            prop_assert_eq!(finish(add(0, &bytes)), reference(&bytes));
        }

        /// The range and the pseudo header sum to zero after completion, which is how a receiver checks them.
        #[test]
        fn a_completed_checksum_verifies(
            mut frame in prop::collection::vec(any::<u8>(), 64..2000), start in 14u16..40, words in 0u16..8,
            pseudo: u16,
        ) {
            let at = usize::from(start + 2 * words);
            frame[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
            complete(&mut frame, PartialChecksum { start, offset: 2 * words });
            prop_assert_eq!(finish(add(pseudo.into(), &frame[start.into()..])), 0);
        }
    }
}
