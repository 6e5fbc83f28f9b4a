//! A function's control plane as it is recorded in the journal, and restored from it.

use iobond_spec::{
    address::BoardAddr,
    function::{MSIX_VECTORS, NO_VECTOR},
};

use super::{Function, Queue, Status};
use crate::{
    device::Device,
    journal::{FunctionRecord, QueueRecord, digest},
};
use zerocopy::FromZeros;

/// A record that no process of this program can have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The driver was offered something else.
    #[error("its driver was offered features {found:#x}, and would be offered {now:#x} now")]
    Offer {
        /// Feature bits in the record.
        found: u64,
        /// Feature bits that this process offers.
        now: u64,
    },
    /// A field has a value that it cannot have.
    #[error("its record makes no sense: {0}")]
    Nonsense(&'static str),
}

impl Function {
    /// The record of the function itself. Fields that it does not know are zero.
    pub fn record(&self) -> FunctionRecord {
        FunctionRecord {
            offered: self.offered,
            driver_features: self.driver_features,
            device_feature_select: self.device_feature_select,
            driver_feature_select: self.driver_feature_select,
            config_vector: self.config_vector,
            queue_select: self.queue_select,
            status: self.status.bits(),
            withdrawn: self.withdrawn.into(),
            config_digest: self.config_digest(),
            generation: self.generation,
            present: 1,
            ..FunctionRecord::new_zeroed()
        }
    }

    fn config_digest(&self) -> u32 {
        digest(self.device.config.iter().copied()) as u32
    }

    /// The records of its queues, in order.
    pub fn queue_records(&self) -> impl Iterator<Item = QueueRecord> {
        self.queues.iter().map(|queue| QueueRecord {
            desc: queue.desc.0,
            avail: queue.avail.0,
            used: queue.used.0,
            size: queue.size,
            vector: queue.vector,
            enabled: queue.enabled.into(),
        })
    }

    /// Whether the driver knows another device configuration than this function has; it is to be told then,
    /// and the generation is another one.
    pub fn has_changed_since(&mut self, record: &FunctionRecord) -> bool {
        let changed = record.config_digest != self.config_digest();
        self.generation = self.generation.wrapping_add(changed.into());
        changed
    }

    /// The function as a previous process left it.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn recall(
        device: Device,
        transport: u64,
        record: &FunctionRecord,
        queues: &[QueueRecord],
    ) -> Result<Self, RecordError> {
        let mut function = Self::new(device, transport);
        if record.offered != function.offered {
            return Err(RecordError::Offer { found: record.offered, now: function.offered });
        }
        let nonsense = |what| Err(RecordError::Nonsense(what));
        let Some(status) = Status::recall(record.status) else { return nonsense("device_status") };
        if status.features_ok() && record.driver_features & !function.offered != 0 {
            return nonsense("features that were not offered");
        }
        let is_vector = |vector: u16| vector < MSIX_VECTORS || vector == NO_VECTOR;
        if !is_vector(record.config_vector) || queues.len() != function.queues.len() {
            return nonsense("a vector, or the number of queues");
        }
        for (queue, record) in function.queues.iter_mut().zip(queues) {
            let recalled = Queue {
                max_size: queue.max_size,
                size: record.size,
                vector: record.vector,
                enabled: record.enabled != 0,
                desc: BoardAddr(record.desc),
                avail: BoardAddr(record.avail),
                used: BoardAddr(record.used),
            };
            let sized = record.size.is_power_of_two() && record.size <= queue.max_size;
            if !sized || !is_vector(record.vector) || recalled.enabled && !recalled.is_well_formed() {
                return nonsense("a queue");
            }
            *queue = recalled;
        }
        function.status = status;
        function.driver_features = record.driver_features;
        function.device_feature_select = record.device_feature_select;
        function.driver_feature_select = record.driver_feature_select;
        function.config_vector = record.config_vector;
        function.queue_select = record.queue_select;
        function.withdrawn = record.withdrawn != 0;
        function.generation = record.generation;
        Ok(function)
    }
}

#[cfg(test)]
mod tests {
    use iobond_spec::function::{COMMON, COMMON_SIZE};
    use proptest::prelude::*;

    use super::*;
    use crate::{config::RingSizes, device::Kind};

    const TRANSPORT: u64 = 1 << 32 | 1 << 40;

    fn device() -> Device {
        let sizes = RingSizes::BLK;
        Device { kind: Kind::Blk, features: 0x200, config: vec![7; 60], back_end_queues: 3, sizes }
    }

    fn again(function: &Function) -> Result<Function, RecordError> {
        let queues: Vec<_> = function.queue_records().collect();
        Function::recall(device(), TRANSPORT, &function.record(), &queues)
    }

    /// Everything that a driver can read of the common configuration structure.
    fn seen(function: &mut Function) -> Vec<u32> {
        let widths = [4, 4, 4, 4, 2, 2, 1, 1, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 2, 2];
        let mut at = 0;
        let fields = widths.map(|width| {
            at += u32::from(width);
            function.read(COMMON + at - u32::from(width), width)
        });
        fields.to_vec()
    }

    proptest! {
        /// Whatever a driver wrote, the next process answers it as this one.
        #[test]
        fn a_driver_does_not_notice(
            writes in prop::collection::vec((0..COMMON_SIZE, prop::sample::select(vec![1u8, 2, 4]), any::<u32>()), 0..40),
            up in 0usize..6, needs_reset: bool,
        ) {
            let mut function = Function::new(device(), TRANSPORT);
            let steps = [(0x14, 1, 1), (0x14, 1, 3), (0x08, 4, 1), (0x0C, 4, 1), (0x14, 1, 0xb), (0x14, 1, 0xf)];
            for (offset, width, value) in steps.into_iter().take(up).chain(writes) {
                function.write(COMMON + offset, width, value);
            }
            if needs_reset {
                function.ask_for_reset();
            }
            let mut recalled = again(&function).unwrap();
            prop_assert_eq!(seen(&mut recalled), seen(&mut function));
            prop_assert_eq!(recalled.queues(), function.queues());
        }

        /// A record of any content makes a function that can be, or none.
        #[test]
        fn nonsense_is_refused(bytes in prop::array::uniform32(any::<u8>()), of_queue in prop::array::uniform32(any::<u8>())) {
            let record: FunctionRecord = zerocopy::transmute!({
                let mut all = [0; size_of::<FunctionRecord>()];
                all[..32].copy_from_slice(&bytes);
                all
            });
            let record = FunctionRecord { offered: 0x200 | TRANSPORT, ..record };
            let queue: QueueRecord = zerocopy::transmute!(of_queue);
            if let Ok(function) = Function::recall(device(), TRANSPORT, &record, &[queue; 3]) {
                prop_assert!(!function.status().driver_ok() || function.status().features_ok());
                prop_assert!(function.queues().iter().all(|queue| !queue.enabled || queue.is_well_formed()));
            }
        }
    }

    #[test]
    fn a_process_that_offers_something_else_does_not_resume() {
        let function = Function::new(device(), TRANSPORT);
        let queues: Vec<_> = function.queue_records().collect();
        let other = Function::recall(device(), TRANSPORT | 1, &function.record(), &queues);
        assert!(matches!(other, Err(RecordError::Offer { .. })));
    }
}
