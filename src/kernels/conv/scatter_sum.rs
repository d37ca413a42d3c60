use crate::kernels::{Launch, files, grid_of, index};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

/// What a list holds for elements that belong nowhere.
pub const NO_INDEX: u32 = u32::MAX;

params! {
    struct Params {
        count: u32,
        splits: u32,
    }
}

/// Sums `[splits, count]` over the splits, each result to its place. Buffers: places, sums, results.
pub fn scatter_sum(count: usize, splits: usize) -> Launch {
    let params = Params { count: index(count), splits: index(splits) };
    let mut launch = Launch::new(&files::SCATTER_SUM, &params, WORKGROUP, grid_of(count, WORKGROUP))
        .flops((count * (splits - 1)) as u64)
        .iterations(splits);
    launch.constants.push(("NO_INDEX", NO_INDEX));
    launch
}
