use crate::kernels::{Launch, files, grid_of, index};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        first: u32,
        elements: u32,
        per_example: u32,
        unbiased: u32,
        momentum: f32,
    }
}

/// One running statistic: where it lies in its arena, and how it follows.
pub(crate) struct RunningStatistic {
    /// Its first element in the arena.
    pub first: usize,
    /// Its elements.
    pub elements: usize,
    /// Values of a channel in one example.
    pub per_example: usize,
    /// Whether it is multiplied by `n/(n-1)`.
    pub unbiased: bool,
    /// The batch's share.
    pub momentum: f64,
}

/// Moves a running statistic where it is not frozen. Buffers: mask, batch, sums, weights.
pub fn update_statistics(statistic: &RunningStatistic) -> Launch {
    let params = Params {
        first: index(statistic.first),
        elements: index(statistic.elements),
        per_example: index(statistic.per_example),
        unbiased: u32::from(statistic.unbiased),
        momentum: statistic.momentum as f32,
    };
    Launch::new(&files::UPDATE_STATISTICS, &params, WORKGROUP, grid_of(statistic.elements, WORKGROUP))
        .arena_elements(statistic.elements)
        .flops(3 * statistic.elements as u64)
}
