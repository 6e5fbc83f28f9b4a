//! Enumeration of functions that are as they should be, and of ones that are not.

use std::rc::Rc;

use proptest::prelude::*;

use super::*;
use crate::test_bus::{BAR, COMMON, TestBus, TestFunction};

fn network() -> TestFunction {
    TestFunction::new(1, 0x0200, 0, vec![0; 8])
}

fn block() -> TestFunction {
    TestFunction::new(2, 0x0100, 0, vec![0; 60])
}

fn bus(functions: Vec<Option<TestFunction>>) -> TestBus {
    TestBus::new(functions, &Rc::default())
}

#[test]
fn functions_are_found_where_they_are_and_do_not_overlap() {
    let bus = bus(vec![None, Some(network()), None, Some(block())]);
    let functions = enumerate(&bus).unwrap();
    let ids: Vec<_> = functions.iter().map(|function| function.id.index()).collect();
    assert_eq!(ids, [1, 3]);

    let mut spans: Vec<_> = functions
        .iter()
        .flat_map(|function| &function.bars)
        .filter(|bar| bar.kind != BarKind::Io)
        .map(|bar| (bar.address.0, bar.address.0 + bar.size))
        .collect();
    spans.sort_unstable();
    assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{spans:x?}");
    assert!(spans.iter().all(|(start, end)| MMIO_WINDOW.start <= *start && *end <= MMIO_WINDOW.end));
    assert!(functions.iter().all(|function| function.command & 0b110 == 0b110));
}

#[test]
fn bars_of_every_kind_are_sized_and_keep_their_type() {
    let bus = bus(vec![Some(network())]);
    let function = &enumerate(&bus).unwrap()[0];
    let found: Vec<_> = function.bars.iter().map(|bar| (bar.index, bar.kind, bar.size)).collect();
    let memory =
        |prefetchable| (BarKind::Memory32 { prefetchable: false }, BarKind::Memory64 { prefetchable });
    assert_eq!(found, [(0, BarKind::Io, 32), (1, memory(true).0, 0x1000), (BAR, memory(true).1, 0x4000)]);
    let io = bus.config_read(function.id, 0x10, 4);
    assert_eq!(io, 1, "an I/O BAR gets its old value back");
}

#[test]
fn structures_are_taken_from_the_capabilities() {
    let bus = bus(vec![Some(network())]);
    let function = &enumerate(&bus).unwrap()[0];
    let bar = function.bars.iter().find(|bar| bar.index == BAR).unwrap().address;
    let (common, _) = function.virtio(VirtioStructure::Common).unwrap();
    assert_eq!(common, Region { address: bar.wrapping_add(COMMON), length: 64 });
    assert_eq!(function.virtio(VirtioStructure::Notify).unwrap().1, 8);
    assert_eq!(
        function.virtio(VirtioStructure::PciAccess),
        Err(PciError::Missing { function: function.id, what: "PCI configuration access" })
    );
}

#[test]
fn a_function_prints_as_lspci_would() {
    let bus = bus(vec![None, Some(network())]);
    let text = enumerate(&bus).unwrap()[0].to_string();
    let expected = "\
00:02.0 Ethernet controller: Red Hat, Inc. Virtio 1.0 network device (rev 01)
\tSubsystem: Red Hat, Inc. Device 1100
\tFlags: bus master, fast devsel, latency 0
\tI/O ports at <unassigned> [disabled] [size=32]
\tMemory at e0000000 (32-bit, non-prefetchable) [size=4K]
\tMemory at e0004000 (64-bit, prefetchable) [size=16K]
\tCapabilities: [48] #01
\tCapabilities: [50] Vendor Specific Information: VirtIO: ISR
\tCapabilities: [60] Vendor Specific Information: Len=10 <?>
\tCapabilities: [70] Vendor Specific Information: VirtIO: DeviceCfg
\tCapabilities: [80] MSI-X: Enable- Count=4 Masked-
\tCapabilities: [8c] Vendor Specific Information: VirtIO: CommonCfg
\tCapabilities: [9c] Express Endpoint, MSI 00
\tCapabilities: [d8] Vendor Specific Information: VirtIO: Notify
";
    assert_eq!(text, expected);
}

#[test]
fn a_function_level_reset_keeps_the_function_usable() {
    let bus = bus(vec![Some(network())]);
    let mut function = enumerate(&bus).unwrap().remove(0);
    let before = function.clone();
    function.reset(&bus).unwrap();
    assert_eq!(bus.functions.borrow()[0].as_ref().unwrap().resets, 1);
    assert_eq!(function, before);
    let low = bus.config_read(function.id, 0x20, 4) & !0xF;
    assert_eq!(u64::from(low), function.bars[2].address.0);
}

#[test]
fn a_capability_list_that_comes_back_ends_in_an_error() {
    let mut function = network();
    // The last capability, at 0xD8, points to the first.
    function.put(0xD9, &[0x48]);
    let bus = bus(vec![Some(function)]);
    let function = FunctionId::new(0).unwrap();
    assert_eq!(enumerate(&bus), Err(PciError::CapabilityLoop { function, at: 0x48 }));
}

#[test]
fn a_capability_beyond_configuration_space_is_refused() {
    let mut function = network();
    function.put(0x34, &[0xF8]);
    function.put(0xF8, &[0x11, 0]);
    let function_id = FunctionId::new(0).unwrap();
    let refused = PciError::CapabilityBounds { function: function_id, at: 0xF8, length: 12 };
    assert_eq!(enumerate(&bus(vec![Some(function)])), Err(refused));
}

#[test]
fn a_structure_outside_of_its_bar_is_refused() {
    for (bar, offset, length) in
        [(BAR, 0x3FF0, 64), (BAR, 0, u32::MAX), (BAR, 0x40, 0), (0, 0, 16), (3, 0, 16)]
    {
        let mut function = TestFunction::bare(2, 0x0100);
        function.virtio_in(bar, 1, offset, length, &[]);
        let function = enumerate(&bus(vec![Some(function)])).unwrap().remove(0);
        let found = function.virtio(VirtioStructure::Common);
        assert!(matches!(found, Err(PciError::OutsideBar { .. })), "BAR {bar} + {offset:#x}: {found:?}");
    }
}

#[test]
fn a_bar_too_large_for_the_window_is_refused() {
    let mut function = TestFunction::bare(2, 0x0100);
    function.writable[0x20..0x28].copy_from_slice(&(!0x7FFF_FFFFu64).to_le_bytes());
    let refused = enumerate(&bus(vec![Some(function)]));
    assert!(matches!(refused, Err(PciError::WindowFull { bar: BAR, size: 0x8000_0000, .. })), "{refused:?}");
}

proptest! {
    /// Any bytes at all behind the header, and any of them writable: enumeration ends, in an error or with
    /// regions that are inside of their BARs.
    #[test]
    fn hostile_configuration_space_is_survived(
        header in proptest::collection::vec(any::<u8>(), 0x30),
        space in proptest::collection::vec(prop_oneof![any::<u8>(), Just(0x09), (0x10u8..0x40).prop_map(|at| at * 4)], 192),
        masks in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>(), Just(0xFF)], 256),
        bars_only: bool,
    ) {
        let mut function = network();
        if bars_only {
            function.put(0x10, &header[..24]);
        } else {
            function.put(0x04, &header[..0x2C]);
            function.put(0x34, &[space[0]]);
            function.put(0x40, &space);
        }
        function.config[0x0E] = 0;
        function.writable[4..].copy_from_slice(&masks[4..]);
        let bus = bus(vec![Some(function)]);
        let Ok(functions) = enumerate(&bus) else { return Ok(()) };
        for function in functions {
            prop_assert!(function.capabilities.len() <= 48);
            for structure in [VirtioStructure::Common, VirtioStructure::Notify, VirtioStructure::Isr, VirtioStructure::Device] {
                if let Ok((region, _)) = function.virtio(structure) {
                    let end = region.address.0 + region.length;
                    let inside = |bar: &Bar| bar.address <= region.address && end <= bar.address.0 + bar.size;
                    prop_assert!(function.bars.iter().any(inside));
                }
            }
            prop_assert!(!function.to_string().is_empty());
        }
    }
}
