use crate::kernels::ranges::{RangeTable, Rows};
use crate::kernels::{Launch, files, grid, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        first_group: u32,
        ranges: u32,
        unused0: u32,
        unused1: u32,
        table: Rows,
    }
}

/// One running statistic: its range in the arena, and its update rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunningStatistic {
    /// First element in its chunk of the arena.
    pub first: usize,
    /// Number of elements.
    pub elements: usize,
    /// First element of the batch values in their buffer.
    pub first_batch_value: usize,
    /// Number of values per channel and example.
    pub per_example: usize,
    /// Whether the batch value is multiplied by n/(n-1).
    pub unbiased: bool,
    /// Momentum: the weight of the batch value.
    pub momentum: f64,
}

/// Updates at most [`MAX_RANGES`](crate::kernels::MAX_RANGES) running statistics of one chunk of the arena where
/// they are not frozen. `first_group` is the number of the chunk's first group of four elements, counted over
/// all chunks. Buffers: mask, batch values, sums, weights.
pub fn update_statistics(first_group: usize, statistics: &[RunningStatistic]) -> Launch {
    let mut table = RangeTable::new();
    for statistic in statistics {
        let place = [statistic.first, statistic.elements, statistic.first_batch_value].map(to_u32);
        let momentum = (statistic.momentum as f32).to_bits();
        let rule = [to_u32(statistic.per_example), statistic.unbiased.into(), momentum, 0];
        table.push(statistic.elements, WORKGROUP, place, rule);
    }
    let params = Params {
        first_group: to_u32(first_group),
        ranges: to_u32(table.ranges),
        unused0: 0,
        unused1: 0,
        table: table.rows,
    };
    let elements = statistics.iter().map(|statistic| statistic.elements).sum();
    Launch::new(&files::UPDATE_STATISTICS, &params, WORKGROUP, grid(table.workgroups, 1))
        .arena_elements(elements)
        .in_place()
        .flops(3 * elements as u64)
}
