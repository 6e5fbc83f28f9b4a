//! The connection of one front end: its messages, and the threads that wait for its kicks.
//!
//! Crate `vhost` reads and answers the messages, [`handler`] does what they ask for, and a [`worker`] calls
//! the device when a ring was kicked. Crate `vhost-user-backend` has all that too, but answers the messages
//! for in-flight tracking with an error and has no place to take them first, so that only its vring is used
//! (docs/decisions/0012).

mod handler;
mod worker;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{BackendReqHandler, Error as ProtocolError};

use self::handler::Handler;
use self::worker::Worker;
use crate::inflight;
use crate::ring::{Memory, Vring};

/// Bit 30 of the feature word says that the vhost-user protocol features can be negotiated; it is not a
/// virtio feature.
pub(crate) const VHOST_USER_F_PROTOCOL_FEATURES: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// A device as one front end sees it: asked by the thread that handles messages, and called by the threads
/// that wait for kicks.
pub(crate) trait Backend: Send + Sync + 'static {
    /// How many rings it has.
    fn queues(&self) -> usize;

    /// Descriptors of the longest ring that it works.
    fn max_queue_size(&self) -> u16;

    /// Virtio features that it offers, and VHOST_USER_F_PROTOCOL_FEATURES.
    fn features(&self) -> u64;

    /// Takes what the front end accepted of them.
    fn accept(&self, features: u64);

    /// Features of the protocol that it offers.
    fn protocol_features(&self) -> VhostUserProtocolFeatures;

    /// `len` bytes of the configuration space from `offset` on. Nothing is an error, and ends the connection.
    fn config(&self, offset: u32, len: u32) -> Vec<u8>;

    /// Takes what was written to the configuration space. That is up to the guest, so that it cannot fail.
    fn set_config(&self, offset: u32, bytes: &[u8]);

    /// The threads that are to work rings: of each the rings, one bit for each index.
    fn queues_per_thread(&self) -> Vec<u64>;

    /// Works ring `queue` of `vrings`, which are all that there are. It was kicked, or runs since the last
    /// call; called by one of the threads of the rings.
    fn work(&self, queue: usize, vrings: &[Vring]);

    /// Ring `queue` is marked stopped by now. No thread touches it any more when this returns.
    fn stop(&self, queue: usize);

    /// The front end keeps `region` for what is in flight. Only a device that offers INFLIGHT_SHMFD is told,
    /// and before its rings start.
    fn track(&self, region: &Arc<inflight::Region>) {
        let _ = region;
    }
}

/// A connection with a front end. When it is dropped, no thread of it touches a ring any more.
///
/// The front end sees the end of the connection after that, and not before: then it may take stock of the
/// rings.
pub(crate) struct Session<B: Backend> {
    // Dropped in this order.
    _workers: Vec<Worker>,
    handler: Arc<Mutex<Handler<B>>>,
    stream: UnixStream,
}

impl<B: Backend> Session<B> {
    /// Starts the threads that work the rings. `memory` will hold the front end's memory table.
    pub(crate) fn start(stream: UnixStream, backend: &Arc<B>, memory: Memory) -> io::Result<Self> {
        let vrings = handler::vrings(&**backend, &memory)?;
        let workers = worker::start(backend, &vrings)?;
        let kicks = workers.iter().map(Worker::kicks).collect();
        let handler = Arc::new(Mutex::new(Handler::new(Arc::clone(backend), memory, vrings, kicks)));
        Ok(Self { _workers: workers, handler, stream })
    }

    /// The stream, whose shutdown for reading ends [`Self::serve`].
    pub(crate) fn connection(&self) -> io::Result<UnixStream> {
        self.stream.try_clone()
    }

    /// Answers messages until the front end has gone.
    pub(crate) fn serve(&self) -> Result<(), ProtocolError> {
        let stream = self.stream.try_clone().map_err(ProtocolError::ReqHandlerError)?;
        let mut messages = BackendReqHandler::from_stream(stream, Arc::clone(&self.handler));
        let ended = loop {
            if let Err(error) = messages.handle_request() {
                break error;
            }
        };
        match ended {
            ProtocolError::Disconnected | ProtocolError::PartialMessage | ProtocolError::SocketBroken(_) => {
                Ok(())
            }
            error => Err(error),
        }
    }
}
