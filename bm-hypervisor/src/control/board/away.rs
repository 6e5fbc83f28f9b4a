//! A board whose back ends come and go.

use std::{io, sync::Arc, time::Duration};

use vmm_sys_util::epoll::Epoll;

use super::{Board, Tools};
use crate::{
    Error,
    control::reconnect::{FIRST_PAUSE, Found, LONGEST_PAUSE},
    port::Port,
    vhost_user::BackEndError,
};

impl<P: Port> Board<P> {
    /// Function `index` failed with `error`. If its back end is lost and may come back, its queues wait; otherwise the function
    /// stops. Either way the back end is looked for, unless it is not to be. What failed.
    pub(super) fn lose(&mut self, index: usize, error: Error) -> Option<Arc<Error>> {
        let Self { functions, registers, pool, end, tickets, searches, name, .. } = self;
        let served = functions.get_mut(index).and_then(Option::as_mut);
        let Some(served) = served.filter(|served| served.alive) else {
            return Some(self.fail(error));
        };
        let mut tools = Tools { registers, pool, end, tickets };
        let wanted = searches.wanted(index);
        let is_loss = matches!(&error, Error::BackEnd(error) if error.is_loss());
        let failure = match is_loss && wanted {
            true => match served.part(&mut tools) {
                Ok(outstanding) => {
                    tracing::warn!(board = %name, function = %served.id, %error, outstanding, "back end lost; its queues wait for it");
                    Err(error)
                }
                Err(worse) => {
                    served.lose_back_end(&mut tools);
                    Ok(worse)
                }
            },
            false => {
                served.lose_back_end(&mut tools);
                Ok(error)
            }
        };
        let searched =
            if wanted { served.await_return(searches.begin(index, Duration::ZERO)) } else { Ok(()) };
        if let Err(error) = searched {
            self.fail(error.into());
        }
        Some(match failure {
            Ok(failure) => self.fail(failure),
            // Whoever had asked for something hears of it; the board has not failed.
            Err(loss) => Arc::new(loss),
        })
    }

    /// Takes back ends that came back into service, and has `epoll` watch them by `watch`.
    pub(in crate::control) fn take_returned(
        &mut self,
        epoll: &Epoll,
        watch: impl Fn(&Epoll, usize, &crate::vhost_user::BackEnd) -> io::Result<()>,
    ) {
        while let Some((index, found)) = self.searches.next() {
            if let Err(error) = self.welcome(index, found) {
                self.turn_away(index, error);
                continue;
            }
            let Some(served) = self.functions.get(index).and_then(Option::as_ref) else { continue };
            if let Err(error) = watch(epoll, index, &served.back_end) {
                self.fail(error.into());
            }
        }
    }

    fn welcome(&mut self, index: usize, found: Found) -> Result<(), Error> {
        let (back_end, device) = *found?;
        let Self { functions, registers, pool, end, tickets, name, .. } = self;
        let Some(served) = functions.get_mut(index).and_then(Option::as_mut) else { return Ok(()) };
        let away = served.away.map(|since| since.elapsed()).unwrap_or_default();
        let outstanding = served.resume(back_end, device, &mut Tools { registers, pool, end, tickets })?;
        tracing::info!(board = %name, function = %served.id, ?away, outstanding, "back end is back");
        Ok(())
    }

    /// A back end came back and is lost again, for which the queues go on waiting; or it is not what it was, and they stop.
    fn turn_away(&mut self, index: usize, error: Error) {
        let is_loss = matches!(&error, Error::BackEnd(error) if BackEndError::is_loss(error));
        let Self { functions, registers, pool, end, tickets, searches, name, .. } = self;
        let Some(served) = functions.get_mut(index).and_then(Option::as_mut) else { return };
        // What is there already, and will not do, would be found again at once.
        let searched = searches.begin(index, if is_loss { FIRST_PAUSE } else { LONGEST_PAUSE });
        if is_loss {
            tracing::debug!(board = %name, function = %served.id, %error, "back end lost again as it came back");
        } else {
            served.lose_back_end(&mut Tools { registers, pool, end, tickets });
            self.fail(error);
        }
        if let Err(error) = searched {
            self.fail(error.into());
        }
    }
}
