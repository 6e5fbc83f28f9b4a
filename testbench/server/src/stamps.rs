//! Stamps a [`StageClock`] from where the stages of a request happen.

use std::sync::Arc;

use results::measure::{Stage, StageClock};

/// Stamps on behalf of the IO-Bond and of bm-hypervisor, if there is a clock.
#[derive(Clone, Debug)]
pub(super) struct Stamps(pub(super) Option<Arc<StageClock>>);

impl Stamps {
    pub(super) fn stamp(&self, stage: Stage) {
        if let Some(clock) = &self.0 {
            clock.stamp(stage);
        }
    }
}

impl bm_hypervisor::Observer for Stamps {
    fn published(&mut self, _: u8, _: u16, _: bool) {
        self.stamp(Stage::Kicked);
    }

    fn returned(&mut self, _: u8, _: u16) {
        self.stamp(Stage::Used);
        self.stamp(Stage::Tail);
    }
}
