use crate::kernels::{Launch, files, grid_of, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        first: u32,
        first_group: u32,
        elements: u32,
        per_example: u32,
        unbiased: u32,
        momentum: f32,
    }
}

/// One running statistic: its range in the arena, and its update rule.
pub(crate) struct RunningStatistic {
    /// First element in the arena.
    pub first: usize,
    /// Number of the first group of four elements of the arena's chunk, counted over all chunks.
    pub first_group: usize,
    /// Number of elements.
    pub elements: usize,
    /// Number of values per channel and example.
    pub per_example: usize,
    /// Whether the batch value is multiplied by n/(n-1).
    pub unbiased: bool,
    /// Momentum: the weight of the batch value.
    pub momentum: f64,
}

/// Updates a running statistic where it is not frozen. Buffers: mask, batch value, sums, weights.
pub fn update_statistics(statistic: &RunningStatistic) -> Launch {
    let params = Params {
        first: to_u32(statistic.first),
        first_group: to_u32(statistic.first_group),
        elements: to_u32(statistic.elements),
        per_example: to_u32(statistic.per_example),
        unbiased: u32::from(statistic.unbiased),
        momentum: statistic.momentum as f32,
    };
    Launch::new(&files::UPDATE_STATISTICS, &params, WORKGROUP, grid_of(statistic.elements, WORKGROUP))
        .arena_elements(statistic.elements)
        .flops(3 * statistic.elements as u64)
}
