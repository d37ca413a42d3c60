//! Winograd convolutions F(4x4, 3x3) and F(4x4, 5x5), for 3x3 and 5x5 kernels of stride 1 (Lavin and Gray
//! 2016: Fast Algorithms for Convolutional Neural Networks).
//!
//! They need a quarter (3x3) or a sixth (5x5) of the multiplications of a direct convolution, but additional
//! dispatches that transform images and kernels.

use super::operands::{operands, result};
use crate::compiler::ir::{FusedEpilogue, Operation};
use crate::compiler::lower::{Builder, GemmBuffers, Resource};
use crate::graph::Conv2d;
use crate::kernels::{
    Gemm, Matrix, TILE, Tiles, components, winograd_input, winograd_kernel, winograd_kernel_grad,
    winograd_output, winograd_output_grad,
};
use crate::shape::WindowGeometry;
use std::ops::Range;

/// Maximum bytes of the transformed images of one part of the batch, so that they fit the caches and take
/// little memory compared with the activations.
const PART_BYTES: u64 = 8 << 20;

/// Whether Winograd's algorithm supports this convolution and its gradients.
pub(super) fn is_applicable(conv: &Conv2d, max_binding: u64) -> bool {
    let w = &conv.window;
    [[3, 3], [5, 5]].contains(&w.kernel)
        && w.stride == [1, 1]
        && w.dilation == [1, 1]
        && conv.groups == 1
        && w.pad_begin.iter().all(|&pad| pad < w.kernel[0])
        && conv.c_in.is_multiple_of(4)
        && conv.c_out.is_multiple_of(4)
        && fits(conv, max_binding)
}

/// Whether one transformed input image, one transformed output image and the transformed kernels each fit a
/// binding.
fn fits(conv: &Conv2d, max_binding: u64) -> bool {
    let w = &conv.window;
    let tiles = |size: [usize; 2]| size.map(|n| n.div_ceil(TILE)).iter().product::<usize>();
    let of_image = tiles(w.input).max(tiles(w.output)).saturating_mul(conv.c_in.max(conv.c_out));
    let of_kernels = conv.c_in.saturating_mul(conv.c_out);
    let bytes = (4 * components(w.kernel[0]) as u64).saturating_mul(of_image.max(of_kernels) as u64);
    bytes <= max_binding
}

pub(super) fn forward(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    convolve(b, op, conv.window, [conv.c_in, conv.c_out], false);
}

pub(super) fn grad_input(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    convolve(b, op, backward_window(&conv.window), [conv.c_out, conv.c_in], true);
}

/// The window of an input gradient at stride 1, as a convolution of the output gradients with flipped kernels.
pub(super) fn backward_window(w: &WindowGeometry) -> WindowGeometry {
    WindowGeometry {
        pad_begin: w.pad_begin.map(|pad| w.kernel[0] - 1 - pad),
        input: w.output,
        output: w.input,
        ..*w
    }
}

/// Convolves images of `from` channels into images of `to` channels. If `backward`, kernels are flipped in
/// both axes and input and output channels are exchanged, as in an input gradient.
fn convolve(b: &mut Builder, op: &Operation, window: WindowGeometry, [from, to]: [usize; 2], backward: bool) {
    let [images_in, kernel] = operands(op);
    let FusedEpilogue { kind, operand, output, positions } = op.epilogue();
    let taps = window.kernel[0];
    let components = components(taps);
    // Channels of the stored kernel `[kernel_h, kernel_w, c_in, c_out]`, which a backward pass reads
    // transposed.
    let [c_in, c_out] = if backward { [to, from] } else { [from, to] };
    let kernels = b.workspace(components * from * to);
    b.push(op, winograd_kernel(taps, c_in, c_out, backward), vec![kernel, kernels]);
    for images in parts(b, window, from + to) {
        let tiles = Tiles { window, first: images.start, images: images.len() };
        let inputs = b.workspace(components * tiles.count() * from);
        b.push(op, winograd_input(&tiles, from), vec![images_in, inputs]);
        let sums = b.workspace(components * tiles.count() * to);
        let gemm = Gemm {
            a: Matrix { group: tiles.count() * from, ..Matrix::rows(from) },
            b: Matrix { group: from * to, ..Matrix::rows(c_out) },
            c: Matrix { group: tiles.count() * to, ..Matrix::rows(to) },
            transpose_b: backward,
            groups: components,
            m_per_row: tiles.per_image(),
            first_row: images.start,
            ..Gemm::plain(tiles.count(), to, from)
        };
        b.gemm(op, &gemm, &GemmBuffers::plain(inputs, kernels, sums));
        let mut resources = vec![sums, operand.map_or(sums, Resource::Value), Resource::Value(output)];
        resources.extend(positions.map(Resource::Value));
        b.push(op, winograd_output(&tiles, to, kind, positions.is_some()), resources);
    }
}

pub(super) fn grad_kernel(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    let [x, dy] = operands(op);
    let window = conv.window;
    let taps = window.kernel[0];
    let components = components(taps);
    let sums = b.workspace(components * conv.c_in * conv.c_out);
    for images in parts(b, window, conv.c_in + conv.c_out) {
        let tiles = Tiles { window, first: images.start, images: images.len() };
        let inputs = b.workspace(components * tiles.count() * conv.c_in);
        b.push(op, winograd_input(&tiles, conv.c_in), vec![x, inputs]);
        let gradients = b.workspace(components * tiles.count() * conv.c_out);
        b.push(op, winograd_output_grad(&tiles, conv.c_out), vec![dy, gradients]);
        let gemm = Gemm {
            a: Matrix { group: tiles.count() * conv.c_in, ..Matrix::rows(conv.c_in) },
            b: Matrix { group: tiles.count() * conv.c_out, ..Matrix::rows(conv.c_out) },
            c: Matrix { group: conv.c_in * conv.c_out, ..Matrix::rows(conv.c_out) },
            transpose_a: true,
            groups: components,
            k_per_row: tiles.per_image(),
            first_row: images.start,
            accumulate: images.start > 0,
            ..Gemm::plain(conv.c_in, conv.c_out, tiles.count())
        };
        b.gemm(op, &gemm, &GemmBuffers::plain(inputs, gradients, sums));
    }
    b.push(op, winograd_kernel_grad(taps, conv.c_in, conv.c_out), vec![sums, result(op)]);
}

/// Divides the batch so that the transformed input and output images of each part, with `channels` channels
/// in total, fit a workspace.
fn parts(b: &Builder, window: WindowGeometry, channels: usize) -> Vec<Range<usize>> {
    let of_image = components(window.kernel[0]) * Tiles { window, first: 0, images: 1 }.count() * channels;
    b.parts_of_batch(of_image, PART_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Padding, Window};

    #[test]
    fn winograd_is_not_applicable_if_transformed_tensors_exceed_a_binding() {
        let applies = |size: usize, channels: usize, taps: usize| {
            let window = Window { padding: Padding::Same, ..Window::new([taps, taps]) };
            let conv = Conv2d::new([size, size, channels], channels, window, 1, "conv").unwrap();
            is_applicable(&conv, 128 << 20)
        };
        assert!(applies(64, 32, 5) && applies(64, 32, 3));
        // The binding limit is 128 MiB. A 640 x 640 image with 32 channels takes 52 MB; transformed, it takes
        // 118 MB (3x3 kernel) or 210 MB (5x5). The transformed kernels from 1024 to 1024 channels take 151 MB
        // (3x3) or 268 MB (5x5).
        assert!(applies(640, 32, 3) && !applies(640, 32, 5));
        assert!(!applies(64, 1024, 3) && !applies(64, 1024, 5));
    }
}
