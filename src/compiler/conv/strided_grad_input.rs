//! Input gradient of a strided convolution, without a column matrix in memory. Input pixels whose distance is
//! a multiple of the stride use the same kernel positions, so the gradient of each such set of pixels is a
//! convolution of stride 1 with a subset of the kernel.

use super::operands::{operands, output_matrix};
use crate::compiler::ir::Operation;
use crate::compiler::lower::{Builder, Resource};
use crate::graph::Conv2d;
use crate::kernels::{Epilogue, Extent, Gemm, Matrix, PixelSet, Source, zero};
use crate::shape::WindowGeometry;

/// One axis of a pixel set: the input pixels `first, first + stride, ..`, and the kernel positions (taps)
/// that multiply these pixels.
struct Axis {
    pixels: usize,
    first_tap: usize,
    taps: usize,
    /// Distance between consecutive taps of the set, in kernel positions.
    step: usize,
    /// Output row (or column) that the first pixel contributes to through the first tap.
    output: i32,
    /// Distance, in output rows (or columns), between the outputs that a pixel contributes to through
    /// consecutive taps.
    dilation: usize,
}

/// Lowers the input gradient to one GEMM per pixel set. If several sets have no kernel positions, as with a 1x1
/// kernel, one dispatch sets the whole gradient to 0 first.
pub(super) fn grad_input(b: &mut Builder, op: &Operation, conv: &Conv2d) {
    let [dy, kernel] = operands(op);
    let w = &conv.window;
    let sets = |axis: usize| -> Vec<Axis> {
        (0..w.stride[axis].min(w.input[axis])).map(|first| set(w, axis, first)).collect()
    };
    let (down, across) = (sets(0), sets(1));
    let empty = |(down, across): (&Axis, &Axis)| down.taps * across.taps == 0;
    let pairs = down.iter().flat_map(|down| across.iter().map(move |across| (down, across)));
    // An epilogue also applies to the pixels that no output reads.
    let zeros = op.epilogue().kind == Epilogue::None && pairs.filter(|&pair| empty(pair)).count() > 1;
    if zeros {
        let per_row = w.input[0] * w.input[1] * conv.c_in;
        let launch = zero(Extent { elements: b.settings.batch * per_row, per_row });
        b.push(op, launch, vec![Resource::Value(op.epilogue().output)]);
    }
    for (row, down) in down.iter().enumerate() {
        for (column, across) in across.iter().enumerate() {
            if zeros && empty((down, across)) {
                continue;
            }
            let gemm = set_gemm(b.settings.batch, conv, [row, column], [down, across]);
            b.gemm_with_epilogue(op, &gemm, dy, kernel);
        }
    }
}

/// Returns the GEMM of the pixel set whose first pixel is `first`.
fn set_gemm(batch: usize, conv: &Conv2d, first: [usize; 2], [down, across]: [&Axis; 2]) -> Gemm {
    let w = &conv.window;
    let window = WindowGeometry {
        input: [down.pixels, across.pixels],
        kernel: [down.taps.max(1), across.taps.max(1)],
        stride: [1, 1],
        dilation: [down.dilation, across.dilation],
        pad_begin: [0, 0],
        output: w.output,
    };
    // Number of kernel elements at one kernel position.
    let tap = conv.c_in_per_group() * conv.c_out;
    let line = w.input[1] * conv.c_in;
    Gemm {
        m: batch * down.pixels * across.pixels,
        n: conv.c_in_per_group(),
        k: window.taps() * conv.c_out_per_group(),
        a: output_matrix(conv, 0),
        source: Source::Gradients(window),
        b: Matrix {
            stride: conv.c_out,
            group: conv.c_out_per_group(),
            offset: (down.first_tap * w.kernel[1] + across.first_tap) * tap,
        },
        c: Matrix {
            stride: w.stride[1] * conv.c_in,
            group: conv.c_in_per_group(),
            offset: first[0] * line + first[1] * conv.c_in,
        },
        transpose_b: true,
        groups: conv.groups,
        m_per_row: down.pixels * across.pixels,
        pixel_set: Some(PixelSet {
            first: [down.output, across.output],
            b_tap: [down.step * w.kernel[1] * tap, across.step * tap],
            c_line: w.stride[0] * line,
            c_image: w.input[0] * line,
            reached: down.taps * across.taps > 0,
        }),
        ..Gemm::plain(0, 0, 0)
    }
}

/// Returns one axis (0 for rows, 1 for columns) of the pixel set whose first pixel is `first`.
fn set(w: &WindowGeometry, axis: usize, first: usize) -> Axis {
    let (stride, dilation) = (w.stride[axis], w.dilation[axis]);
    // Begin of the window whose tap `tap` reads the first pixel, relative to the begin of the padding;
    // negative if the window would begin before the padding.
    let corner = |tap: usize| (first + w.pad_begin[axis]) as i64 - (tap * dilation) as i64;
    let taps: Vec<usize> = (0..w.kernel[axis]).filter(|&tap| corner(tap) % stride as i64 == 0).collect();
    // If the set has no taps, its gradient is 0, and `first_tap` and the fields computed from it are not
    // used.
    let first_tap = taps.first().copied().unwrap_or(0);
    let step = taps.get(1).map_or(1, |second| second - first_tap);
    Axis {
        pixels: (w.input[axis] - first).div_ceil(stride),
        first_tap,
        taps: taps.len(),
        step,
        output: (corner(first_tap) / stride as i64) as i32,
        dilation: step * dilation / stride,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that every pair of an input pixel and a tap that contributes to an output occurs in exactly one
    /// pixel set, and that the set maps it to that output. Each row is `[stride, dilation, padding, kernel,
    /// input]` of one axis.
    #[test]
    fn sets_cover_every_pair_of_pixel_and_tap_once() {
        let mut negative_outputs = 0;
        let windows: [[usize; 5]; 6] = [
            [2, 1, 1, 3, 9],
            [2, 1, 0, 2, 8],
            [2, 3, 2, 3, 11],
            [3, 2, 0, 5, 13],
            [4, 1, 3, 7, 10],
            [3, 1, 1, 3, 2],
        ];
        for [stride, dilation, pad, kernel, input] in windows {
            let output = (input + 2 * pad + stride).saturating_sub((kernel - 1) * dilation + 1) / stride;
            let w = WindowGeometry {
                input: [input; 2],
                kernel: [kernel; 2],
                stride: [stride; 2],
                dilation: [dilation; 2],
                pad_begin: [pad; 2],
                output: [output; 2],
            };
            let mut found = Vec::new();
            for first in 0..stride.min(input) {
                let pixels = set(&w, 0, first);
                negative_outputs += usize::from(pixels.output < 0);
                for (number, pixel) in (first..input).step_by(stride).enumerate() {
                    assert!(number < pixels.pixels);
                    for tap in 0..pixels.taps {
                        let at = number as i64 + i64::from(pixels.output) - (tap * pixels.dilation) as i64;
                        if (0..output as i64).contains(&at) {
                            found.push((at as usize, pixels.first_tap + tap * pixels.step, pixel));
                        }
                    }
                }
            }
            found.sort_unstable();
            let pairs = (0..output).flat_map(|out| (0..kernel).map(move |tap| (out, tap)));
            let want: Vec<_> =
                pairs.filter_map(|(out, tap)| Some((out, tap, w.source(0, out, tap)?))).collect();
            assert_eq!(found, want, "stride {stride}, dilation {dilation}, padding {pad}");
        }
        assert!(negative_outputs > 0, "expected a case with a window that begins before the padding");
    }

    #[test]
    fn pixels_between_taps_have_no_taps() {
        let w = WindowGeometry {
            input: [6, 6],
            kernel: [1, 2],
            stride: [2, 2],
            dilation: [1, 1],
            pad_begin: [0, 0],
            output: [3, 3],
        };
        assert_eq!([(0, 0), (0, 1), (1, 1)].map(|(axis, first)| set(&w, axis, first).taps), [1, 0, 1]);
    }
}
