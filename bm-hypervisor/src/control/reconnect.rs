//! Looks for back ends that were lost: a thread for each, so that nothing else waits for them, which ends when it has found one.

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

/// How long the first pause between two tries is, and the longest: they double, and go on for ever.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(10);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Between two looks whether anybody still wants the back end.
const LOOK: Duration = Duration::from_millis(50);

/// A back end that was found, with the device that it makes; or one that can make none.
pub(super) type Found = Result<Box<(BackEnd, Device)>, BackEndError>;

/// All searches of one board. Dropping it ends them.
pub(super) struct Searches {
    /// By number of the function.
    targets: Vec<Option<Target>>,
    found: Sender<Find>,
    finds: Receiver<Find>,
    /// Wakes the control thread.
    wake: EventFd,
}

/// A function whose back end may have to be looked for.
struct Target {
    config: FunctionConfig,
    /// Nobody wants its back end any more. Tells this function from others that had its number, too.
    over: Arc<AtomicBool>,
}

impl Drop for Target {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}

/// What a search came to.
struct Find {
    index: usize,
    over: Arc<AtomicBool>,
    found: Found,
}

impl Searches {
    /// None yet, for a board of these functions.
    pub(super) fn new(functions: &[FunctionConfig], wake: &EventFd) -> io::Result<Self> {
        let (found, finds) = unbounded();
        let mut searches = Self { targets: Vec::new(), found, finds, wake: wake.try_clone()? };
        functions.iter().enumerate().for_each(|(index, config)| searches.expect(index, config.clone()));
        Ok(searches)
    }

    /// Function `index` is there, and is this from now on.
    pub(super) fn expect(&mut self, index: usize, config: FunctionConfig) {
        if self.targets.len() <= index {
            self.targets.resize_with(index + 1, || None);
        }
        self.targets[index] = Some(Target { config, over: Arc::default() });
    }

    /// Function `index` is gone: its back end is not looked for any more.
    pub(super) fn forget(&mut self, index: usize) {
        if let Some(target) = self.targets.get_mut(index) {
            *target = None;
        }
    }

    fn target(&self, index: usize) -> Option<&Target> {
        self.targets.get(index).and_then(Option::as_ref)
    }

    /// Whether the back end of function `index` is to be looked for when it is lost.
    pub(super) fn wanted(&self, index: usize) -> bool {
        self.target(index).is_some_and(|target| target.config.backend().on_loss == OnLoss::Reconnect)
    }

    /// Looks for the back end of function `index`, after `pause`, until there is one. At most one search a function is under way.
    pub(super) fn begin(&self, index: usize, pause: Duration) -> io::Result<()> {
        let Some(Target { config, over }) = self.target(index) else { return Ok(()) };
        let (config, over) = (config.clone(), Arc::clone(over));
        let (finder, wake) = (self.found.clone(), self.wake.try_clone()?);
        thread::Builder::new().name("bm-reconnect".into()).spawn(move || {
            sleep(pause, &over);
            if let Some(found) = search(&config, &over) {
                // Without a control thread nobody wants it.
                let _ = finder.send(Find { index, over, found });
                let _ = wake.write(1);
            }
        })?;
        Ok(())
    }

    /// The next one that was found, and its function.
    pub(super) fn next(&self) -> Option<(usize, Found)> {
        let wanted =
            |find: &Find| self.target(find.index).is_some_and(|target| Arc::ptr_eq(&target.over, &find.over));
        self.finds.try_iter().find(wanted).map(|find| (find.index, find.found))
    }
}

/// Tries until there is a back end, or nobody wants it any more.
fn search(function: &FunctionConfig, over: &AtomicBool) -> Option<Found> {
    let mut pause = FIRST_PAUSE;
    let mut said = String::new();
    // A listener listens from one try to the next.
    let mut socket = None;
    while !over.load(Ordering::Acquire) {
        let error = match attempt(function, &mut socket) {
            Ok(found) => return Some(Ok(Box::new(found))),
            // Somebody is there, and is told why that will not do.
            Err(error) if matches!(error.problem, Problem::Lacks(_)) => return Some(Err(error)),
            // Whoever comes wakes the listener.
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

/// Sleeps for `pause`, or until nobody wants the back end any more.
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
