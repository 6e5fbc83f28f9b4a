//! A scenario's board as bm-hypervisor is configured for it.

use bm_hypervisor::config::{
    BackEndConfig, BlkConfig, BoardConfig, ConsoleConfig, FunctionConfig, LimitsConfig, MacAddress,
    NetConfig, OnLoss, RingConfig,
};

use super::{LiveError, places::Places};
use crate::scenario::{BackEnd, Board, Device, Fault, Function, Net, Scenario};

/// Microseconds that a forwarded access may take. Far above the register's reset value: on a laptop whoever answers may have
/// to wait for a processor, and a driver that is told all ones gives up.
const MAILBOX_DEADLINE_US: u32 = 5_000_000;

/// A board waits for those back ends that somebody starts again; whoever else dies ends what it serves.
pub(super) fn board_config(
    index: usize,
    board: &Board,
    scenario: &Scenario,
    places: &Places,
) -> Result<BoardConfig, LiveError> {
    let restarts = |which, fault: &Fault| fault.kill == which && fault.restart_after.is_some();
    let returns = |which| scenario.restart || scenario.faults.iter().any(|fault| restarts(which, fault));
    let functions = board.functions.iter().enumerate();
    let functions = functions
        .map(|(number, function)| {
            let mut back_end = BackEndConfig::new(places.socket(index, number));
            if !returns(behind(index, number, function)) {
                back_end.on_loss = OnLoss::Reset;
            }
            function_config(function, back_end)
        })
        .collect::<Result<_, _>>()?;
    let mut config = BoardConfig::new(board.name.clone(), functions);
    config.mailbox_deadline_us = MAILBOX_DEADLINE_US;
    Ok(config)
}

/// Which back end serves a function.
fn behind(board: usize, number: usize, function: &Function) -> BackEnd {
    match function.device {
        Device::Net(_) => BackEnd::Switch,
        Device::Blk(_) => BackEnd::Disk { board, function: number },
        Device::Console(_) => BackEnd::Console { board, function: number },
    }
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
            if let Some(LimitsConfig::Blk(limits)) = function.limits {
                config.limits = Some(limits);
            }
            FunctionConfig::Blk(config)
        }
        Device::Net(net) => {
            let mut config = NetConfig::new(mac_address(net)?, back_end);
            (config.queue_pairs, config.ring) = (net.queue_pairs, ring);
            if let Some(LimitsConfig::Net(limits)) = function.limits {
                config.limits = Some(limits);
            }
            FunctionConfig::Net(config)
        }
        Device::Console(_) => {
            let mut config = ConsoleConfig::new(back_end);
            config.ring = ring;
            FunctionConfig::Console(config)
        }
    })
}
