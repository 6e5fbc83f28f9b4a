//! Why there can be no such link.

/// A link that PCI Express does not have, or on which nothing would move.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {found}; {expected}")]
pub struct PcieError {
    /// The key below that of the link, `credits.posted_data`.
    pub field: String,
    /// Its value, and what keeps a link from having it: `= 3: there is no such link`.
    pub found: String,
    /// What to do.
    pub expected: String,
}

impl PcieError {
    pub(super) fn new(field: impl Into<String>, found: String, expected: impl Into<String>) -> Self {
        Self { field: field.into(), found, expected: expected.into() }
    }
}
