//! A board whose back ends are lost and come back.

use std::{io, sync::Arc, time::Duration};

use vmm_sys_util::epoll::Epoll;

use super::Board;
use crate::{
    Error,
    control::back_end_search::{FIRST_PAUSE, Found, LONGEST_PAUSE},
    port::Port,
    vhost_user::{BackEnd, BackEndError},
};

impl<P: Port> Board<P> {
    /// Function `index` failed with `error`. If its back end is lost and may come back, its queues wait;
    /// otherwise the function stops. Either way a search for the back end begins, if the configuration wants
    /// one. Returns what failed.
    pub(super) fn lose(&mut self, index: usize, error: Error) -> Option<Arc<Error>> {
        let wanted = self.searches.wanted(index);
        let waits = wanted && is_loss(&error);
        let Some((served, mut resources)) = self.served(index).filter(|(served, _)| served.alive) else {
            return Some(self.fail(error));
        };
        let id = served.id;
        // A back end whose queues cannot be detached is not waited for.
        let outcome = if waits { served.detach_back_end(&mut resources).map(Some) } else { Ok(None) };
        if !matches!(outcome, Ok(Some(_))) {
            served.lose_back_end(&mut resources);
        }
        if wanted && let Err(error) = self.begin_search(index) {
            self.fail(error.into());
        }
        Some(match outcome {
            Ok(Some(outstanding)) => {
                let board = &self.name;
                tracing::warn!(board, function = %id, %error, outstanding, "back end lost; its queues wait for it");
                // Only the caller is told; the board has not failed.
                Arc::new(error)
            }
            Ok(None) => self.fail(error),
            Err(worse) => self.fail(worse),
        })
    }

    fn begin_search(&mut self, index: usize) -> io::Result<()> {
        let began = self.searches.begin(index, Duration::ZERO);
        match self.served(index) {
            Some((served, _)) => served.await_return(began),
            None => began,
        }
    }

    /// Takes back ends that came back into service, and has `epoll` watch them by `watch`.
    pub(in crate::control) fn take_returned(
        &mut self,
        epoll: &Epoll,
        watch: impl Fn(&Epoll, usize, &BackEnd) -> io::Result<()>,
    ) {
        while let Some((index, found)) = self.searches.next() {
            if let Err(error) = self.attach_back_end(index, found) {
                self.reject_back_end(index, error);
                continue;
            }
            let Some(served) = self.functions.get(index).and_then(Option::as_ref) else { continue };
            if let Err(error) = watch(epoll, index, &served.back_end) {
                self.fail(error.into());
            }
        }
    }

    fn attach_back_end(&mut self, index: usize, found: Found) -> Result<(), Error> {
        let (back_end, device) = *found?;
        let Some((served, mut resources)) = self.served(index) else { return Ok(()) };
        let (id, away) = (served.id, served.away.map(|since| since.elapsed()).unwrap_or_default());
        let outstanding = served.attach_back_end(back_end, device, &mut resources)?;
        tracing::info!(board = %self.name, function = %id, ?away, outstanding, "back end is back");
        Ok(())
    }

    /// A back end came back and is lost again, and the queues still wait; or it differs from the former one,
    /// and they stop. The search continues.
    fn reject_back_end(&mut self, index: usize, error: Error) {
        let is_loss = is_loss(&error);
        // One that is there already, and does not fit, would be found again at once.
        let searched = self.searches.begin(index, if is_loss { FIRST_PAUSE } else { LONGEST_PAUSE });
        let Some((served, mut resources)) = self.served(index) else { return };
        if is_loss {
            let function = served.id;
            tracing::debug!(board = %self.name, %function, %error, "back end lost again as it came back");
        } else {
            served.lose_back_end(&mut resources);
            self.fail(error);
        }
        if let Err(error) = searched {
            self.fail(error.into());
        }
    }
}

fn is_loss(error: &Error) -> bool {
    matches!(error, Error::BackEnd(error) if BackEndError::is_loss(error))
}
