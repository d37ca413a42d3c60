//! Convolutions of images with 3, 7, 11 .. channels. An additional channel of zeros makes the number of
//! channels a multiple of 4, so that elements are loaded as vec4, by the same shader as in other
//! convolutions.

use super::gather::gather_channels;
use super::operands::{operands, result};
use crate::compiler::ir::Operation;
use crate::compiler::lower::{Builder, GemmBuffers, Resource};
use crate::graph::Conv2d;
use crate::kernels::{Gemm, Matrix, NO_INDEX, Source, gather};

pub(super) fn forward(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    let [_, kernel] = operands(op);
    let images = padded_images(b, op, conv);
    let width = conv.c_in + 1;
    let rows = conv.window.taps() * width;
    // Maps an index of the padded kernel (`c_in + 1` input channels) to one of the stored kernel; the
    // additional channel has none.
    let stored = |index: usize| {
        let (row, column) = (index / conv.c_out, index % conv.c_out);
        let (tap, channel) = (row / width, row % width);
        let inside = channel < conv.c_in;
        if inside { ((tap * conv.c_in + channel) * conv.c_out + column) as u32 } else { NO_INDEX }
    };
    let count = rows * conv.c_out;
    let padded = b.workspace(count);
    let indices = b.list((0..count).map(stored).collect());
    b.push(op, gather(count), vec![indices, kernel, padded]);
    let gemm = Gemm {
        a: Matrix::rows(width),
        source: Source::Patches(conv.window),
        m_per_row: conv.window.outputs(),
        ..Gemm::plain(b.settings.batch * conv.window.outputs(), conv.c_out, rows)
    };
    b.gemm_with_epilogue(op, &gemm, images, padded);
}

pub(super) fn grad_kernel(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    let [_, dy] = operands(op);
    let images = padded_images(b, op, conv);
    let width = conv.c_in + 1;
    let rows = conv.window.taps() * width;
    let sums = b.workspace(rows * conv.c_out);
    let gemm = Gemm {
        a: Matrix::rows(width),
        source: Source::Patches(conv.window),
        transpose_a: true,
        k_per_row: conv.window.outputs(),
        ..Gemm::plain(rows, conv.c_out, b.settings.batch * conv.window.outputs())
    };
    b.gemm(op, &gemm, &GemmBuffers::plain(images, dy, sums));
    // Maps an index of the kernel gradient to one of the padded gradient (`c_in + 1` input channels).
    let padded = |index: usize| {
        let (row, column) = (index / conv.c_out, index % conv.c_out);
        let (tap, channel) = (row / conv.c_in, row % conv.c_in);
        ((tap * width + channel) * conv.c_out + column) as u32
    };
    let count = conv.depth() * conv.c_out;
    let indices = b.list((0..count).map(padded).collect());
    b.push(op, gather(count), vec![indices, sums, result(op)]);
}

/// Copies the images to a workspace `[n, h, w, c_in + 1]` with zeros in the last channel.
fn padded_images(b: &mut Builder, op: &Operation, conv: &Conv2d) -> Resource {
    let channels: Vec<usize> = (0..conv.c_in).collect();
    let [height, width] = conv.window.input;
    let all = 0..b.settings.batch;
    gather_channels(b, op, [height, width, conv.c_in], &channels, all, Resource::Value(op.node.inputs[0]))
}
