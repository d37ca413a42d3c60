use crate::kernels::conv::scatter_sum::NO_INDEX;
use crate::kernels::{Launch, files, grid_of, index};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        count: u32,
    }
}

/// Elements from their places. Buffers: places, source, results.
pub fn pick(count: usize) -> Launch {
    let params = Params { count: index(count) };
    let mut launch = Launch::new(&files::PICK, &params, WORKGROUP, grid_of(count, WORKGROUP));
    launch.constants.push(("NO_INDEX", NO_INDEX));
    launch
}
