//! Asks back ends what they offer, without a board.

use iobond_spec::{address::FunctionId, registers::components::ident_t};

use crate::{
    config::{BoardConfig, FunctionConfig},
    control::offer::offered_device,
    device::{
        Device, Kind, Offer, blk, console,
        features::{has, names},
    },
    vhost_user::{BackEnd, BackEndError, Socket},
    virtio_pci::transport_features,
};

/// What a back end offers, and what a board would be offered with it.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the fields are what their types say")]
pub struct Probed {
    pub id: FunctionId,
    pub device: Device,
    pub offer: Offer,
}

/// Connects to every back end of `config` in turn and works out its device.
///
/// # Errors
/// The first back end that cannot be used.
pub fn probe(config: &BoardConfig) -> Result<Vec<Probed>, BackEndError> {
    config.functions.iter().zip(FunctionId::all()).map(|(function, id)| probe_one(function, id)).collect()
}

fn probe_one(function: &FunctionConfig, id: FunctionId) -> Result<Probed, BackEndError> {
    let mut back_end = BackEnd::open(Socket::new(function.backend())?, function.backend())?;
    let device = offered_device(function, &mut back_end)?;
    Ok(Probed { id, device, offer: *back_end.offer() })
}

impl Probed {
    /// Lines for a person to read.
    pub fn describe(&self) -> Vec<String> {
        let Self { id, device, offer } = self;
        let kind = device.kind;
        // What an IO-Bond of this program's register map can do, by the reset value of `ident.features`.
        let transport = transport_features(&ident_t::features::Features::default());
        let mut lines = vec![
            format!(
                "{id}: {}, PCI ID 1af4:{:04x}",
                kind.name(),
                crate::virtio_pci::config_image::DEVICE_ID_BASE + kind.id()
            ),
            format!("  back end features:  {}", names(kind, offer.features)),
            format!("  protocol features:  {}", protocol_names(offer)),
            format!("  back end queues:    {}", offer.queues),
        ];
        if let Some(slots) = offer.memory_slots {
            lines.push(format!("  memory slots:       {slots}"));
        }
        if kind == Kind::Blk {
            let sectors = blk::capacity(&device.config);
            lines.push(format!(
                "  capacity:           {sectors} sectors of 512 bytes ({} MiB)",
                sectors / 2048
            ));
        }
        if kind == Kind::Console && has(device.features, console::VIRTIO_CONSOLE_F_SIZE) {
            let [columns, rows] = console::size(&device.config);
            lines.push(format!("  size:               {columns} columns, {rows} rows"));
        }
        lines.push(format!("  a board is offered: {}", names(kind, device.features | transport)));
        lines.push(format!(
            "  queues:             {} of at most {} descriptors",
            device.queues(),
            device.sizes.guest
        ));
        lines
    }
}

fn protocol_names(offer: &Offer) -> String {
    let names: Vec<_> = offer.protocol.iter_names().map(|(name, _)| name).collect();
    if names.is_empty() { "none".into() } else { names.join(" ") }
}
