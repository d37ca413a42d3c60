use super::NO_INDEX;
use crate::kernels::{Launch, files, grid_of, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        count: u32,
    }
}

/// Gathers `count` elements: results[i] = source[indices[i]], or 0 for [`NO_INDEX`]. Buffers: indices,
/// source, results.
pub fn gather(count: usize) -> Launch {
    let params = Params { count: to_u32(count) };
    let mut launch = Launch::new(&files::GATHER, &params, WORKGROUP, grid_of(count, WORKGROUP));
    launch.constants.push(("NO_INDEX", NO_INDEX));
    launch
}
