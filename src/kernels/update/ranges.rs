//! Shared part of the masked updates: the ranges of an arena (one buffer that contains many tensors), and the
//! parameters that all update rules have in common.

use crate::graph::Clip;
use crate::kernels::elementwise::ELEMENTWISE_WORKGROUP;
use crate::kernels::ranges::{RangeTable, Rows};
use crate::kernels::{Launch, WgslFile, grid, to_u32};
use crate::wgsl::params;

/// Range of an arena with the factors of its update.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UpdateRange {
    /// First element in its chunk of the arena; a multiple of 4.
    pub first: usize,
    /// Number of elements; a multiple of 4.
    pub elements: usize,
    /// Factor by which the learning rate is multiplied.
    pub rate_scale: f64,
    /// Weight decay, coupled or decoupled.
    pub weight_decay: f64,
    /// Whether the gradients are clipped.
    pub clipped: bool,
}

/// Ranges of one chunk of an arena that one dispatch updates.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UpdateRanges<'a> {
    /// Number of the first group of four elements of the chunk, counted over all chunks.
    pub first_group: usize,
    /// Clipping of the gradients, applied when they are loaded.
    pub clip: Option<Clip>,
    /// At most [`MAX_RANGES`](crate::kernels::MAX_RANGES).
    pub ranges: &'a [UpdateRange],
}

params! {
    /// Parameters of every update; the update rule's own parameters follow them.
    struct Params {
        first_group: u32,
        clip_value: f32,
        clip_by_norm: u32,
        ranges: u32,
        table: Rows,
    }
}

impl UpdateRanges<'_> {
    /// Launches an update rule over the ranges, with `flops` per element.
    pub(super) fn launch(&self, kernel: &'static WgslFile, flops: u64) -> Launch {
        let mut table = RangeTable::new();
        for range in self.ranges {
            let [first, vectors] = [range.first / 4, range.elements / 4];
            let place = [to_u32(first), to_u32(vectors), range.clipped.into()];
            let factors = [range.rate_scale, range.weight_decay].map(|factor| (factor as f32).to_bits());
            table.push(vectors, ELEMENTWISE_WORKGROUP, place, [factors[0], factors[1], 0, 0]);
        }
        let params = Params {
            first_group: to_u32(self.first_group),
            clip_value: self.clip_value(),
            clip_by_norm: matches!(self.clip, Some(Clip::Norm { .. })).into(),
            ranges: to_u32(table.ranges),
            table: table.rows,
        };
        let elements = self.ranges.iter().map(|range| range.elements).sum();
        Launch::new(kernel, &params, ELEMENTWISE_WORKGROUP, grid(table.workgroups, 1))
            .arena_elements(elements)
            .in_place()
            .flops(flops * elements as u64)
    }

    /// Maximum magnitude of a gradient element, for clipping by value.
    fn clip_value(&self) -> f32 {
        match self.clip {
            // A limit that underflows becomes the smallest normal f32.
            Some(Clip::Value { limit }) => (limit as f32).max(f32::MIN_POSITIVE),
            _ => 0.0,
        }
    }
}
