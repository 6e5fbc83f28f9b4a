//! A scenario's board as bm-hypervisor is configured for it.

use bm_hypervisor::config::{
    BackEndConfig, BlkConfig, BoardConfig, ConsoleConfig, FunctionConfig, MacAddress, NetConfig, RingConfig,
};

use super::{LiveError, places::Places};
use crate::scenario::{Board, Device, Function, Net};

/// Microseconds that a forwarded access may take. Far above the register's reset value: on a laptop whoever answers may have
/// to wait for a processor, and a driver that is told all ones gives up.
const MAILBOX_DEADLINE_US: u32 = 5_000_000;

pub(super) fn board_config(index: usize, board: &Board, places: &Places) -> Result<BoardConfig, LiveError> {
    let functions = board.functions.iter().enumerate();
    let functions = functions
        .map(|(number, function)| function_config(function, BackEndConfig::new(places.socket(index, number))))
        .collect::<Result<_, _>>()?;
    let mut config = BoardConfig::new(board.name.clone(), functions);
    config.mailbox_deadline_us = MAILBOX_DEADLINE_US;
    Ok(config)
}

fn mac_address(net: &Net) -> Result<MacAddress, LiveError> {
    MacAddress::new(net.mac.octets()).map_err(|error| LiveError::Address(error.to_string()))
}

fn function_config(function: &Function, back_end: BackEndConfig) -> Result<FunctionConfig, LiveError> {
    let ring = RingConfig {
        guest: Some(function.queue_size),
        shadow: None,
        slot_size: Some(function.slot_size),
        slots: Some(function.slots),
    };
    Ok(match &function.device {
        Device::Blk(blk) => {
            let mut config = BlkConfig::new(back_end);
            (config.queues, config.read_only, config.ring) = (blk.queues, blk.read_only, ring);
            FunctionConfig::Blk(config)
        }
        Device::Net(net) => {
            let mut config = NetConfig::new(mac_address(net)?, back_end);
            (config.queue_pairs, config.ring) = (net.queue_pairs, ring);
            FunctionConfig::Net(config)
        }
        Device::Console(_) => {
            let mut config = ConsoleConfig::new(back_end);
            config.ring = ring;
            FunctionConfig::Console(config)
        }
    })
}
