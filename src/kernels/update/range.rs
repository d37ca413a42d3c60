//! Shared part of the masked updates: the range of an arena (one buffer that contains many tensors), and the
//! parameters that all update rules have in common.

use crate::graph::Clip;
use crate::kernels::WgslFile;
use crate::kernels::elementwise::ELEMENTWISE_WORKGROUP;
use crate::kernels::{Launch, grid_of, to_u32};
use crate::wgsl::WgslStruct;
use crate::wgsl::params;

/// Range of an arena that one update covers, with its learning-rate factor and gradient clipping.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UpdateRange {
    /// First element in its chunk of the arena; a multiple of 4.
    pub first: usize,
    /// Number of the first group of four elements of the chunk, counted over all chunks.
    pub first_group: usize,
    /// Number of elements; a multiple of 4.
    pub elements: usize,
    /// Factor by which the learning rate is multiplied.
    pub rate_scale: f64,
    /// Clipping of the gradients, applied when they are loaded.
    pub clip: Option<Clip>,
}

params! {
    /// Parameters of every update; the update rule's own parameters follow them.
    pub(super) struct Range {
        pub first_vector: u32,
        pub first_group: u32,
        pub vectors: u32,
        pub clip_value: f32,
        pub clip_by_norm: u32,
    }
}

impl UpdateRange {
    /// Launches an update rule over the range, with `flops` per element.
    pub(super) fn launch(&self, kernel: &'static WgslFile, rule: &impl WgslStruct, flops: u64) -> Launch {
        let range = Range {
            first_vector: to_u32(self.first / 4),
            first_group: to_u32(self.first_group),
            vectors: to_u32(self.elements / 4),
            clip_value: self.clip_value(),
            clip_by_norm: matches!(self.clip, Some(Clip::Norm { .. })).into(),
        };
        let groups = grid_of(self.elements / 4, ELEMENTWISE_WORKGROUP);
        Launch::new(kernel, &range, ELEMENTWISE_WORKGROUP, groups)
            .more_params(rule)
            .arena_elements(self.elements)
            .flops(flops * self.elements as u64)
    }

    /// Maximum magnitude of a gradient element, for clipping by value; 0 if elements are not clipped.
    fn clip_value(&self) -> f32 {
        match self.clip {
            // A limit that underflows becomes the smallest normal f32, because 0 means no limit.
            Some(Clip::Value { limit }) => (limit as f32).max(f32::MIN_POSITIVE),
            _ => 0.0,
        }
    }
}
