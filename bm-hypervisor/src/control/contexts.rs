//! Which queue contexts each function of a board has.

use crate::{
    config::{BoardConfig, FunctionConfig, RingSizes},
    journal::digest,
};

/// The queue contexts that a function of some number may take: assigned when the board starts, and never
/// moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct ContextRange {
    /// The number of the first; the others follow.
    pub(super) first: u8,
    pub(super) count: u16,
}

impl ContextRange {
    pub(super) fn numbers(self) -> impl Iterator<Item = u8> {
        (self.first..).take(self.count.into())
    }
}

/// Assigns queue contexts to functions in order of their numbers, then to spare ones.
pub(super) fn assign_contexts(config: &BoardConfig) -> Vec<ContextRange> {
    let functions = config.functions.iter().map(FunctionConfig::queues);
    let counts = functions.chain(config.spares.iter().map(|spare| spare.queues));
    let mut first = 0;
    let assign = |count| {
        let range = ContextRange { first, count };
        first += count as u8;
        range
    };
    counts.map(assign).collect()
}

/// Tells boards apart whose contexts, or whose parts of the pool, are assigned in another way.
pub(super) fn layout_of(config: &BoardConfig) -> u64 {
    let ranges =
        assign_contexts(config).into_iter().flat_map(|range| [range.first.into(), range.count.into()]);
    let sizes = config.queue_sizes().into_iter().flat_map(|sizes| {
        let RingSizes { guest, shadow, slot_size, slots } = sizes;
        [guest.into(), shadow.into(), slot_size.into(), u64::from(slots)]
    });
    digest(ranges.chain(sizes).flat_map(u64::to_le_bytes))
}
