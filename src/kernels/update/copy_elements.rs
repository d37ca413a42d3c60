use crate::kernels::{Launch, files, grid_of, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        count: u32,
        back: u32,
    }
}

/// Copies the `count` elements of a tensor that `indices` names into a list, or `back`. Buffers: indices, tensor, list.
pub(crate) fn copy_elements(count: usize, back: bool) -> Launch {
    let params = Params { count: to_u32(count), back: back.into() };
    Launch::new(&files::COPY_ELEMENTS, &params, WORKGROUP, grid_of(count, WORKGROUP))
}
