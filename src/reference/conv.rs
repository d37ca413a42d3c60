//! Convolution and its two gradients. All three iterate over the same index triples (element of x, element of
//! the kernel, element of y), and each accumulates into another one of the three.

use crate::graph::Conv2d;

/// Calls `term(x, kernel, y)` with the flat indices of every product `x * kernel` summed into an output `y`,
/// for `batch` images. The products of one output are visited in the order (kernel row, kernel column, input
/// channel).
fn each_term(c: &Conv2d, batch: usize, mut term: impl FnMut(usize, usize, usize)) {
    let w = &c.window;
    let ([in_rows, in_columns], [out_rows, out_columns]) = (w.input, w.output);
    let (c_in, c_out) = (c.c_in_per_group(), c.c_out_per_group());
    for image in 0..batch {
        for (out_row, out_column) in pairs(out_rows, out_columns) {
            let y_pixel = ((image * out_rows + out_row) * out_columns + out_column) * c.c_out;
            for (tap_row, tap_column) in pairs(w.kernel[0], w.kernel[1]) {
                let (Some(row), Some(column)) =
                    (w.source(0, out_row, tap_row), w.source(1, out_column, tap_column))
                else {
                    continue; // The tap reads padding, which is 0.
                };
                let x_pixel = ((image * in_rows + row) * in_columns + column) * c.c_in;
                let tap = (tap_row * w.kernel[1] + tap_column) * c_in;
                for group in 0..c.groups {
                    for (i, o) in pairs(c_in, c_out) {
                        let out_channel = group * c_out + o;
                        term(
                            x_pixel + group * c_in + i,
                            (tap + i) * c.c_out + out_channel,
                            y_pixel + out_channel,
                        );
                    }
                }
            }
        }
    }
}

/// All `(row, column)` pairs in row-major order.
fn pairs(rows: usize, columns: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).flat_map(move |row| (0..columns).map(move |column| (row, column)))
}

/// Returns the number of images of the output `y`.
fn batch(c: &Conv2d, y: &[f64]) -> usize {
    y.len() / (c.window.outputs() * c.c_out)
}

/// `y[n,oh,ow,co] = sum over kh, kw, ci of x[n, oh*stride + kh*dilation - pad, .., ci] *
/// kernel[kh,kw,ci,co]`.
///
/// The column index, abbreviated as `..`, has the same form as the row index; channels are those of one
/// group.
pub(super) fn conv2d(c: &Conv2d, x: &[f64], kernel: &[f64], y: &mut [f64]) {
    y.fill(0.0);
    each_term(c, batch(c, y), |xi, ki, yi| y[yi] += x[xi] * kernel[ki]);
}

/// The gradient of `sum(y * dy)` with respect to x.
pub(super) fn grad_input(c: &Conv2d, dy: &[f64], kernel: &[f64], dx: &mut [f64]) {
    dx.fill(0.0);
    each_term(c, batch(c, dy), |xi, ki, yi| dx[xi] += dy[yi] * kernel[ki]);
}

/// The gradient of `sum(y * dy)` with respect to the kernel, summed over the batch.
pub(super) fn grad_kernel(c: &Conv2d, x: &[f64], dy: &[f64], dkernel: &mut [f64]) {
    dkernel.fill(0.0);
    each_term(c, batch(c, dy), |xi, ki, yi| dkernel[ki] += x[xi] * dy[yi]);
}
