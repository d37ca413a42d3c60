//! Partial weight gradient for the output channels that have trainable elements.
//!
//! Gathers the output gradients of these channels, multiplies them with the image patches, and scatters the
//! results into the kernel gradient.

use super::gather::{gather_channels, one_pixel, scatter};
use super::operands::operands;
use crate::compiler::ir::Operation;
use crate::compiler::lower::{Builder, GemmBuffers};
use crate::compiler::options::Settings;
use crate::graph::Conv2d;
use crate::kernels::{Gemm, Matrix, NO_INDEX, Source};
use crate::shape::WindowGeometry;

/// Returns the cost of the cheaper of the two GEMMs for `count` trainable columns (output channels).
pub(super) fn cost(conv: &Conv2d, count: usize, settings: &Settings) -> usize {
    let [direct, exchanged] = costs(conv, count, settings);
    if flipped(conv).is_some() { direct.min(exchanged) } else { direct }
}

/// Returns the costs of the direct GEMM (patches of the images times output gradients) and of the exchanged
/// GEMM (patches of the output gradients times images).
fn costs(conv: &Conv2d, count: usize, settings: &Settings) -> [usize; 2] {
    let (cost, width) = (&settings.cost, count.next_multiple_of(4));
    let outputs = settings.batch * conv.window.outputs();
    let inputs = settings.batch * conv.window.input[0] * conv.window.input[1];
    [[conv.depth(), width, outputs], [conv.window.taps() * width, conv.c_in, inputs]]
        .map(|gemm| cost.gemm(gemm, 1, settings.family))
}

pub(super) fn grad_kernel(b: &mut Builder, op: &Operation, conv: &Conv2d, trainable: &[usize]) {
    let [x, dy] = operands(op);
    let width = trainable.len().next_multiple_of(4);
    let [direct, exchanged] = costs(conv, trainable.len(), &b.settings);
    let flipped = flipped(conv).filter(|_| exchanged < direct);
    let (rows, columns) = match flipped {
        Some(_) => (conv.window.taps() * width, conv.c_in),
        None => (conv.depth(), width),
    };
    let results = b.workspace(rows * columns);
    let [height, across] = conv.window.output;
    for images in b.parts_of_batch(conv.window.outputs() * width, u64::MAX) {
        let gathered = gather_channels(b, op, [height, across, conv.c_out], trainable, images.clone(), dy);
        let x_matrix = Matrix {
            offset: images.start * conv.window.input[0] * conv.window.input[1] * conv.c_in,
            ..Matrix::rows(conv.c_in)
        };
        let window = flipped.unwrap_or(conv.window);
        let (a_matrix, b_matrix) = match flipped {
            Some(_) => (Matrix::rows(width), x_matrix),
            None => (x_matrix, Matrix::rows(width)),
        };
        let gemm = Gemm {
            k: images.len() * window.outputs(),
            k_per_row: window.outputs(),
            a: a_matrix,
            source: source(window),
            b: b_matrix,
            transpose_a: true,
            first_row: images.start,
            accumulate: images.start > 0,
            specialized: true,
            ..Gemm::plain(rows, columns, 0)
        };
        let (left, right) = if flipped.is_some() { (gathered, x) } else { (x, gathered) };
        b.gemm(op, &gemm, &GemmBuffers::plain(left, right, results));
    }
    let index = |row: usize, column: usize| {
        // A row of the exchanged GEMM's result is a pair of a kernel position, in reverse order, and a
        // trainable column; its column is an input channel.
        let (row, column) = if flipped.is_some() {
            let tap = conv.window.taps() - 1 - row / width;
            (tap * conv.c_in + column, trainable.get(row % width))
        } else {
            (row, trainable.get(column))
        };
        column.map_or(NO_INDEX, |column| (row * conv.c_out + column) as u32)
    };
    let indices = (0..rows * columns).map(|i| index(i / columns, i % columns)).collect();
    scatter(b, op, indices, 1, results);
}

/// Returns the window of the exchanged GEMM, which slides over the output gradients: the patch of an input
/// pixel consists of the output pixels that it contributes to, so the kernel positions are in reverse order.
/// `None` for a stride above 1, groups, or padding larger than the dilated kernel size minus 1.
fn flipped(conv: &Conv2d) -> Option<WindowGeometry> {
    let w = &conv.window;
    let reach = [0, 1].map(|axis| (w.kernel[axis] - 1) * w.dilation[axis]);
    if w.stride != [1, 1] || conv.groups != 1 || w.pad_begin[0] > reach[0] || w.pad_begin[1] > reach[1] {
        return None;
    }
    Some(WindowGeometry {
        pad_begin: [reach[0] - w.pad_begin[0], reach[1] - w.pad_begin[1]],
        input: w.output,
        output: w.input,
        ..*w
    })
}

/// Returns how the GEMM loads the patches of a window: as the rows of a matrix if a patch is a single pixel,
/// otherwise by gathering.
fn source(window: WindowGeometry) -> Source {
    if window == one_pixel(window.input) { Source::Matrix } else { Source::Patches(window) }
}
