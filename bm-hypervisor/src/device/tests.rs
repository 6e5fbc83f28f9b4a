//! What is offered, and the control queue over a shadow vring of any content.

use iobond_spec::ring::split::{AVAIL_NO_INTERRUPT, DESC_NEXT, DESC_WRITE, Descriptor, FLAGS, IDX, RING};
use proptest::prelude::*;
use vhost::vhost_user::VhostUserProtocolFeatures;
use virtio_bindings::{virtio_blk::*, virtio_config::*, virtio_net::*};
use zerocopy::IntoBytes;

use super::{control_queue::ControlQueue, features::*, *};
use crate::{
    config::{BackEndConfig, BlkConfig, ConsoleConfig, NetConfig, RingConfig},
    pool::{IOVA, Place, Pool},
};

fn offer(features: &[u32], queues: u64) -> Offer {
    let features = mask(features) | mask(&[VIRTIO_F_VERSION_1]);
    Offer { features, protocol: VhostUserProtocolFeatures::all(), queues, memory_slots: None }
}

fn net_config(queue_pairs: u16) -> NetConfig {
    let mac = "52:54:00:00:00:01".parse().unwrap();
    NetConfig { queue_pairs, mtu: Some(9000), ..NetConfig::new(mac, BackEndConfig::new("/run/net.sock")) }
}

#[test]
fn a_network_device_offers_what_both_sides_have() {
    let offer = offer(
        &[VIRTIO_NET_F_MRG_RXBUF, VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_GUEST_TSO4],
        4,
    );
    let device = net::device(&net_config(2), &offer).unwrap();
    // GUEST_TSO4 goes, since the back end has no GUEST_CSUM.
    assert_eq!(names(Kind::Net, device.features), "CSUM MTU MAC HOST_TSO4 MRG_RXBUF STATUS CTRL_VQ MQ");
    assert_eq!(device.config, [0x52, 0x54, 0, 0, 0, 1, 1, 0, 2, 0, 0x28, 0x23]);
    assert_eq!((device.queues(), device.sizes(3), device.sizes(4)), (5, RingSizes::NET, RingSizes::CONTROL));
    let single = net::device(&net_config(1), &offer).unwrap();
    assert_eq!((single.queues(), single.features & mask(&[VIRTIO_NET_F_MQ, VIRTIO_NET_F_CTRL_VQ])), (2, 0));
}

#[test]
fn the_control_queue_stands_where_5_1_2_puts_it() {
    let device = net::device(&net_config(2), &offer(&[], 4)).unwrap();
    let roles =
        |negotiated: &[u32]| (0..6).map(|index| device.role(index, mask(negotiated))).collect::<Vec<_>>();
    let back_end = |n| Some(Role::BackEnd(n));
    let both = [VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ];
    assert_eq!(roles(&both), [back_end(0), back_end(1), back_end(2), back_end(3), Some(Role::Control), None]);
    assert_eq!(roles(&both[..1]), [back_end(0), back_end(1), Some(Role::Control), None, None, None]);
    assert_eq!(roles(&[]), [back_end(0), back_end(1), None, None, None, None]);
}

#[test]
fn receive_queues_are_the_even_ones_of_the_back_end() {
    let device = net::device(&net_config(2), &offer(&[], 4)).unwrap();
    let receive = |negotiated: &[u32]| {
        (0..6).filter(|index| device.is_receive_queue(*index, mask(negotiated))).collect::<Vec<_>>()
    };
    assert_eq!(receive(&[VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ]), [0, 2]);
    assert_eq!(receive(&[VIRTIO_NET_F_CTRL_VQ]), [0], "queue 2 is the control queue then");
}

#[test]
fn a_disk_is_cut_to_slots_and_to_what_the_back_end_takes() {
    let config = |queues, read_only| BlkConfig {
        queues,
        read_only,
        ..BlkConfig::new(BackEndConfig::new("/run/disk.sock"))
    };
    let mut space = vec![0; 60];
    space[..8].copy_from_slice(&2048u64.to_le_bytes());
    space[12..16].copy_from_slice(&126u32.to_le_bytes());
    let long = |device: &Device, at: usize| u32::from_le_bytes(device.config[at..at + 4].try_into().unwrap());

    let all = offer(&[VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_RO], 2);
    let device = blk::device(&config(2, true), &all, space.clone()).unwrap();
    assert_eq!(names(Kind::Blk, device.features), "SIZE_MAX SEG_MAX RO FLUSH MQ");
    assert_eq!(
        (long(&device, 8), long(&device, 12), device.config[34], blk::capacity(&device.config)),
        (32768, 126, 2, 2048)
    );

    let silent = offer(&[], 1);
    let device = blk::device(&config(1, false), &silent, space.clone()).unwrap();
    assert_eq!(long(&device, 12), 510, "header, status and segments fit in the guest's ring");
    let small_slots = RingConfig { slot_size: Some(512), ..RingConfig::default() };
    let device =
        blk::device(&BlkConfig { ring: small_slots, ..config(1, false) }, &silent, space.clone()).unwrap();
    assert_eq!((long(&device, 8), long(&device, 12)), (4096, 63), "a page takes eight slots of 512");
    assert_eq!(blk::device(&config(1, true), &silent, space.clone()), Err(Lacks::ReadOnly));
    assert_eq!(blk::device(&config(2, false), &silent, space), Err(Lacks::Queues { there: 1, wanted: 2 }));
    let old = Offer { features: 0, ..silent };
    assert_eq!(net::device(&net_config(1), &old), Err(Lacks::Version1));
}

#[test]
fn a_console_has_one_port_and_a_size_if_its_back_end_says_so() {
    let config = ConsoleConfig::new(BackEndConfig::new("/run/console.sock"));
    let all = offer(&[0, 1, 2], 2);
    let device = console::device(&config, &all, Some(&[80, 0, 25, 0])).unwrap();
    assert_eq!(names(Kind::Console, device.features), "SIZE");
    assert_eq!(device.config, [80, 0, 25, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(console::size(&device.config), [80, 25]);
    assert_eq!((device.queues(), device.role(1, 1), device.role(2, 1)), (2, Some(Role::BackEnd(1)), None));
    assert_eq!(device.kind.back_end_features(u64::MAX, &all), 1);
    // Neither half of an offer is enough.
    for (offer, space) in
        [(&all, None), (&all, Some(&[80, 0][..])), (&offer(&[], 2), Some(&[80, 0, 25, 0][..]))]
    {
        let device = console::device(&config, offer, space).unwrap();
        assert_eq!((device.features, console::size(&device.config)), (0, [0, 0]));
    }
    let one_way = Err(Lacks::Queues { there: 1, wanted: 2 });
    assert_eq!(console::device(&config, &offer(&[], 1), None), one_way);
}

/// Linux fills a console's receive queue with buffers of a page, and blocks nothing else while they stand.
#[test]
fn a_console_takes_as_many_pages_as_its_ring_has_descriptors() {
    let sizes = ConsoleConfig::new(BackEndConfig::new("s")).ring_sizes();
    assert_eq!(sizes, RingSizes::CONSOLE);
    let slots_of_a_page = 4096u32.div_ceil(sizes.slot_size);
    let taken = u32::from(sizes.guest) * slots_of_a_page;
    assert!(taken <= sizes.slots.into() && taken <= sizes.shadow.into());
}

#[test]
fn a_short_configuration_space_makes_no_trouble() {
    let config = BlkConfig {
        ring: RingConfig { guest: Some(2), ..RingConfig::default() },
        ..BlkConfig::new(BackEndConfig::new("s"))
    };
    let device = blk::device(&config, &offer(&[VIRTIO_BLK_F_SEG_MAX], 1), vec![1]).unwrap();
    assert_eq!((device.config.len(), blk::capacity(&device.config), device.config[12]), (60, 1, 1));
}

/// A control queue, and IO-Bond's half of it.
struct Bench {
    pool: Pool,
    place: Place,
    queue: ControlQueue,
}

impl Bench {
    fn new() -> Self {
        let pool = Pool::new(&[RingSizes::CONTROL], false).unwrap();
        let place = pool.take(0).unwrap();
        let queue = ControlQueue::new(pool.mapping().clone(), &place);
        Self { pool, place, queue }
    }

    fn put(&self, offset: u64, bytes: &[u8]) {
        assert!(self.pool.mapping().write(offset, bytes));
    }

    fn get<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut bytes = [0; N];
        assert!(self.pool.mapping().read(offset, &mut bytes));
        bytes
    }

    fn describe(&self, index: u64, offset: u64, len: u32, flags: u16, next: u16) {
        let addr = IOVA.0.wrapping_add(offset).into();
        let descriptor = Descriptor { addr, len: len.into(), flags: flags.into(), next: next.into() };
        self.put(self.place.desc + 16 * index, descriptor.as_bytes());
    }

    /// Publishes `command` in two pieces and a byte for the answer; the answer, and what was chosen.
    fn command(&mut self, number: u16, command: &[u8]) -> (u8, Option<u16>) {
        let slots = self.place.slots;
        self.put(slots, command);
        self.put(slots + 64, &[0xEE]);
        self.describe(3, slots, 2, DESC_NEXT, 5);
        self.describe(5, slots + 2, command.len() as u32 - 2, DESC_NEXT, 9);
        self.describe(9, slots + 64, 1, DESC_WRITE, 0);
        self.put(self.place.avail + RING + 2 * u64::from(number % 256), &[3, 0]);
        self.put(self.place.avail + IDX, &(number.wrapping_add(1)).to_le_bytes());
        let chosen = self.queue.serve(4, || {});
        assert_eq!(self.get(self.place.used + IDX), number.wrapping_add(1).to_le_bytes());
        assert_eq!(self.get(self.place.used + RING + 8 * u64::from(number % 256)), [3, 0, 0, 0, 1, 0, 0, 0]);
        let [answer] = self.get(slots + 64);
        (answer, chosen)
    }
}

#[test]
fn only_a_number_of_pairs_that_there_is_can_be_set() {
    let mut bench = Bench::new();
    let cases: [(&[u8], u8, Option<u16>); 6] = [
        (&[4, 0, 2, 0], 0, Some(2)),
        (&[4, 0, 5, 0], 1, None),
        (&[4, 0, 0, 0], 1, None),
        (&[4, 1, 2, 0], 1, None),
        (&[0, 0, 1], 1, None),
        (&[4, 0, 4, 0, 9, 9], 0, Some(4)),
    ];
    for (number, (command, answer, chosen)) in (0..).zip(cases) {
        assert_eq!(bench.command(number, command), (answer, chosen), "{command:?}");
    }
    assert_eq!(bench.queue.serve(4, || {}), None);
}

#[test]
fn the_control_queue_interrupts_when_it_used_something_unless_the_flag_forbids() {
    let mut bench = Bench::new();
    let interrupts = |bench: &mut Bench| {
        let mut count = 0;
        bench.queue.serve(4, || count += 1);
        count
    };
    let publish = |bench: &Bench, index: u16| bench.put(bench.place.avail + IDX, &index.to_le_bytes());
    publish(&bench, 2);
    assert_eq!((interrupts(&mut bench), interrupts(&mut bench)), (1, 0));
    bench.put(bench.place.avail + FLAGS, &AVAIL_NO_INTERRUPT.to_le_bytes());
    publish(&bench, 3);
    assert_eq!(interrupts(&mut bench), 0);
}

/// A descriptor of any kind, most of them somewhere in the pool.
fn descriptor() -> impl Strategy<Value = (u64, u32, u16, u16)> {
    let offset = prop_oneof![9 => 0u64..0x8000, 1 => any::<u64>()];
    (offset, prop_oneof![0u32..8, any::<u32>()], 0u16..8, 0u16..260)
}

proptest! {
    #[test]
    fn no_ring_makes_it_write_elsewhere_or_run_for_ever(
        descriptors in prop::collection::vec(descriptor(), 256),
        heads in prop::collection::vec(any::<u16>(), 256),
        index: u16,
    ) {
        let mut bench = Bench::new();
        for (at, (offset, len, flags, next)) in (0..).zip(descriptors) {
            bench.describe(at, offset, len, flags, next);
        }
        for (at, head) in (0..).zip(heads) {
            bench.put(bench.place.avail + RING + 2 * at, &(head % 300).to_le_bytes());
        }
        bench.put(bench.place.avail + IDX, &index.to_le_bytes());
        let bytes = |bench: &Bench| {
            let mut bytes = vec![0; bench.place.used as usize];
            assert!(bench.pool.mapping().read(0, &mut bytes));
            bytes
        };
        let before = bytes(&bench);
        bench.queue.serve(4, || {});
        prop_assert!(bytes(&bench) == before, "wrote outside of used ring and slots");
        prop_assert!(u16::from_le_bytes(bench.get(bench.place.used + IDX)) <= bench.place.sizes.shadow);
    }
}
