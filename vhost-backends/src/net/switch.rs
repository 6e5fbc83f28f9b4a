//! Where a frame goes: a transparent bridge that learns (IEEE 802.1Q, 8.6 to 8.8) and knows no VLANs. Pure.
//!
//! VLAN tags pass unchanged and are not looked at. There is no spanning tree: ports are boards, and boards do
//! not form loops.

use std::time::Duration;

use super::mac_table::{Mac, MacTable};

/// Most ports of a switch.
pub(crate) const MAX_PORTS: usize = 16;

/// A set of ports, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ports(u16);

const _: () = assert!(MAX_PORTS <= u16::BITS as usize);

impl Ports {
    /// The set of one port, of a number below [`MAX_PORTS`].
    pub(crate) fn only(port: usize) -> Self {
        Self(1 << port)
    }

    pub(crate) fn contains(self, port: usize) -> bool {
        self.0 & Self::only(port).0 != 0
    }

    pub(crate) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The ports in ascending order.
    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAX_PORTS).filter(move |&port| self.contains(port))
    }
}

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes to these ports, never to the one it came from.
    Forward(Ports),
    /// It stays where it came from: its destination is at the same port, or is of the kind that no bridge
    /// forwards.
    Filter,
    /// It is no frame: too short, or its source is a group address.
    Invalid,
}

/// The switch: what was learned, and which ports there are.
#[derive(Debug)]
pub(crate) struct Switch {
    table: MacTable,
    attached: Ports,
}

impl Switch {
    /// A switch of `ports` ports, none of them attached.
    pub(crate) fn new(ports: usize) -> Self {
        Self { table: MacTable::new(ports), attached: Ports::default() }
    }

    /// A board is at the port now.
    pub(crate) fn attach(&mut self, port: usize) {
        self.attached = self.attached.with(Ports::only(port));
    }

    /// The board of the port is gone, with all its addresses.
    pub(crate) fn detach(&mut self, port: usize) {
        self.attached = self.attached.without(Ports::only(port));
        self.table.forget(port);
    }

    /// Learns from a frame that came in at `ingress` and says where it goes.
    pub(crate) fn forward(&mut self, ingress: usize, frame: &[u8], now: Duration) -> Verdict {
        let Some((destination, rest)) = frame.split_first_chunk::<6>() else { return Verdict::Invalid };
        let Some((source, [_, _, ..])) = rest.split_first_chunk::<6>() else { return Verdict::Invalid };
        if is_group(source) {
            return Verdict::Invalid;
        }
        self.table.learn(*source, ingress, now);
        // 802.1Q, 8.6.3: reserved addresses (pause, spanning tree, LLDP) never pass a bridge.
        if matches!(destination, [0x01, 0x80, 0xc2, 0x00, 0x00, 0x00..=0x0f]) {
            return Verdict::Filter;
        }
        let known = if is_group(destination) { None } else { self.table.port(destination, now) };
        match known {
            Some(port) if port == ingress => Verdict::Filter,
            Some(port) => Verdict::Forward(Ports::only(port)),
            None => Verdict::Forward(self.attached.without(Ports::only(ingress))),
        }
    }
}

/// The individual/group bit is the first on the wire.
fn is_group(mac: &Mac) -> bool {
    mac[0] & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Duration = Duration::ZERO;
    const BROADCAST: Mac = [0xff; 6];

    fn station(number: u8) -> Mac {
        [2, 0, 0, 0, 0, number]
    }

    fn frame(destination: Mac, source: Mac) -> Vec<u8> {
        [&destination[..], &source[..], &[0x08, 0x00]].concat()
    }

    fn switch(ports: usize) -> Switch {
        let mut switch = Switch::new(ports);
        (0..ports).for_each(|port| switch.attach(port));
        switch
    }

    fn ports(ports: &[usize]) -> Verdict {
        Verdict::Forward(ports.iter().fold(Ports::default(), |set, &port| set.with(Ports::only(port))))
    }

    #[test]
    fn an_unknown_address_is_flooded_until_it_speaks() {
        let mut switch = switch(3);
        assert_eq!(switch.forward(0, &frame(station(2), station(1)), NOW), ports(&[1, 2]));
        assert_eq!(switch.forward(2, &frame(station(1), station(2)), NOW), ports(&[0]));
        assert_eq!(switch.forward(0, &frame(station(2), station(1)), NOW), ports(&[2]));
        assert_eq!(switch.forward(0, &frame(BROADCAST, station(1)), NOW), ports(&[1, 2]));
        // A second station behind port 0 talks to the first: that is none of the others' business.
        assert_eq!(switch.forward(0, &frame(station(1), station(9)), NOW), Verdict::Filter);
    }

    #[test]
    fn a_board_that_left_is_forgotten() {
        let mut switch = switch(3);
        switch.forward(2, &frame(BROADCAST, station(2)), NOW);
        switch.detach(2);
        assert_eq!(switch.forward(0, &frame(station(2), station(1)), NOW), ports(&[1]));
    }

    #[test]
    fn what_no_bridge_forwards() {
        let mut switch = switch(2);
        let lldp = [0x01, 0x80, 0xc2, 0, 0, 0x0e];
        assert_eq!(switch.forward(0, &frame(lldp, station(1)), NOW), Verdict::Filter);
        assert_eq!(switch.forward(0, &frame(station(1), BROADCAST), NOW), Verdict::Invalid);
        assert_eq!(switch.forward(0, &frame(BROADCAST, station(1))[..13], NOW), Verdict::Invalid);
    }

    proptest! {
        /// Never back to where it came from, only to ports that are attached; and a destination that has
        /// spoken and has not moved or left since is sent to at exactly one port.
        #[test]
        fn frames_go_where_they_belong(
            steps in prop::collection::vec((0usize..5, 0u8..12, 0u8..14, 0u32..20), 1..300),
        ) {
            let mut switch = switch(5);
            let mut attached = [true; 5];
            let mut home = [None; 12];
            for (ingress, source, destination, action) in steps {
                if action == 0 {
                    switch.detach(ingress);
                    attached[ingress] = false;
                    home.iter_mut().filter(|home| **home == Some(ingress)).for_each(|home| *home = None);
                }
                if action == 1 {
                    switch.attach(ingress);
                    attached[ingress] = true;
                }
                if !attached[ingress] {
                    continue;
                }
                home[usize::from(source)] = Some(ingress);
                let to = if destination >= 12 { BROADCAST } else { station(destination) };
                let known = home.get(usize::from(destination)).copied().flatten();
                match switch.forward(ingress, &frame(to, station(source)), NOW) {
                    Verdict::Forward(ports) => {
                        prop_assert!(!ports.contains(ingress));
                        prop_assert!(ports.iter().all(|port| attached[port]));
                        match known {
                            Some(port) => prop_assert_eq!(ports, Ports::only(port)),
                            None => prop_assert_eq!(
                                ports.iter().count(),
                                attached.iter().filter(|attached| **attached).count() - 1
                            ),
                        }
                    }
                    Verdict::Filter => prop_assert_eq!(known, Some(ingress)),
                    Verdict::Invalid => prop_assert!(false, "the frame is fine"),
                }
            }
        }
    }
}
