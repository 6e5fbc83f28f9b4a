//! What a function may be, kind by kind.

use std::path::Path;

use bm_hypervisor::config::{
    BlkConfig, BlkLimits, ConfigError, ConsoleConfig, LimitsConfig, NetConfig, NetLimits, RingConfig,
    RingSizes,
};

use super::existing;
use crate::{
    Backing, Blk, Console, Device, Function, Net,
    document::{self, Kind},
    locate::KeyPath,
    problem::{Checked, Problem, power_of_two, within},
};

/// Longest serial, VIRTIO_BLK_ID_BYTES (virtio 1.3, 5.2.6).
const SERIAL_LENGTH: usize = 20;
/// Most queues of a disk and queue pairs of a network card: what the back ends of this workspace serve.
const MAX_QUEUES: u16 = 16;
const MAX_QUEUE_PAIRS: u16 = 8;
/// Least ring offered: the network driver of the software board has 256 entries.
const LEAST_RING: u32 = 256;
/// Largest ring offered: what the back ends of a scenario take.
const MOST_RING: u32 = 1024;
/// Least slots of any queue: with fewer, requests would wait for each other all the time.
const LEAST_SLOTS: u16 = 16;

/// Checks one `[[board.function]]`: the ranges of a scenario are what bm-hypervisor and the back ends of this
/// workspace take.
pub(super) fn check(function: document::Function, directory: &Path, path: &KeyPath) -> Checked<Function> {
    let rings = check_rings(&function, path)?;
    only_own_keys(&function, path)?;
    let limits = check_limits(&function, path)?;
    let device = match function.kind {
        Kind::Blk => Device::Blk(check_blk(function, directory, path)?),
        Kind::Net => Device::Net(check_net(&function, path)?),
        Kind::Console => Device::Console(Console),
    };
    Ok(Function { device, rings, limits })
}

/// Rings of a net function where the scenario says nothing: the ring that QEMU and most virtio devices offer,
/// full of buffers of four pages, with a slot for each page.
const NET: RingSizes = RingSizes { slot_size: 4096, ..RingSizes::NET };

/// Sizes where the scenario gives none are bm-hypervisor's own, except those of [`NET`].
fn check_rings(function: &document::Function, path: &KeyPath) -> Checked<RingSizes> {
    let (default, least_slots): (_, fn(u32) -> u32) = match function.kind {
        Kind::Blk => (RingSizes::BLK, BlkConfig::least_slots),
        Kind::Net => (NET, NetConfig::least_slots),
        Kind::Console => (RingSizes::CONSOLE, ConsoleConfig::least_slots),
    };
    let &document::Function { queue_size: guest, slot_size, slots, .. } = function;
    let rings = RingConfig { guest, shadow: None, slot_size, slots }.resolve(default);
    let least = LEAST_RING.min(default.guest.into());
    power_of_two(&path.key("queue_size"), rings.guest.into(), least, MOST_RING)?;
    power_of_two(&path.key("slot_size"), rings.slot_size, 64, 65536)?;
    let least = u16::try_from(least_slots(rings.slot_size)).unwrap_or(u16::MAX).max(LEAST_SLOTS);
    within(&path.key("slots"), rings.slots, least, u16::MAX, "slots of that size")?;
    Ok(rings)
}

/// The keys that are there are those of the function's kind.
fn only_own_keys(function: &document::Function, path: &KeyPath) -> Checked<()> {
    let keys = [
        (Kind::Blk, "image", function.image.is_some()),
        (Kind::Blk, "size_mib", function.size_mib.is_some()),
        (Kind::Blk, "serial", function.serial.is_some()),
        (Kind::Blk, "read_only", function.read_only.is_some()),
        (Kind::Blk, "queues", function.queues.is_some()),
        (Kind::Net, "mac", function.mac.is_some()),
        (Kind::Net, "queue_pairs", function.queue_pairs.is_some()),
    ];
    own(&keys, function.kind, path)
}

/// None of `keys` that are there belong to another kind.
fn own(keys: &[(Kind, &str, bool)], kind: Kind, path: &KeyPath) -> Checked<()> {
    let foreign = keys.iter().find(|(owner, _, present)| *present && *owner != kind);
    foreign.map_or(Ok(()), |(owner, key, _)| {
        let found = format!("`{key}` is a key of {} functions", owner.name());
        let expected = format!("expected only keys of a {} function", kind.name());
        Err(Problem::new(path.key(key), found, expected))
    })
}

/// What the hypervisor is told of a function's limits.
fn check_limits(function: &document::Function, path: &KeyPath) -> Checked<Option<LimitsConfig>> {
    let (path, Some(limits)) = (path.key("limits"), function.limits) else { return Ok(None) };
    let document::Limits { packets_per_second, bits_per_second, iops, bytes_per_second, burst_ms } = limits;
    let keys = [
        (Kind::Net, "packets_per_second", packets_per_second.is_some()),
        (Kind::Net, "bits_per_second", bits_per_second.is_some()),
        (Kind::Blk, "iops", iops.is_some()),
        (Kind::Blk, "bytes_per_second", bytes_per_second.is_some()),
    ];
    own(&keys, function.kind, &path)?;
    let limits = match function.kind {
        Kind::Net => LimitsConfig::Net(NetLimits { packets_per_second, bits_per_second, burst_ms }),
        Kind::Blk => LimitsConfig::Blk(BlkLimits { iops, bytes_per_second, burst_ms }),
        Kind::Console => {
            let expected = "expected no `limits` in this table";
            return Err(Problem::new(path, "a console has no limits", expected));
        }
    };
    limits.check("limits").map_err(|error| match error {
        ConfigError::Value { key, value, expected } => {
            let key = key.rsplit('.').next().unwrap_or_default();
            Problem::new(path.key(key), format!("found {value}"), format!("expected {expected}"))
        }
        ConfigError::Toml(error) => Problem::new(path.clone(), error.to_string(), "expected limits"),
    })?;
    Ok(Some(limits))
}

fn check_blk(function: document::Function, directory: &Path, path: &KeyPath) -> Checked<Blk> {
    let queues = function.queues.unwrap_or(1);
    within(&path.key("queues"), queues, 1, MAX_QUEUES, "queues")?;
    let serial = function.serial.unwrap_or_default();
    if serial.len() > SERIAL_LENGTH || !serial.is_ascii() {
        let expected = format!("expected at most {SERIAL_LENGTH} ASCII characters");
        return Err(Problem::new(path.key("serial"), format!("found {serial:?}"), expected));
    }
    let backing = match (function.image, function.size_mib) {
        (Some(image), None) => Backing::Image(existing(directory, &image, &path.key("image"))?),
        (None, Some(mib)) => {
            within(&path.key("size_mib"), mib, 1, 1 << 20, "MiB")?;
            Backing::Scratch(u64::from(mib) << 20)
        }
        (Some(_), Some(_)) => return Err(Problem::both(path, "image", "size_mib")),
        (None, None) => return Err(Problem::neither(path, "image", "size_mib")),
    };
    Ok(Blk { backing, serial, read_only: function.read_only.unwrap_or(false), queues })
}

fn check_net(function: &document::Function, path: &KeyPath) -> Checked<Net> {
    let queue_pairs = function.queue_pairs.unwrap_or(1);
    within(&path.key("queue_pairs"), queue_pairs, 1, MAX_QUEUE_PAIRS, "queue pairs")?;
    let Some(mac) = function.mac else {
        let expected = "expected `mac` in this table, as a net function has one";
        return Err(Problem::new(path.clone(), "key `mac` is missing", expected));
    };
    Ok(Net { mac, queue_pairs })
}
