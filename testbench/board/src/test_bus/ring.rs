//! What a test function does with its rings: a block device, or a network device on a wire.

use iobond_spec::ring::split::{
    DESC_INDIRECT, DESC_NEXT, DESC_SIZE, DESC_WRITE, Descriptor, IDX, UsedElement, avail_entry_offset,
    avail_event_offset, used_element_offset,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use zerocopy::{FromZeros, IntoBytes};

use super::{Misdeed, TestFunction, World, function::QueueRegisters};

const NETWORK: u16 = 1;
const BLOCK: u16 = 2;
const NET_HEADER: usize = 12;

/// Serves every enabled queue once; returns the data of the MSI-X messages that this sends.
pub fn run(function: &mut TestFunction, memory: &GuestMemoryMmap, world: &mut World) -> Vec<u32> {
    let mut messages = Vec::new();
    if function.misdeed == Misdeed::Silent {
        return messages;
    }
    for index in 0..function.queues.len() {
        let mut queue = function.queues[index];
        if !queue.enabled {
            continue;
        }
        while let Some(head) = next_available(&queue, memory) {
            let chain = read_chain(&queue, memory, head);
            let Some(written) = serve(function, index, &chain, memory, world) else { break };
            queue.next_avail = queue.next_avail.wrapping_add(1);
            let (head, written) = match function.misdeed {
                Misdeed::InventToken => (head ^ 1, written),
                Misdeed::OverstateLength => (head, written + 100_000),
                _ => (head, written),
            };
            put_used(&mut queue, memory, head, written);
            messages.extend(message(function, queue.vector));
        }
        function.queues[index] = queue;
    }
    messages
}

struct Chain {
    readable: Vec<u8>,
    writable: Vec<(u64, u32)>,
}

fn next_available(queue: &QueueRegisters, memory: &GuestMemoryMmap) -> Option<u16> {
    let [_, avail, used] = queue.areas;
    let index: u16 = memory.read_obj(GuestAddress(avail + IDX)).unwrap();
    if index == queue.next_avail {
        // Ask to be notified of the next one.
        memory.write_obj(index, GuestAddress(used + avail_event_offset(queue.size))).unwrap();
        return None;
    }
    Some(memory.read_obj(GuestAddress(avail + avail_entry_offset(queue.next_avail, queue.size))).unwrap())
}

fn read_chain(queue: &QueueRegisters, memory: &GuestMemoryMmap, head: u16) -> Chain {
    let mut chain = Chain { readable: Vec::new(), writable: Vec::new() };
    let (mut table, mut at) = (queue.areas[0], head);
    loop {
        let mut descriptor = Descriptor::new_zeroed();
        let address = GuestAddress(table + u64::from(at) * DESC_SIZE);
        memory.read_slice(descriptor.as_mut_bytes(), address).unwrap();
        let (address, length, flags) = (descriptor.addr.get(), descriptor.len.get(), descriptor.flags.get());
        if flags & DESC_INDIRECT != 0 {
            (table, at) = (address, 0);
            continue;
        }
        if flags & DESC_WRITE != 0 {
            chain.writable.push((address, length));
        } else {
            let start = chain.readable.len();
            chain.readable.resize(start + length as usize, 0);
            memory.read_slice(&mut chain.readable[start..], GuestAddress(address)).unwrap();
        }
        if flags & DESC_NEXT == 0 {
            return chain;
        }
        at = descriptor.next.get();
    }
}

/// What one request does; `None` when it has to wait.
fn serve(
    function: &TestFunction,
    queue: usize,
    chain: &Chain,
    memory: &GuestMemoryMmap,
    world: &mut World,
) -> Option<u32> {
    match (function.device_type, queue) {
        (BLOCK, _) => {
            let writable: u32 = chain.writable.iter().map(|(_, length)| length).sum();
            let mut answer = block(&chain.readable, writable as usize - 1, &mut world.disk);
            if function.misdeed == Misdeed::WriteNothing && answer.len() > 1 {
                // The status alone, at the end, but everything claimed.
                let (address, length) = chain.writable[chain.writable.len() - 1];
                memory.write_slice(&[0], GuestAddress(address + u64::from(length) - 1)).unwrap();
                return Some(answer.len() as u32);
            }
            answer.truncate(writable as usize);
            Some(scatter(&answer, chain, memory))
        }
        (NETWORK, 0) => {
            let frame = world.wire[function.side].pop_front()?;
            Some(scatter(&[&[0; NET_HEADER][..], &frame].concat(), chain, memory))
        }
        (NETWORK, _) => {
            world.wire[1 - function.side].push_back(chain.readable[NET_HEADER..].to_vec());
            Some(0)
        }
        _ => None,
    }
}

/// A block request on `disk` (virtio 1.3, 5.2.6): what is to be written, status last.
fn block(request: &[u8], writable: usize, disk: &mut [u8]) -> Vec<u8> {
    let kind = u32::from_le_bytes(request[..4].try_into().unwrap());
    let sector = |at: usize| u64::from_le_bytes(request[at..at + 8].try_into().unwrap()) as usize * 512;
    match kind {
        0 if sector(8) + writable <= disk.len() => [&disk[sector(8)..][..writable], &[0]].concat(),
        1 if sector(8) + request.len() - 16 <= disk.len() => {
            disk[sector(8)..][..request.len() - 16].copy_from_slice(&request[16..]);
            vec![0]
        }
        4 => vec![0],
        8 => [&b"test disk\0\0\0\0\0\0\0\0\0\0\0"[..], &[0]].concat(),
        11 | 13 => {
            let sectors = u32::from_le_bytes(request[24..28].try_into().unwrap()) as usize;
            disk[sector(16)..][..sectors * 512].fill(0);
            vec![0]
        }
        0 | 1 => [vec![0; writable], vec![1]].concat(),
        _ => vec![2],
    }
}

fn scatter(mut bytes: &[u8], chain: &Chain, memory: &GuestMemoryMmap) -> u32 {
    let total = bytes.len();
    for (address, length) in &chain.writable {
        let (now, later) = bytes.split_at(bytes.len().min(*length as usize));
        memory.write_slice(now, GuestAddress(*address)).unwrap();
        bytes = later;
    }
    (total - bytes.len()) as u32
}

fn put_used(queue: &mut QueueRegisters, memory: &GuestMemoryMmap, head: u16, written: u32) {
    let used = queue.areas[2];
    let element = UsedElement { id: u32::from(head).into(), len: written.into() };
    let at = GuestAddress(used + used_element_offset(queue.next_used, queue.size));
    memory.write_slice(element.as_bytes(), at).unwrap();
    queue.next_used = queue.next_used.wrapping_add(1);
    memory.write_obj(queue.next_used, GuestAddress(used + IDX)).unwrap();
}

/// The data of a vector's message, if MSI-X is enabled and the entry not masked.
fn message(function: &TestFunction, vector: u16) -> Option<u32> {
    let entry = function.table.get(usize::from(vector) * 16..)?.get(..16)?;
    let word = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
    let enabled =
        (0x40..0xF0).any(|at| function.config[at] == 0x11 && function.config[at + 3] & 0xC0 == 0x80);
    (enabled && word(0) == 0xFEE0_0000 && word(12) & 1 == 0).then(|| word(8))
}
