//! `bmhive bench net`: frames between two boards through IO-Bonds and the switch, and by the same drivers
//! directly on the same kind of switch.

use std::{path::Path, rc::Rc};

use bmhive_server::{BoardHandle, Live, LiveBus};
use results::{Figure, measure::per_second};
use software_board::{
    bus::Bus,
    direct::DeviceConfig,
    memory::DmaMemory,
    net::Net,
    pci,
    transport::{BoardTransport, PciTransport},
};
use virtio_bindings::virtio_net::VIRTIO_NET_F_MAC;
use virtio_drivers::transport::DeviceType;

use super::{Bare, OwnBackEnd, Paired, RINGS, ROUND, scenario};
use crate::workload::{Watch, WorkloadError, link};

const SCENARIO: &str = r#"
[server]
name = "bench net"
execution = "inline"
[[board]]
name = "board0"
memory_mib = 64
[[board.function]]
kind = "net"
mac = "52:54:00:be:0c:00"
[[board]]
name = "board1"
memory_mib = 64
[[board.function]]
kind = "net"
mac = "52:54:00:be:0c:01"
"#;

/// Addresses of the baseline's cards.
const MACS: [[u8; 6]; 2] = [[0x52, 0x54, 0, 0xBE, 0x0C, 2], [0x52, 0x54, 0, 0xBE, 0x0C, 3]];
/// Bytes of a ping-pong's frames.
const PING: usize = 64;
/// Bytes of a stream's frames: a full payload behind an Ethernet header.
const STREAM: usize = 1514;

/// Runs the bench.
///
/// # Errors
/// [`WorkloadError`].
pub fn run(program: &Path) -> Result<Vec<Figure>, WorkloadError> {
    let scenario = scenario(SCENARIO)?;
    let live = Live::start(&scenario, program, Path::new(""), None)?;
    let [first, second] = live.boards() else { return Err(WorkloadError::Needs("two boards")) };
    let mut through = (card(first)?, card(second)?);

    let back_end = OwnBackEnd::start(program, 2, |directory| {
        let port = |name| directory.join(name).into();
        Ok(vec!["net".into(), "--port".into(), port("a.sock"), "--port".into(), port("b.sock")])
    })?;
    let (bare_a, bare_b) = (Bare::new()?, Bare::new()?);
    let bare_card = |bare: &Bare, name: &str, mac: [u8; 6]| {
        let (socket, config) = (back_end.path(name), DeviceConfig::Given(mac.to_vec()));
        let transport = bare.connect(&socket, DeviceType::Network, 2, 1 << VIRTIO_NET_F_MAC, config)?;
        Ok::<_, WorkloadError>(Net::<_>::new(transport, &bare.memory, RINGS)?)
    };
    let mut direct = (bare_card(&bare_a, "a.sock", MACS[0])?, bare_card(&bare_b, "b.sock", MACS[1])?);

    let healthy = || live.failure().map_or(Ok(()), |failure| Err(failure.into()));
    let baseline = "same drivers on the switch, no IO-Bond";
    let ping_pong =
        Paired::measure(|| ping_pong(&mut through, &healthy), || ping_pong(&mut direct, &|| Ok(())))?;
    let stream = Paired::measure(|| stream(&mut through, &healthy), || stream(&mut direct, &|| Ok(())))?;
    Ok(vec![
        ping_pong.figure("net.pingpong.64", "round trips/s", baseline),
        stream.figure("net.stream.1500", "bytes/s", baseline),
    ])
}

fn card(board: &BoardHandle) -> Result<Net<PciTransport<Rc<LiveBus>>>, WorkloadError> {
    let memory = DmaMemory::new(board.bus.memory())?;
    let function = pci::enumerate(&*board.bus)?.pop().ok_or(WorkloadError::Needs("a network card"))?;
    Ok(Net::new(PciTransport::new(Rc::clone(&board.bus), function)?, &memory, RINGS)?)
}

fn ping_pong<T: BoardTransport>(
    (a, b): &mut (Net<T>, Net<T>),
    healthy: &dyn Fn() -> Result<(), WorkloadError>,
) -> Result<f64, WorkloadError> {
    let mut watch = Watch::new("the ping-pong", healthy);
    let measured = link::ping_pong(a, b, PING, ROUND, &mut watch, |_, _| {})?;
    Ok(per_second(measured.latency.count(), measured.elapsed))
}

fn stream<T: BoardTransport>(
    (a, b): &mut (Net<T>, Net<T>),
    healthy: &dyn Fn() -> Result<(), WorkloadError>,
) -> Result<f64, WorkloadError> {
    let mut watch = Watch::new("the stream", healthy);
    let streamed = link::stream(a, b, STREAM, ROUND, &mut watch)?;
    Ok(per_second(streamed.frames * STREAM as u64, streamed.elapsed))
}
