//! The devices that a board is offered: its configuration, checked against its IO-Bond and its back ends.

use iobond_spec::address::FunctionId;

use super::{registers::Identity, served::Served};
use crate::{
    Error,
    config::{BoardConfig, FunctionConfig, PollMode, SpareConfig},
    device::{Device, Lacks, blk, console, features::has, net},
    vhost_user::{BackEnd, BackEndError, Socket},
    virtio_pci::{Function, transport_features},
};

/// The feature that an IO-Bond lacks which cannot limit its functions.
pub(super) const LIMITS: &str = "limits on functions (ident.features.limits)";

/// Checks that IO-Bond has what the board takes.
pub(super) fn check_identity(config: &BoardConfig, identity: &Identity) -> Result<(), Error> {
    let features = &identity.features;
    let needed = [
        (features.split(), "split rings (ident.features.split)"),
        (
            features.status_page() || config.poll == PollMode::Registers,
            "status page (ident.features.status_page)",
        ),
        (features.limits() || config.functions.iter().all(|function| function.limits().is_none()), LIMITS),
    ];
    if let Some((_, what)) = needed.into_iter().find(|(there, _)| !there) {
        return Err(Error::Missing(what));
    }
    let rings = config.functions.iter().map(FunctionConfig::ring_sizes);
    let rings = rings.chain(config.spares.iter().map(SpareConfig::ring_sizes));
    let longest = rings.map(|sizes| usize::from(sizes.shadow)).max().unwrap_or(0);
    let functions = config.functions.len() + config.spares.len();
    let counts = [
        ("functions", functions, usize::from(identity.sizes.functions())),
        ("queue contexts", config.queues(), usize::from(identity.sizes.queues())),
        ("DMA windows", 1, usize::from(identity.sizes.windows())),
        ("descriptors in a ring", longest, 1 << identity.sizes.ring_log2().min(15)),
    ];
    match counts.into_iter().find(|(_, wanted, there)| wanted > there) {
        Some((what, wanted, there)) => Err(Error::TooFew { what, wanted, there }),
        None => Ok(()),
    }
}

/// Connects the back end of every function that is `wanted`, by number. All listeners listen before the first
/// connection is waited for.
pub(super) fn connect(
    config: &BoardConfig,
    identity: &Identity,
    wanted: impl Fn(usize) -> bool,
) -> Result<Vec<Option<Served>>, Error> {
    let functions = config.functions.iter().enumerate();
    let sockets =
        functions.map(|(index, function)| wanted(index).then(|| Socket::new(function.backend())).transpose());
    let sockets: Vec<_> = sockets.collect::<Result<_, BackEndError>>()?;
    let mut first_context = 0;
    let mut functions = Vec::with_capacity(sockets.len());
    for ((config, socket), id) in config.functions.iter().zip(sockets).zip(FunctionId::all()) {
        let served = socket.map(|socket| {
            let mut back_end = BackEnd::open(socket, config.backend())?;
            let device = offered_device(config, &mut back_end)?;
            let function = Function::new(device, transport_features(&identity.features));
            Ok::<_, Error>(Served::new(id, function, back_end, first_context))
        });
        functions.push(served.transpose()?);
        first_context += config.queues() as u8;
    }
    Ok(functions)
}

/// The device that a configuration and its back end make.
///
/// # Errors
/// When the back end fails, or cannot serve such a device.
pub(crate) fn offered_device(
    function: &FunctionConfig,
    back_end: &mut BackEnd,
) -> Result<Device, BackEndError> {
    let device = match function {
        FunctionConfig::Net(config) => net::device(config, back_end.offer()),
        FunctionConfig::Blk(config) => {
            let space = back_end.config_space(blk::CONFIG_SIZE)?;
            let space = space.ok_or(Lacks::Config);
            space.and_then(|space| blk::device(config, back_end.offer(), space))
        }
        FunctionConfig::Console(config) => {
            let size = match has(back_end.offer().features, console::VIRTIO_CONSOLE_F_SIZE) {
                true => back_end.config_space(console::SIZE_FIELDS)?,
                false => None,
            };
            console::device(config, back_end.offer(), size.as_deref())
        }
    };
    device.map_err(|lacks| back_end.error(lacks.into()))
}
