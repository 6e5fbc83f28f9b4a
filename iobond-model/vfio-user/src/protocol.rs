//! Layouts of messages.

/// Information about a region.
#[derive(Clone, Copy, Debug)]
pub struct RegionInfo {}
