//! The bound of results by Winograd's F(4x4, 3x3) and F(4x4, 5x5): the transforms on sizes. They grow numbers before they cancel,
//! so that this is wider than the bound of a plain sum.

use super::bound::HALF_ULP;
use crate::graph::{Conv2d, Op};

/// The sizes of the transforms in one dimension, of `P` points and `T` taps.
struct Sizes<const P: usize, const T: usize> {
    /// On the way of one term, at most: of input, kernel and output in each direction, constants' too, fused operations as two.
    roundings: f64,
    input: [[f64; P]; P],
    kernel: [[f64; T]; P],
    output: [[f64; P]; 4],
}

const OF_3: Sizes<6, 3> = Sizes {
    roundings: 2.0 * (3.0 + 4.0 + 3.0),
    input: [
        [4.0, 0.0, 5.0, 0.0, 1.0, 0.0],
        [0.0, 4.0, 4.0, 1.0, 1.0, 0.0],
        [0.0, 4.0, 4.0, 1.0, 1.0, 0.0],
        [0.0, 2.0, 1.0, 2.0, 1.0, 0.0],
        [0.0, 2.0, 1.0, 2.0, 1.0, 0.0],
        [0.0, 4.0, 0.0, 5.0, 0.0, 1.0],
    ],
    kernel: [
        [1.0 / 4.0, 0.0, 0.0],
        [1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0],
        [1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
        [0.0, 0.0, 1.0],
    ],
    output: [
        [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        [0.0, 1.0, 1.0, 2.0, 2.0, 0.0],
        [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
        [0.0, 1.0, 1.0, 8.0, 8.0, 1.0],
    ],
};

const OF_5: Sizes<8, 5> = Sizes {
    roundings: 2.0 * (4.0 + 5.0 + 4.0),
    input: [
        [1.0, 0.0, 5.25, 0.0, 5.25, 0.0, 1.0, 0.0],
        [0.0, 1.0, 1.0, 4.25, 4.25, 1.0, 1.0, 0.0],
        [0.0, 1.0, 1.0, 4.25, 4.25, 1.0, 1.0, 0.0],
        [0.0, 0.5, 0.25, 2.5, 1.25, 2.0, 1.0, 0.0],
        [0.0, 0.5, 0.25, 2.5, 1.25, 2.0, 1.0, 0.0],
        [0.0, 2.0, 4.0, 2.5, 5.0, 0.5, 1.0, 0.0],
        [0.0, 2.0, 4.0, 2.5, 5.0, 0.5, 1.0, 0.0],
        [0.0, 1.0, 0.0, 5.25, 0.0, 5.25, 0.0, 1.0],
    ],
    kernel: [
        [1.0, 0.0, 0.0, 0.0, 0.0],
        [2.0 / 9.0, 2.0 / 9.0, 2.0 / 9.0, 2.0 / 9.0, 2.0 / 9.0],
        [2.0 / 9.0, 2.0 / 9.0, 2.0 / 9.0, 2.0 / 9.0, 2.0 / 9.0],
        [1.0 / 90.0, 1.0 / 45.0, 2.0 / 45.0, 4.0 / 45.0, 8.0 / 45.0],
        [1.0 / 90.0, 1.0 / 45.0, 2.0 / 45.0, 4.0 / 45.0, 8.0 / 45.0],
        [32.0 / 45.0, 16.0 / 45.0, 8.0 / 45.0, 4.0 / 45.0, 2.0 / 45.0],
        [32.0 / 45.0, 16.0 / 45.0, 8.0 / 45.0, 4.0 / 45.0, 2.0 / 45.0],
        [0.0, 0.0, 0.0, 0.0, 1.0],
    ],
    output: [
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        [0.0, 1.0, 1.0, 2.0, 2.0, 0.5, 0.5, 0.0],
        [0.0, 1.0, 1.0, 4.0, 4.0, 0.25, 0.25, 0.0],
        [0.0, 1.0, 1.0, 8.0, 8.0, 0.125, 0.125, 1.0],
    ],
};

/// The bound of each element, for `rows` examples; `None` for an operation that has no such transforms.
pub fn of_node(op: &Op, operands: [&[f64]; 2], rows: usize) -> Option<Vec<f64>> {
    let (Op::Conv2d(conv) | Op::Conv2dGradInput(conv) | Op::Conv2dGradKernel(conv)) = op else { return None };
    match conv.window.kernel {
        [5, 5] => Some(of_conv(&OF_5, op, conv, operands, rows)),
        _ => Some(of_conv(&OF_3, op, conv, operands, rows)),
    }
}

fn of_conv<const P: usize, const T: usize>(
    sizes: &Sizes<P, T>,
    op: &Op,
    conv: &Conv2d,
    operands: [&[f64]; 2],
    rows: usize,
) -> Vec<f64> {
    match op {
        Op::Conv2dGradKernel(_) => kernel(sizes, conv, operands, rows),
        _ => images(sizes, conv, operands, rows, matches!(op, Op::Conv2dGradInput(_))),
    }
}

/// `m * tile * m^T` of the sizes in a tile.
fn both_ways<const N: usize, const M: usize>(m: &[[f64; N]; M], tile: &[[f64; N]; N]) -> [[f64; M]; M] {
    let mut half = [[0.0; N]; M];
    for (i, row) in m.iter().enumerate() {
        for j in 0..N {
            half[i][j] = (0..N).map(|k| row[k] * tile[k][j].abs()).sum();
        }
    }
    let mut whole = [[0.0; M]; M];
    for i in 0..M {
        for (j, row) in m.iter().enumerate() {
            whole[i][j] = (0..N).map(|k| half[i][k] * row[k]).sum();
        }
    }
    whole
}

fn transposed<const N: usize, const M: usize>(m: &[[f64; N]; M]) -> [[f64; M]; N] {
    std::array::from_fn(|i| std::array::from_fn(|j| m[j][i]))
}

/// A square of an image from a corner that may lie outside, where it is 0.
fn square<const N: usize>(
    image: &[f64],
    size: [usize; 2],
    channels: usize,
    corner: [isize; 2],
    c: usize,
) -> [[f64; N]; N] {
    std::array::from_fn(|i| {
        std::array::from_fn(|j| {
            let (h, w) = (corner[0] + i as isize, corner[1] + j as isize);
            let inside = h >= 0 && w >= 0 && h < size[0] as isize && w < size[1] as isize;
            if inside { image[(h as usize * size[1] + w as usize) * channels + c] } else { 0.0 }
        })
    })
}

/// Results (or, `back`, gradients of inputs) by tiles.
fn images<const P: usize, const T: usize>(
    sizes: &Sizes<P, T>,
    conv: &Conv2d,
    [x, kernel]: [&[f64]; 2],
    rows: usize,
    back: bool,
) -> Vec<f64> {
    let w = &conv.window;
    let (from, to) = if back { (conv.c_out, conv.c_in) } else { (conv.c_in, conv.c_out) };
    let (input, output) = if back { (w.output, w.input) } else { (w.input, w.output) };
    let pad = w.pad_begin.map(|pad| if back { T as isize - 1 - pad as isize } else { pad as isize });
    let (in_image, out_image) = (input[0] * input[1] * from, output[0] * output[1] * to);
    let mut bounds = vec![0.0; x.len() / in_image * out_image];
    let factor = (sizes.roundings + (from as f64).sqrt()) * HALF_ULP;
    for image in 0..rows {
        let source = &x[image * in_image..(image + 1) * in_image];
        for row in (0..output[0]).step_by(4) {
            for column in (0..output[1]).step_by(4) {
                let corner = [row as isize - pad[0], column as isize - pad[1]];
                for d in 0..to {
                    let mut sums = [[0.0; P]; P];
                    for c in 0..from {
                        let v = both_ways(&sizes.input, &square::<P>(source, input, from, corner, c));
                        let tap = |i: usize, j: usize| {
                            let (i, j) = if back { (T - 1 - i, T - 1 - j) } else { (i, j) };
                            let (ci, co) = if back { (d, c) } else { (c, d) };
                            kernel[((T * i + j) * conv.c_in + ci) * conv.c_out + co]
                        };
                        let g: [[f64; T]; T] = std::array::from_fn(|i| std::array::from_fn(|j| tap(i, j)));
                        let u = both_ways(&sizes.kernel, &g);
                        (0..P * P)
                            .for_each(|xi| sums[xi / P][xi % P] += u[xi / P][xi % P] * v[xi / P][xi % P]);
                    }
                    let y = both_ways(&sizes.output, &sums);
                    for (i, line) in y.iter().enumerate().take(output[0] - row) {
                        for (j, size) in line.iter().enumerate().take(output[1] - column) {
                            let at = image * out_image + ((row + i) * output[1] + column + j) * to + d;
                            bounds[at] = factor * size;
                        }
                    }
                }
            }
        }
    }
    bounds
}

fn kernel<const P: usize, const T: usize>(
    sizes: &Sizes<P, T>,
    conv: &Conv2d,
    [x, dy]: [&[f64]; 2],
    rows: usize,
) -> Vec<f64> {
    let w = &conv.window;
    let (c_in, c_out) = (conv.c_in, conv.c_out);
    let (in_image, out_image) = (w.input[0] * w.input[1] * c_in, w.output[0] * w.output[1] * c_out);
    let tiles = rows * w.output.map(|n| n.div_ceil(4)).iter().product::<usize>();
    let factor = (sizes.roundings + (tiles as f64).sqrt()) * HALF_ULP;
    let mut bounds = vec![0.0; T * T * c_in * c_out];
    for c in 0..c_in {
        for d in 0..c_out {
            let mut sums = [[0.0; P]; P];
            for image in 0..rows {
                for row in (0..w.output[0]).step_by(4) {
                    for column in (0..w.output[1]).step_by(4) {
                        let pad = w.pad_begin.map(|pad| pad as isize);
                        let corner = [row as isize - pad[0], column as isize - pad[1]];
                        let source = &x[image * in_image..(image + 1) * in_image];
                        let v = both_ways(&sizes.input, &square::<P>(source, w.input, c_in, corner, c));
                        let source = &dy[image * out_image..(image + 1) * out_image];
                        let corner = [row as isize, column as isize];
                        let tile = square::<4>(source, w.output, c_out, corner, d);
                        let u = both_ways(&transposed(&sizes.output), &tile);
                        (0..P * P)
                            .for_each(|xi| sums[xi / P][xi % P] += u[xi / P][xi % P] * v[xi / P][xi % P]);
                    }
                }
            }
            let size = both_ways(&transposed(&sizes.kernel), &sums);
            (0..T * T).for_each(|tap| bounds[(tap * c_in + c) * c_out + d] = factor * size[tap / T][tap % T]);
        }
    }
    bounds
}
