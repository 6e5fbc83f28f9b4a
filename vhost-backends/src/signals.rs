//! SIGTERM and SIGINT, which end a server.

use std::thread::{self, JoinHandle};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{self, Handle};
use unix_service::StopFlag;

use crate::Error;

/// A thread that turns signals into a stop flag. From its start until it is dropped they do nothing else.
#[derive(Debug)]
pub(crate) struct Signals {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    /// SIGTERM and SIGINT set `stop` from now on.
    pub(crate) fn set(stop: StopFlag) -> Result<Self, Error> {
        let cannot = |source| Error::Resources { action: "handle SIGTERM", source };
        let mut signals = iterator::Signals::new([SIGTERM, SIGINT]).map_err(cannot)?;
        let handle = signals.handle();
        let thread = thread::Builder::new().name("signals".into());
        let thread = thread.spawn(move || signals.forever().for_each(|_| stop.set())).map_err(cannot)?;
        Ok(Self { handle, thread: Some(thread) })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // A panic of it was reported when it happened.
            let _ = thread.join();
        }
    }
}
