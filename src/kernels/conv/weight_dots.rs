use crate::kernels::{Launch, files, grid_of, index};
use crate::shape::WindowGeometry;
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        height: u32,
        width: u32,
        out_height: u32,
        out_width: u32,
        stride_h: u32,
        stride_w: u32,
        pad_top: u32,
        pad_left: u32,
        c_in: u32,
        c_out: u32,
        images: u32,
        splits: u32,
    }
}

/// Where the sums run.
#[derive(Clone, Copy, Debug)]
pub struct WeightDots {
    /// Geometry.
    pub window: WindowGeometry,
    /// Input channels, of all groups.
    pub c_in: usize,
    /// Output channels, of all groups.
    pub c_out: usize,
    /// Images of a full batch.
    pub images: usize,
    /// Parts of the batch with sums of their own.
    pub splits: usize,
}

/// The gradient in each of `count` elements of a kernel, in splits: `[splits, count]`.
/// Buffers: elements (four words each), x, dy, sums.
pub fn weight_dots(dots: &WeightDots, count: usize) -> Launch {
    let w = &dots.window;
    let params = Params {
        height: index(w.input[0]),
        width: index(w.input[1]),
        out_height: index(w.output[0]),
        out_width: index(w.output[1]),
        stride_h: index(w.stride[0]),
        stride_w: index(w.stride[1]),
        pad_top: index(w.pad_begin[0]),
        pad_left: index(w.pad_begin[1]),
        c_in: index(dots.c_in),
        c_out: index(dots.c_out),
        images: index(dots.images),
        splits: index(dots.splits),
    };
    let terms = dots.images * w.outputs();
    let images = dots.images.div_ceil(dots.splits);
    Launch::new(&files::WEIGHT_DOTS, &params, WORKGROUP, grid_of(dots.splits * count, WORKGROUP))
        .flops(2 * count as u64 * terms as u64)
        .iterations(images * (1 + w.output[0] * (1 + w.output[1])))
}
