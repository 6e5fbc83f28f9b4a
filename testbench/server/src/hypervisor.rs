//! A scenario's board as bm-hypervisor is configured for it.

use bm_hypervisor::config::{
    BackEndConfig, BlkConfig, BoardConfig, ConsoleConfig, FunctionConfig, LimitsConfig, NetConfig, OnLoss,
    RingConfig, RingSizes,
};
use scenario::{BackEnd, Board, Device, Fault, Function, Scenario};

use super::places::Places;

/// Microseconds that a forwarded access may take. Far above the register's reset value: on a laptop the
/// thread that answers may have to wait for a processor, and a driver that is told all ones gives up.
const MAILBOX_DEADLINE_US: u32 = 5_000_000;

/// A board waits for those back ends that are started again; any other that dies ends what it serves.
pub(super) fn board_config(index: usize, board: &Board, scenario: &Scenario, places: &Places) -> BoardConfig {
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
        .collect();
    let mut config = BoardConfig::new(board.name.clone(), functions);
    config.mailbox_deadline_us = MAILBOX_DEADLINE_US;
    config
}

/// Which back end serves a function.
fn behind(board: usize, number: usize, function: &Function) -> BackEnd {
    match function.device {
        Device::Net(_) => BackEnd::Switch,
        Device::Blk(_) => BackEnd::Disk { board, function: number },
        Device::Console(_) => BackEnd::Console { board, function: number },
    }
}

fn function_config(function: &Function, back_end: BackEndConfig) -> FunctionConfig {
    let RingSizes { guest, shadow, slot_size, slots } = function.rings;
    let ring = RingConfig {
        guest: Some(guest),
        shadow: Some(shadow),
        slot_size: Some(slot_size),
        slots: Some(slots),
    };
    match &function.device {
        Device::Blk(blk) => {
            let mut config = BlkConfig::new(back_end);
            (config.queues, config.read_only, config.ring) = (blk.queues, blk.read_only, ring);
            if let Some(LimitsConfig::Blk(limits)) = function.limits {
                config.limits = Some(limits);
            }
            FunctionConfig::Blk(config)
        }
        Device::Net(net) => {
            let mut config = NetConfig::new(net.mac, back_end);
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
    }
}
