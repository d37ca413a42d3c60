use crate::graph::Dropout;
use crate::kernels::elementwise::ELEMENTWISE_WORKGROUP;
use crate::kernels::{Extent, Launch, files, grid_of, to_u32};
use crate::wgsl::params;

params! {
    struct Params {
        elements: u32,
        per_example: u32,
        threshold: u32,
        offset: u32,
        scale: f32,
    }
}

/// Dropout: y = scale * x where the element is kept, else 0. Buffers: x, y.
pub fn dropout(extent: Extent, dropout: Dropout) -> Launch {
    let params = Params {
        elements: to_u32(extent.elements),
        per_example: to_u32(extent.per_row),
        threshold: dropout.threshold(),
        offset: dropout.offset(),
        scale: dropout.scale() as f32,
    };
    let groups = grid_of(extent.elements.div_ceil(4), ELEMENTWISE_WORKGROUP);
    Launch::new(&files::DROPOUT, &params, ELEMENTWISE_WORKGROUP, groups)
        .flops(extent.elements as u64)
        .iterations(3)
}
