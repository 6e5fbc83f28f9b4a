//! A back end that takes another one's place: whether it can, and what it takes over.

use super::{BackEnd, BackEndError, Problem};
use crate::device::{
    Device,
    features::{VHOST_USER_F_PROTOCOL_FEATURES, has, names},
};

impl BackEndError {
    /// Whether the back end is gone, or as good as that, so that another may do its work. One that answers
    /// something else than it should would do so again.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(
            self.problem,
            Problem::Died
                | Problem::Closed { .. }
                | Problem::NoAnswer { .. }
                | Problem::Connect { .. }
                | Problem::DidNotConnect(_)
                | Problem::System(_)
        )
    }
}

impl BackEnd {
    /// Whether this back end, which makes `device`, can continue where `former` with its device `known` was.
    /// The driver has settled what it uses, and read the configuration space: all of it must still be so.
    ///
    /// # Errors
    /// [`Problem::Changed`].
    pub(crate) fn can_replace(
        &self,
        device: &Device,
        former: &Self,
        known: &Device,
    ) -> Result<(), BackEndError> {
        let changed = |what: String| Err(self.error(Problem::Changed { what }));
        let missing = known.features & !device.features;
        if missing != 0 {
            return changed(format!("without {}", names(known.kind, missing)));
        }
        let (has_now, had) = (self.ring_features(), former.ring_features());
        if (had.indirect && !has_now.indirect) || (had.event_idx && !has_now.event_idx) {
            return changed("without INDIRECT_DESC or EVENT_IDX of the rings".into());
        }
        let talks_protocol = |back_end: &Self| has(back_end.offer.features, VHOST_USER_F_PROTOCOL_FEATURES);
        if talks_protocol(former) && !talks_protocol(self) {
            return changed("without protocol features".into());
        }
        if former.notes_in_flight() && !self.offer.protocol.contains(super::IN_FLIGHT) {
            return changed("without INFLIGHT_SHMFD, in which what is in flight was noted".into());
        }
        if device.config != known.config {
            let at = device.config.iter().zip(&known.config).position(|(new, old)| new != old).unwrap_or(0);
            return changed(format!("with another configuration space, from byte {at} on"));
        }
        Ok(())
    }

    /// Takes over what outlives a connection. What this back end offers beyond the former one stays unused:
    /// it was not negotiated.
    pub(crate) fn take_over(&mut self, former: &mut Self) {
        self.offer.features &= former.offer.features;
        // The poll thread watches this one, and need not be told of another.
        std::mem::swap(&mut self.call, &mut former.call);
        self.in_flight = former.in_flight.take();
    }
}
