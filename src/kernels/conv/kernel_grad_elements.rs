use crate::kernels::{Launch, files, grid_of, to_u32};
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

/// Convolution whose weight gradient is computed for single kernel elements.
#[derive(Clone, Copy, Debug)]
pub struct KernelGradElements {
    /// Geometry of the convolution.
    pub window: WindowGeometry,
    /// Input channels of all groups.
    pub c_in: usize,
    /// Output channels of all groups.
    pub c_out: usize,
    /// Images of a full batch.
    pub images: usize,
    /// Number of splits of the batch, each with its own partial sums.
    pub splits: usize,
}

/// Computes the weight gradient (dW) of `count` single kernel elements, as partial sums `[splits, count]`.
/// Buffers: elements (row, column, input channel, output channel), x, dy, partial sums.
pub fn kernel_grad_elements(conv: &KernelGradElements, count: usize) -> Launch {
    let w = &conv.window;
    let params = Params {
        height: to_u32(w.input[0]),
        width: to_u32(w.input[1]),
        out_height: to_u32(w.output[0]),
        out_width: to_u32(w.output[1]),
        stride_h: to_u32(w.stride[0]),
        stride_w: to_u32(w.stride[1]),
        pad_top: to_u32(w.pad_begin[0]),
        pad_left: to_u32(w.pad_begin[1]),
        c_in: to_u32(conv.c_in),
        c_out: to_u32(conv.c_out),
        images: to_u32(conv.images),
        splits: to_u32(conv.splits),
    };
    let pixels = conv.images * w.outputs();
    let images = conv.images.div_ceil(conv.splits);
    Launch::new(&files::KERNEL_GRAD_ELEMENTS, &params, WORKGROUP, grid_of(conv.splits * count, WORKGROUP))
        .flops(2 * count as u64 * pixels as u64)
        .iterations(images * (1 + w.output[0] * (1 + w.output[1])))
}
