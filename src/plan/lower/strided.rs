//! The gradient of an image through a strided convolution, without columns in memory: pixels that lie a stride apart see the same
//! taps of the kernel, so that each such set of pixels is a convolution of stride 1 with a part of the kernel.

use super::Lowering;
use super::conv::output_matrix;
use crate::graph::Conv2d;
use crate::kernels::{Gemm, Matrix, PixelSet, Source};
use crate::shape::WindowGeometry;

/// Along one axis: the pixels `first, first + stride, ..`, and the taps that reach them.
struct Along {
    pixels: usize,
    first_tap: usize,
    taps: usize,
    /// From a tap to the next.
    step: usize,
    /// Which row (or column) of the output the first tap reaches from the first pixel.
    output: i32,
    /// How many rows of the output lie between two taps.
    dilation: usize,
}

impl Lowering<'_> {
    /// A GEMM for each set of pixels.
    pub(super) fn strided_grad_input(&self, conv: &Conv2d) -> Vec<Gemm> {
        let w = &conv.window;
        let along = |axis: usize| -> Vec<Along> {
            (0..w.stride[axis].min(w.input[axis])).map(|first| along(w, axis, first)).collect()
        };
        let (lines, columns) = (along(0), along(1));
        let mut products = Vec::new();
        for (row, down) in lines.iter().enumerate() {
            for (column, across) in columns.iter().enumerate() {
                products.push(self.set_product(conv, [row, column], [down, across]));
            }
        }
        products
    }

    /// Of the pixels that begin at `first`.
    fn set_product(&self, conv: &Conv2d, first: [usize; 2], [down, across]: [&Along; 2]) -> Gemm {
        let w = &conv.window;
        let window = WindowGeometry {
            input: [down.pixels, across.pixels],
            kernel: [down.taps.max(1), across.taps.max(1)],
            stride: [1, 1],
            dilation: [down.dilation, across.dilation],
            pad_begin: [0, 0],
            output: w.output,
        };
        // A tap's part of the kernel.
        let tap = conv.c_in_per_group() * conv.c_out;
        let line = w.input[1] * conv.c_in;
        Gemm {
            m: self.graph.batch() * down.pixels * across.pixels,
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
}

fn along(w: &WindowGeometry, axis: usize, first: usize) -> Along {
    let (stride, dilation) = (w.stride[axis], w.dilation[axis]);
    // From the padding's edge; below 0 where the tap lies beyond the first pixel.
    let distance = |tap: usize| (first + w.pad_begin[axis]) as i64 - (tap * dilation) as i64;
    let taps: Vec<usize> = (0..w.kernel[axis]).filter(|&tap| distance(tap) % stride as i64 == 0).collect();
    // Without any, nothing is made of the rest.
    let first_tap = taps.first().copied().unwrap_or(0);
    let step = taps.get(1).map_or(1, |second| second - first_tap);
    Along {
        pixels: (w.input[axis] - first).div_ceil(stride),
        first_tap,
        taps: taps.len(),
        step,
        output: (distance(first_tap) / stride as i64) as i32,
        dilation: step * dilation / stride,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pair of a pixel and a tap that reaches an output is in one set, with that output.
    #[test]
    fn sets_hold_what_the_window_says() {
        let mut beyond = 0;
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
                let set = along(&w, 0, first);
                beyond += usize::from(set.output < 0);
                for (number, pixel) in (first..input).step_by(stride).enumerate() {
                    assert!(number < set.pixels);
                    for tap in 0..set.taps {
                        let at = number as i64 + i64::from(set.output) - (tap * set.dilation) as i64;
                        if (0..output as i64).contains(&at) {
                            found.push((at as usize, set.first_tap + tap * set.step, pixel));
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
        assert!(beyond > 0, "a first tap beyond the first pixel");
    }

    #[test]
    fn some_pixels_are_reached_by_no_tap() {
        let w = WindowGeometry {
            input: [6, 6],
            kernel: [1, 2],
            stride: [2, 2],
            dilation: [1, 1],
            pad_begin: [0, 0],
            output: [3, 3],
        };
        assert_eq!([(0, 0), (0, 1), (1, 1)].map(|(axis, first)| along(&w, axis, first).taps), [1, 0, 1]);
    }
}
