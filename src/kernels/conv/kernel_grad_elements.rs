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
        row_splits: u32,
        rows_per_split: u32,
        column_splits: u32,
        columns_per_split: u32,
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
    /// Numbers of ranges into which the batch, the rows and the columns of the output are divided; each
    /// combination of ranges has its own partial sums.
    pub splits: [usize; 3],
}

impl KernelGradElements {
    /// Number of images, rows and columns of a split.
    fn per_split(&self) -> [usize; 3] {
        let [rows, columns] = self.window.output;
        let [images, row_splits, column_splits] = self.splits;
        [self.images.div_ceil(images), rows.div_ceil(row_splits), columns.div_ceil(column_splits)]
    }

    /// Loop iterations of one invocation.
    pub fn iterations(&self) -> usize {
        let [images, rows, columns] = self.per_split();
        images * (1 + rows * (1 + columns))
    }
}

/// Computes the weight gradient (dW) of `count` single kernel elements, as partial sums `[splits, count]`.
/// Buffers: elements (row, column, input channel, output channel), x, dy, partial sums.
pub fn kernel_grad_elements(conv: &KernelGradElements, count: usize) -> Launch {
    let w = &conv.window;
    let [images, row_splits, column_splits] = conv.splits;
    let [_, rows_per_split, columns_per_split] = conv.per_split();
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
        splits: to_u32(images),
        row_splits: to_u32(row_splits),
        rows_per_split: to_u32(rows_per_split),
        column_splits: to_u32(column_splits),
        columns_per_split: to_u32(columns_per_split),
    };
    let pixels = conv.images * w.outputs();
    let invocations = images * row_splits * column_splits * count;
    Launch::new(&files::KERNEL_GRAD_ELEMENTS, &params, WORKGROUP, grid_of(invocations, WORKGROUP))
        .flops(2 * count as u64 * pixels as u64)
        .iterations(conv.iterations())
}
