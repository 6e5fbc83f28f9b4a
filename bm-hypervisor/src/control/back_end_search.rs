//! Searches for back ends that were lost: a thread for each, so that nothing else waits for them, which ends
//! when it has found one.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, unbounded};
use vmm_sys_util::eventfd::EventFd;

use super::offer::offered_device;
use crate::{
    config::{FunctionConfig, OnLoss},
    device::Device,
    vhost_user::{BackEnd, BackEndError, Problem, Socket},
};

/// How long the first pause between two tries is, and the longest: they double, and do not end.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(10);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Between two looks whether the back end is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// A back end that was found, with the device that it makes; or why one that was found cannot make the
/// device.
pub(super) type Found = Result<Box<(BackEnd, Device)>, BackEndError>;

/// All searches of one board. Dropping it ends them.
pub(super) struct Searches {
    /// By number of the function; none for one that is not there.
    targets: Vec<Option<Target>>,
    found: Sender<Find>,
    finds: Receiver<Find>,
    /// Wakes the control thread when there is a find.
    wake: EventFd,
}

/// A function whose back end may have to be searched for.
struct Target {
    config: FunctionConfig,
    /// Set when its back end is not wanted any more. Also tells this function from others that had its
    /// number.
    over: Arc<AtomicBool>,
}

impl Drop for Target {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}

/// The result of a search.
struct Find {
    index: usize,
    over: Arc<AtomicBool>,
    found: Found,
}

impl Searches {
    /// For a board of these functions, whose back ends are all connected.
    pub(super) fn new(functions: &[FunctionConfig], wake: &EventFd) -> io::Result<Self> {
        let (found, finds) = unbounded();
        let mut searches = Self { targets: Vec::new(), found, finds, wake: wake.try_clone()? };
        functions.iter().enumerate().for_each(|(index, config)| searches.expect(index, config.clone()));
        Ok(searches)
    }

    /// Function `index` is described by `config` from now on.
    pub(super) fn expect(&mut self, index: usize, config: FunctionConfig) {
        if self.targets.len() <= index {
            self.targets.resize_with(index + 1, || None);
        }
        self.targets[index] = Some(Target { config, over: Arc::default() });
    }

    /// Function `index` was removed: a search for its back end ends.
    pub(super) fn forget(&mut self, index: usize) {
        if let Some(target) = self.targets.get_mut(index) {
            *target = None;
        }
    }

    fn target(&self, index: usize) -> Option<&Target> {
        self.targets.get(index).and_then(Option::as_ref)
    }

    /// Whether the back end of function `index` is to be searched for when it is lost.
    pub(super) fn wanted(&self, index: usize) -> bool {
        self.target(index).is_some_and(|target| target.config.backend().on_loss == OnLoss::Reconnect)
    }

    /// Searches for the back end of function `index`, after `pause`, until there is one. At most one search
    /// per function is under way.
    pub(super) fn begin(&self, index: usize, pause: Duration) -> io::Result<()> {
        let Some(Target { config, over }) = self.target(index) else { return Ok(()) };
        let (config, over) = (config.clone(), Arc::clone(over));
        let (finder, wake) = (self.found.clone(), self.wake.try_clone()?);
        thread::Builder::new().name("bm-reconnect".into()).spawn(move || {
            sleep(pause, &over);
            if let Some(found) = search(&config, &over) {
                // Fails without a control thread, which has no use for it then.
                let _ = finder.send(Find { index, over, found });
                let _ = wake.write(1);
            }
        })?;
        Ok(())
    }

    /// The next find that is still wanted, and its function.
    pub(super) fn next(&self) -> Option<(usize, Found)> {
        let wanted =
            |find: &Find| self.target(find.index).is_some_and(|target| Arc::ptr_eq(&target.over, &find.over));
        self.finds.try_iter().find(wanted).map(|find| (find.index, find.found))
    }
}

/// Tries until there is a back end, or it is not wanted any more.
fn search(function: &FunctionConfig, over: &AtomicBool) -> Option<Found> {
    let mut pause = FIRST_PAUSE;
    let mut said = String::new();
    // A listener listens from one try to the next.
    let mut socket = None;
    while !over.load(Ordering::Acquire) {
        let error = match attempt(function, &mut socket) {
            Ok(found) => return Some(Ok(Box::new(found))),
            // There is one, which does not fit: its connection is closed, and the log says why.
            Err(error) if matches!(error.problem, Problem::Lacks(_)) => return Some(Err(error)),
            // A back end that connects wakes the listener, so that no pause is needed.
            Err(error) if matches!(error.problem, Problem::DidNotConnect(_)) => continue,
            Err(error) => error.to_string(),
        };
        if said != error {
            tracing::debug!(error, "a back end is not back yet");
            said = error;
        }
        sleep(pause, over);
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
    None
}

fn attempt<'a>(
    function: &'a FunctionConfig,
    socket: &mut Option<Socket<'a>>,
) -> Result<(BackEnd, Device), BackEndError> {
    let config = function.backend();
    let socket = match socket {
        Some(socket) => socket,
        None => socket.insert(Socket::new(config)?),
    };
    let mut back_end = BackEnd::meet(socket.try_open(LOOK)?, config)?;
    let device = offered_device(function, &mut back_end)?;
    Ok((back_end, device))
}

/// Sleeps for `pause`, or until the back end is not wanted any more.
fn sleep(pause: Duration, over: &AtomicBool) {
    let end = Instant::now() + pause;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || over.load(Ordering::Acquire) {
            return;
        }
        thread::sleep(left.min(LOOK));
    }
}
