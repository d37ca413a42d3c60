//! Bounds of Winograd's F(4x4, 3x3), F(4x4, 5x5) and F(2x2, 3x3): the transforms of the operands' magnitudes, with the
//! absolute values of the transform matrices. The transforms increase magnitudes before they cancel, so these
//! bounds are larger than those of a direct sum.

use crate::compiler::Winograd;
use crate::conformance::compare::HALF_ULP;
use crate::graph::{Conv2d, Op};

/// The absolute values of the transforms in one dimension, for a kernel of `T` elements, `O` outputs and `P = T + O
/// - 1` points.
struct Transforms<const P: usize, const T: usize, const O: usize> {
    /// Maximum number of roundings of one term: those of the input, kernel and output transforms in both
    /// directions, including the rounding of constants; a fused multiply-add counts as two.
    roundings: f64,
    input: [[f64; P]; P],
    kernel: [[f64; T]; P],
    output: [[f64; P]; O],
}

const F2X2_3X3: Transforms<4, 3, 2> = Transforms {
    roundings: 2.0 * (1.0 + 2.0 + 2.0),
    input: [[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]],
    kernel: [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0.0, 0.0, 1.0]],
    output: [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0]],
};

const F4X4_3X3: Transforms<6, 3, 4> = Transforms {
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

const F4X4_5X5: Transforms<8, 5, 4> = Transforms {
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

/// The bound of each result for `rows` examples; `None` if the operation is not a convolution, or computed without
/// Winograd.
pub(super) fn convolution(
    winograd: Winograd,
    op: &Op,
    operands: [&[f64]; 2],
    rows: usize,
) -> Option<Vec<f64>> {
    let (Op::Conv2d(conv) | Op::Conv2dGradInput(conv) | Op::Conv2dGradKernel(conv)) = op else { return None };
    match (winograd, conv.window.kernel, op) {
        (Winograd::Never | Winograd::Auto, ..) | (Winograd::Fused, _, Op::Conv2dGradKernel(_)) => None,
        (Winograd::Fused, ..) => Some(with_transforms(&F2X2_3X3, op, conv, operands, rows)),
        (Winograd::Always, [5, 5], _) => Some(with_transforms(&F4X4_5X5, op, conv, operands, rows)),
        (Winograd::Always, ..) => Some(with_transforms(&F4X4_3X3, op, conv, operands, rows)),
    }
}

fn with_transforms<const P: usize, const T: usize, const O: usize>(
    transforms: &Transforms<P, T, O>,
    op: &Op,
    conv: &Conv2d,
    operands: [&[f64]; 2],
    rows: usize,
) -> Vec<f64> {
    match op {
        Op::Conv2dGradKernel(_) => grad_kernel(transforms, conv, operands, rows),
        _ => images(transforms, conv, operands, rows, matches!(op, Op::Conv2dGradInput(_))),
    }
}

/// Returns `m * |tile| * m^T`, the transform of the magnitudes of a tile.
fn transform<const N: usize, const M: usize>(m: &[[f64; N]; M], tile: &[[f64; N]; N]) -> [[f64; M]; M] {
    let mut left = [[0.0; N]; M];
    for (i, row) in m.iter().enumerate() {
        for j in 0..N {
            left[i][j] = (0..N).map(|k| row[k] * tile[k][j].abs()).sum();
        }
    }
    let mut both = [[0.0; M]; M];
    for i in 0..M {
        for (j, row) in m.iter().enumerate() {
            both[i][j] = (0..N).map(|k| left[i][k] * row[k]).sum();
        }
    }
    both
}

fn transposed<const N: usize, const M: usize>(m: &[[f64; N]; M]) -> [[f64; M]; N] {
    std::array::from_fn(|i| std::array::from_fn(|j| m[j][i]))
}

/// The `N` x `N` pixels of channel `c` whose top-left pixel is `corner`; pixels outside of the image are 0.
fn tile<const N: usize>(
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

/// Adds the elementwise product of two transformed tiles to `sums`.
fn add_product<const P: usize>(sums: &mut [[f64; P]; P], u: &[[f64; P]; P], v: &[[f64; P]; P]) {
    for i in 0..P {
        for j in 0..P {
            sums[i][j] += u[i][j] * v[i][j];
        }
    }
}

/// The bounds of the forward convolution, or of the input gradient if `grad_input`, tile by tile.
fn images<const P: usize, const T: usize, const O: usize>(
    transforms: &Transforms<P, T, O>,
    conv: &Conv2d,
    [x, kernel]: [&[f64]; 2],
    rows: usize,
    grad_input: bool,
) -> Vec<f64> {
    let w = &conv.window;
    let (from, to) = if grad_input { (conv.c_out, conv.c_in) } else { (conv.c_in, conv.c_out) };
    let (input, output) = if grad_input { (w.output, w.input) } else { (w.input, w.output) };
    let pad = w.pad_begin.map(|pad| if grad_input { T as isize - 1 - pad as isize } else { pad as isize });
    let (in_image, out_image) = (input[0] * input[1] * from, output[0] * output[1] * to);
    let mut bounds = vec![0.0; x.len() / in_image * out_image];
    let factor = (transforms.roundings + (from as f64).sqrt()) * HALF_ULP;
    for image in 0..rows {
        let source = &x[image * in_image..(image + 1) * in_image];
        for row in (0..output[0]).step_by(O) {
            for column in (0..output[1]).step_by(O) {
                let corner = [row as isize - pad[0], column as isize - pad[1]];
                for d in 0..to {
                    let mut sums = [[0.0; P]; P];
                    for c in 0..from {
                        let v = transform(&transforms.input, &tile::<P>(source, input, from, corner, c));
                        let weight = |i: usize, j: usize| {
                            let (i, j) = if grad_input { (T - 1 - i, T - 1 - j) } else { (i, j) };
                            let (ci, co) = if grad_input { (d, c) } else { (c, d) };
                            kernel[((T * i + j) * conv.c_in + ci) * conv.c_out + co]
                        };
                        let g: [[f64; T]; T] = std::array::from_fn(|i| std::array::from_fn(|j| weight(i, j)));
                        add_product(&mut sums, &transform(&transforms.kernel, &g), &v);
                    }
                    let y = transform(&transforms.output, &sums);
                    for (i, line) in y.iter().enumerate().take(output[0] - row) {
                        for (j, magnitude) in line.iter().enumerate().take(output[1] - column) {
                            let pixel = (row + i) * output[1] + column + j;
                            bounds[image * out_image + pixel * to + d] = factor * magnitude;
                        }
                    }
                }
            }
        }
    }
    bounds
}

/// The bounds of the weight gradient: components are summed over all tiles, then transformed to kernel
/// elements.
fn grad_kernel<const P: usize, const T: usize, const O: usize>(
    transforms: &Transforms<P, T, O>,
    conv: &Conv2d,
    [x, dy]: [&[f64]; 2],
    rows: usize,
) -> Vec<f64> {
    let w = &conv.window;
    let (c_in, c_out) = (conv.c_in, conv.c_out);
    let (in_image, out_image) = (w.input[0] * w.input[1] * c_in, w.output[0] * w.output[1] * c_out);
    let tiles = rows * w.output.map(|n| n.div_ceil(O)).iter().product::<usize>();
    let factor = (transforms.roundings + (tiles as f64).sqrt()) * HALF_ULP;
    let mut bounds = vec![0.0; T * T * c_in * c_out];
    for c in 0..c_in {
        for d in 0..c_out {
            let mut sums = [[0.0; P]; P];
            for image in 0..rows {
                for row in (0..w.output[0]).step_by(O) {
                    for column in (0..w.output[1]).step_by(O) {
                        let pad = w.pad_begin.map(|pad| pad as isize);
                        let corner = [row as isize - pad[0], column as isize - pad[1]];
                        let source = &x[image * in_image..(image + 1) * in_image];
                        let v = transform(&transforms.input, &tile::<P>(source, w.input, c_in, corner, c));
                        let source = &dy[image * out_image..(image + 1) * out_image];
                        let corner = [row as isize, column as isize];
                        let gradient = tile::<O>(source, w.output, c_out, corner, d);
                        add_product(&mut sums, &transform(&transposed(&transforms.output), &gradient), &v);
                    }
                }
            }
            let magnitude = transform(&transposed(&transforms.kernel), &sums);
            for element in 0..T * T {
                bounds[(element * c_in + c) * c_out + d] = factor * magnitude[element / T][element % T];
            }
        }
    }
    bounds
}
