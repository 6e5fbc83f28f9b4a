//! A FIFO of free numbers. First in, first out keeps neighbours together while completions come in order, so that bursts
//! of shadow descriptors stay long.

/// The free ones of the numbers 0 to `capacity - 1`.
#[derive(Debug)]
pub(super) struct FreeList {
    ring: Box<[u16]>,
    first: usize,
    len: usize,
}

impl FreeList {
    /// All of `capacity` numbers, in order.
    pub(super) fn new(capacity: u16) -> Self {
        Self { ring: (0..capacity).collect(), first: 0, len: usize::from(capacity) }
    }

    /// How many are free.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes the one that has been free longest. The caller looked at [`FreeList::len`] first.
    #[inline]
    pub(super) fn take(&mut self) -> u16 {
        assert!(self.len > 0, "nothing was reserved");
        let number = self.ring[self.first];
        self.first = self.wrap(self.first + 1);
        self.len -= 1;
        number
    }

    /// Gives `number` back. The caller took it before and gives it back once, so there is always room.
    #[inline]
    pub(super) fn give(&mut self, number: u16) {
        assert!(self.len < self.ring.len(), "{number} was given back twice");
        let last = self.wrap(self.first + self.len);
        self.ring[last] = number;
        self.len += 1;
    }

    /// Bytes on the heap.
    pub(super) fn footprint(&self) -> usize {
        size_of_val(&*self.ring)
    }

    #[inline]
    fn wrap(&self, at: usize) -> usize {
        if at >= self.ring.len() { at - self.ring.len() } else { at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_in_the_order_given() {
        let mut list = FreeList::new(3);
        assert_eq!((list.take(), list.take()), (0, 1));
        list.give(1);
        list.give(0);
        assert_eq!((list.take(), list.take(), list.take()), (2, 1, 0));
        assert_eq!(list.len(), 0);
    }
}
