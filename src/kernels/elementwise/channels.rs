use crate::kernels::WgslFile;
use crate::kernels::elementwise::ELEMENTWISE_WORKGROUP;
use crate::kernels::{Extent, Launch, files, grid_of, to_u32};
use crate::wgsl::params;

params! {
    struct Params {
        elements: u32,
        per_example: u32,
        /// Channels of the result.
        channels: u32,
        /// First channel of the part.
        begin: u32,
        /// Channels of the operand.
        source: u32,
    }
}

/// y = a and b side by side along the last axis; `begin` are the channels of a, `extent` is that of y. Buffers: a,
/// b, y.
pub fn concat(extent: Extent, channels: usize, begin: usize) -> Launch {
    launch(&files::CONCAT, extent, channels, begin, begin)
}

/// y = the channels of x from `begin` on, of `source`. Buffers: x, y.
pub fn slice_channels(extent: Extent, channels: usize, begin: usize, source: usize) -> Launch {
    launch(&files::SLICE_CHANNELS, extent, channels, begin, source)
}

/// y = x, of `source` channels, at channel `begin`, and 0 elsewhere. Buffers: x, y.
pub fn pad_channels(extent: Extent, channels: usize, begin: usize, source: usize) -> Launch {
    launch(&files::PAD_CHANNELS, extent, channels, begin, source)
}

fn launch(kernel: &'static WgslFile, extent: Extent, channels: usize, begin: usize, source: usize) -> Launch {
    let params = Params {
        elements: to_u32(extent.elements),
        per_example: to_u32(extent.per_row),
        channels: to_u32(channels),
        begin: to_u32(begin),
        source: to_u32(source),
    };
    let groups = grid_of(extent.elements.div_ceil(4), ELEMENTWISE_WORKGROUP);
    Launch::new(kernel, &params, ELEMENTWISE_WORKGROUP, groups).flops(0)
}
