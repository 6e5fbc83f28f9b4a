//! DMA windows: the ranges of base memory that the base granted.

use iobond_spec::{MAX_WINDOWS, address::BaseAddr};

/// A granted range. Empty when not granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Window {
    first: u64,
    length: u64,
}

/// Every window of one IO-Bond.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows([Window; MAX_WINDOWS]);

impl Windows {
    /// Windows that grant nothing.
    pub const NONE: Self = Self([Window { first: 0, length: 0 }; MAX_WINDOWS]);

    /// Grants `length` bytes from `first` as window `index`, in place of what that window granted before. A
    /// range past the end of the address space, an empty one, or an `index` out of range grants nothing.
    pub fn grant(&mut self, index: usize, first: BaseAddr, length: u64) {
        let Some(window) = self.0.get_mut(index) else { return };
        let fits = length > 0 && first.checked_add(length - 1).is_some();
        *window = if fits { Window { first: first.0, length } } else { Window::default() };
    }

    /// Takes window `index` back.
    pub fn revoke(&mut self, index: usize) {
        self.grant(index, BaseAddr(0), 0);
    }

    /// Whether `len` bytes at `at` lie inside one window.
    #[inline]
    pub fn grants(&self, at: BaseAddr, len: u64) -> bool {
        self.0.iter().any(|window| {
            let offset = at.0.wrapping_sub(window.first);
            offset < window.length && len <= window.length - offset
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_grants_itself_and_nothing_around_it() {
        let mut windows = Windows::default();
        assert!(!windows.grants(BaseAddr(0), 1));
        windows.grant(3, BaseAddr(0x1000), 0x1000);
        assert!(windows.grants(BaseAddr(0x1000), 0x1000));
        assert!(windows.grants(BaseAddr(0x1fff), 1));
        for (at, len) in [(0xfff, 1), (0xfff, 2), (0x1fff, 2), (0x2000, 1), (0x1001, u64::MAX)] {
            assert!(!windows.grants(BaseAddr(at), len), "{at:#x}+{len:#x}");
        }
        windows.revoke(3);
        assert!(!windows.grants(BaseAddr(0x1000), 1));
    }

    #[test]
    fn a_range_that_wraps_grants_nothing() {
        let mut windows = Windows::default();
        windows.grant(0, BaseAddr(u64::MAX - 1), 3);
        assert!(!windows.grants(BaseAddr(u64::MAX), 1));
        windows.grant(0, BaseAddr(u64::MAX - 1), 2);
        assert!(windows.grants(BaseAddr(u64::MAX), 1));
    }
}
