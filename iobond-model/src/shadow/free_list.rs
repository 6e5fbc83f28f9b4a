//! Free numbers, in the two orders that pay.
//!
//! Shadow descriptors are taken first in, first out: consecutive ones stay together while completions come in
//! order, so that bursts of them stay long. Slots are taken last in, first out: a slot that was just given
//! back is still in a cache, on the host that the model runs on as on a server whose DMA writes land in the
//! last-level cache.

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

    /// How many numbers are free.
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

    /// Gives `number` back. The caller took it before and gives it back once, so the list is never full.
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

/// The free ones of the numbers 0 to `capacity - 1`, the latest first.
#[derive(Debug)]
pub(super) struct FreeStack(Vec<u16>);

impl FreeStack {
    /// All of `capacity` numbers, 0 on top.
    pub(super) fn new(capacity: u16) -> Self {
        Self((0..capacity).rev().collect())
    }

    /// How many numbers are free.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes the one that was given back last. The caller looked at [`FreeStack::len`] first.
    #[inline]
    pub(super) fn take(&mut self) -> u16 {
        let Some(number) = self.0.pop() else { unreachable!("nothing was reserved") };
        number
    }

    /// Gives `number` back. The caller took it before and gives it back once, so the stack never grows.
    #[inline]
    pub(super) fn give(&mut self, number: u16) {
        assert!(self.0.len() < self.0.capacity(), "{number} was given back twice");
        self.0.push(number);
    }

    /// Bytes on the heap.
    pub(super) fn footprint(&self) -> usize {
        self.0.capacity() * size_of::<u16>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_takes_the_latest() {
        let mut stack = FreeStack::new(3);
        assert_eq!((stack.take(), stack.take()), (0, 1));
        stack.give(0);
        assert_eq!((stack.take(), stack.take(), stack.len()), (0, 2, 0));
    }

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
