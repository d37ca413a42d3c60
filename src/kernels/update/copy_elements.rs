use crate::kernels::{Launch, files, grid, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

/// Elements that a workgroup copies.
const PART: usize = 2048;

params! {
    struct Params {
        count: u32,
        part: u32,
        back: u32,
    }
}

/// Copies the `count` elements of a tensor that `indices` names into a list, or `back`. Buffers: indices, tensor, list.
pub(crate) fn copy_elements(count: usize, back: bool) -> Launch {
    let params = Params { count: to_u32(count), part: to_u32(PART), back: back.into() };
    Launch::new(&files::COPY_ELEMENTS, &params, WORKGROUP, grid(count.div_ceil(PART), 1))
}
