//! What masked updates share: the range of an arena that one covers, before the numbers of its rule.

use crate::graph::Clip;
use crate::kernels::WgslFile;
use crate::kernels::elementwise::ELEMENTWISE_WORKGROUP;
use crate::kernels::{Launch, grid_of, index};
use crate::wgsl::WgslStruct;
use crate::wgsl::params;

/// A range of an arena that one update covers, and how it is scaled and clipped there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UpdateRange {
    /// The first element, a multiple of 4.
    pub first: usize,
    /// Elements, a multiple of 4.
    pub elements: usize,
    /// Multiplies the learning rate.
    pub rate_scale: f64,
    /// How the gradient is clipped where it is read.
    pub clip: Option<Clip>,
}

params! {
    /// Parameters before the rule's, in every update.
    pub(super) struct Range {
        pub first: u32,
        pub quads: u32,
        pub clip_value: f32,
        pub clip_by_norm: u32,
    }
}

impl UpdateRange {
    /// A rule over the range; `flops` an element.
    pub(super) fn launch(&self, kernel: &'static WgslFile, rule: &impl WgslStruct, flops: u64) -> Launch {
        let range = Range {
            first: index(self.first / 4),
            quads: index(self.elements / 4),
            clip_value: self.clip_value(),
            clip_by_norm: matches!(self.clip, Some(Clip::Norm { .. })).into(),
        };
        let groups = grid_of(self.elements / 4, ELEMENTWISE_WORKGROUP);
        Launch::new(kernel, &range, ELEMENTWISE_WORKGROUP, groups)
            .more_params(rule)
            .arena_elements(self.elements)
            .flops(flops * self.elements as u64)
    }

    /// The largest size of a gradient's element, or 0 where elements are not clipped.
    fn clip_value(&self) -> f32 {
        match self.clip {
            // A limit too small for an f32 is its least one, for 0 is none.
            Some(Clip::Value { limit }) => (limit as f32).max(f32::MIN_POSITIVE),
            _ => 0.0,
        }
    }
}
