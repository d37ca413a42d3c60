use crate::kernels::{Launch, files, grid_of, index};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

/// What a list holds for elements that belong nowhere.
pub const NO_PLACE: u32 = u32::MAX;

params! {
    struct Params {
        count: u32,
        slices: u32,
    }
}

/// Sums `[slices, count]` over the slices, each result to its place. Buffers: places, sums, results.
pub fn scatter_sum(count: usize, slices: usize) -> Launch {
    let params = Params { count: index(count), slices: index(slices) };
    let mut launch = Launch::new(&files::SCATTER_SUM, &params, WORKGROUP, grid_of(count, WORKGROUP))
        .flops((count * (slices - 1)) as u64)
        .rounds(slices);
    launch.constants.push(("NO_PLACE", NO_PLACE));
    launch
}
