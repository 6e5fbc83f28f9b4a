//! Virtqueue layouts (virtio 1.3, 2.6 to 2.8). Only the split layout is offered so far.

pub mod split;
