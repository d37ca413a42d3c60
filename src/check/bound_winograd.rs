//! The bound of results by Winograd's F(4x4, 3x3): the transforms on sizes. They grow numbers before they cancel, so that this is
//! wider than the bound of a plain sum.

use super::bound::HALF_ULP;
use crate::graph::{Conv2d, Op};

/// Roundings on the way of one term: two in each direction of each of three transforms, and their constants'.
const ROUNDINGS: f64 = 16.0;

const INPUT: [[f64; 6]; 6] = [
    [4.0, 0.0, 5.0, 0.0, 1.0, 0.0],
    [0.0, 4.0, 4.0, 1.0, 1.0, 0.0],
    [0.0, 4.0, 4.0, 1.0, 1.0, 0.0],
    [0.0, 2.0, 1.0, 2.0, 1.0, 0.0],
    [0.0, 2.0, 1.0, 2.0, 1.0, 0.0],
    [0.0, 4.0, 0.0, 5.0, 0.0, 1.0],
];
const KERNEL: [[f64; 3]; 6] = [
    [1.0 / 4.0, 0.0, 0.0],
    [1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0],
    [1.0 / 6.0, 1.0 / 6.0, 1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];
const OUTPUT: [[f64; 6]; 4] = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, 1.0, 1.0, 2.0, 2.0, 0.0],
    [0.0, 1.0, 1.0, 4.0, 4.0, 0.0],
    [0.0, 1.0, 1.0, 8.0, 8.0, 1.0],
];

/// The bound of each element, for `rows` examples; `None` for an operation that has no such transforms.
pub fn of_node(op: &Op, operands: [&[f64]; 2], rows: usize) -> Option<Vec<f64>> {
    match op {
        Op::Conv2d(conv) => Some(images(conv, operands, rows, false)),
        Op::Conv2dGradInput(conv) => Some(images(conv, operands, rows, true)),
        Op::Conv2dGradKernel(conv) => Some(kernel(conv, operands, rows)),
        _ => None,
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
fn images(conv: &Conv2d, [x, kernel]: [&[f64]; 2], rows: usize, back: bool) -> Vec<f64> {
    let w = &conv.window;
    let (from, to) = if back { (conv.c_out, conv.c_in) } else { (conv.c_in, conv.c_out) };
    let (input, output) = if back { (w.output, w.input) } else { (w.input, w.output) };
    let pad = w.pad_begin.map(|pad| if back { 2 - pad as isize } else { pad as isize });
    let (in_image, out_image) = (input[0] * input[1] * from, output[0] * output[1] * to);
    let mut bounds = vec![0.0; x.len() / in_image * out_image];
    let factor = (ROUNDINGS + (from as f64).sqrt()) * HALF_ULP;
    for image in 0..rows {
        let source = &x[image * in_image..(image + 1) * in_image];
        for row in (0..output[0]).step_by(4) {
            for column in (0..output[1]).step_by(4) {
                let corner = [row as isize - pad[0], column as isize - pad[1]];
                for d in 0..to {
                    let mut sums = [[0.0; 6]; 6];
                    for c in 0..from {
                        let v = both_ways(&INPUT, &square::<6>(source, input, from, corner, c));
                        let tap = |i: usize, j: usize| {
                            let (i, j) = if back { (2 - i, 2 - j) } else { (i, j) };
                            let (ci, co) = if back { (d, c) } else { (c, d) };
                            kernel[((3 * i + j) * conv.c_in + ci) * conv.c_out + co]
                        };
                        let g: [[f64; 3]; 3] = std::array::from_fn(|i| std::array::from_fn(|j| tap(i, j)));
                        let u = both_ways(&KERNEL, &g);
                        (0..36).for_each(|xi| sums[xi / 6][xi % 6] += u[xi / 6][xi % 6] * v[xi / 6][xi % 6]);
                    }
                    let y = both_ways(&OUTPUT, &sums);
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

fn kernel(conv: &Conv2d, [x, dy]: [&[f64]; 2], rows: usize) -> Vec<f64> {
    let w = &conv.window;
    let (c_in, c_out) = (conv.c_in, conv.c_out);
    let (in_image, out_image) = (w.input[0] * w.input[1] * c_in, w.output[0] * w.output[1] * c_out);
    let tiles = rows * w.output.map(|n| n.div_ceil(4)).iter().product::<usize>();
    let factor = (ROUNDINGS + (tiles as f64).sqrt()) * HALF_ULP;
    let mut bounds = vec![0.0; 9 * c_in * c_out];
    for c in 0..c_in {
        for d in 0..c_out {
            let mut sums = [[0.0; 6]; 6];
            for image in 0..rows {
                for row in (0..w.output[0]).step_by(4) {
                    for column in (0..w.output[1]).step_by(4) {
                        let pad = w.pad_begin.map(|pad| pad as isize);
                        let corner = [row as isize - pad[0], column as isize - pad[1]];
                        let source = &x[image * in_image..(image + 1) * in_image];
                        let v = both_ways(&INPUT, &square::<6>(source, w.input, c_in, corner, c));
                        let source = &dy[image * out_image..(image + 1) * out_image];
                        let corner = [row as isize, column as isize];
                        let tile = square::<4>(source, w.output, c_out, corner, d);
                        let u = both_ways(&transposed(&OUTPUT), &tile);
                        (0..36).for_each(|xi| sums[xi / 6][xi % 6] += u[xi / 6][xi % 6] * v[xi / 6][xi % 6]);
                    }
                }
            }
            let size = both_ways(&transposed(&KERNEL), &sums);
            (0..9).for_each(|tap| bounds[(tap * c_in + c) * c_out + d] = factor * size[tap / 3][tap % 3]);
        }
    }
    bounds
}
