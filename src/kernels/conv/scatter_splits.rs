use super::NO_INDEX;
use crate::kernels::{Launch, files, grid_of, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        count: u32,
        splits: u32,
    }
}

/// Sums `[splits, count]` over the splits and scatters the sums: results[indices[i]] = sum i, except for
/// [`NO_INDEX`]. Buffers: indices, partial sums, results.
pub fn scatter_splits(count: usize, splits: usize) -> Launch {
    let params = Params { count: to_u32(count), splits: to_u32(splits) };
    let mut launch = Launch::new(&files::SCATTER_SPLITS, &params, WORKGROUP, grid_of(count, WORKGROUP))
        .flops((count * (splits - 1)) as u64)
        .iterations(splits);
    launch.constants.push(("NO_INDEX", NO_INDEX));
    launch
}
