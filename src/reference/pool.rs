//! Max-pooling, average pooling, resampling, global average pooling, and their gradients.

use crate::graph::{Pool2d, Resample2d};
use crate::shape::WindowGeometry;

/// Calls `visit(output, window)` for every output element of `batch` images; `window` lists the taps inside
/// the image as (index of the tap in the window, flat index in x), row-major.
fn each_window(
    w: &WindowGeometry,
    channels: usize,
    batch: usize,
    mut visit: impl FnMut(usize, &[(usize, usize)]),
) {
    let mut window = Vec::new();
    let mut output = 0;
    for image in 0..batch {
        for out_row in 0..w.output[0] {
            for out_column in 0..w.output[1] {
                for channel in 0..channels {
                    window.clear();
                    for tap in 0..w.taps() {
                        let (tap_row, tap_column) = (tap / w.kernel[1], tap % w.kernel[1]);
                        if let (Some(row), Some(column)) =
                            (w.source(0, out_row, tap_row), w.source(1, out_column, tap_column))
                        {
                            let pixel = (image * w.input[0] + row) * w.input[1] + column;
                            window.push((tap, pixel * channels + channel));
                        }
                    }
                    visit(output, &window);
                    output += 1;
                }
            }
        }
    }
}

/// Returns the number of images of the output `y`.
fn batch(w: &WindowGeometry, channels: usize, y: &[f64]) -> usize {
    y.len() / (w.outputs() * channels)
}

/// `y` is the maximum of each window and `position` the index of its tap in the window, the first one if
/// several are equal. Taps in the padding count as minus infinity; NaN counts as the largest value, so that
/// it propagates. A window entirely in the padding gives minus infinity and position `u32::MAX`.
pub(super) fn max_pool2d(p: &Pool2d, x: &[f64], y: &mut [f64], position: &mut [f64]) {
    each_window(&p.window, p.channels, batch(&p.window, p.channels, y), |output, window| {
        let (mut max, mut max_tap) = (f64::NEG_INFINITY, None);
        for &(tap, index) in window {
            if max_tap.is_none() || x[index] > max || (x[index].is_nan() && !max.is_nan()) {
                (max, max_tap) = (x[index], Some(tap));
            }
        }
        y[output] = max;
        position[output] = max_tap.map_or(f64::from(u32::MAX), |tap| tap as f64);
    });
}

/// Adds each `dy` to the element of `dx` at its window's `position`; a `dy` whose position is in the padding
/// is not added.
pub(super) fn max_pool2d_grad(p: &Pool2d, position: &[f64], dy: &[f64], dx: &mut [f64]) {
    dx.fill(0.0);
    each_window(&p.window, p.channels, batch(&p.window, p.channels, dy), |output, window| {
        if let Some(&(_, index)) = window.iter().find(|&&(tap, _)| tap as f64 == position[output]) {
            dx[index] += dy[output];
        }
    });
}

/// `y` is the mean of the taps inside the image, 0 if there are none.
pub(super) fn avg_pool2d(p: &Pool2d, x: &[f64], y: &mut [f64]) {
    each_window(&p.window, p.channels, batch(&p.window, p.channels, y), |output, window| {
        let sum: f64 = window.iter().map(|&(_, index)| x[index]).sum();
        y[output] = sum / window.len().max(1) as f64;
    });
}

/// Distributes each `dy` equally over the elements of its window inside the image.
pub(super) fn avg_pool2d_grad(p: &Pool2d, dy: &[f64], dx: &mut [f64]) {
    dx.fill(0.0);
    each_window(&p.window, p.channels, batch(&p.window, p.channels, dy), |output, window| {
        for &(_, index) in window {
            dx[index] += dy[output] / window.len() as f64;
        }
    });
}

/// `y` is the weighted sum of the pixels of a rectangle of `x`.
pub(super) fn resample2d(r: &Resample2d, x: &[f64], y: &mut [f64]) {
    let ([h, w], [oh, ow], channels) = (r.from(), r.to(), r.channels);
    let [rows, columns] = [0, 1].map(|axis| r.weights(axis));
    for (x, y) in x.chunks(h * w * channels).zip(y.chunks_mut(oh * ow * channels)) {
        for (output, y) in y.iter_mut().enumerate() {
            let (pixel, channel) = (output / channels, output % channels);
            let ((first_row, row_weights), (first_column, column_weights)) =
                (&rows[pixel / ow], &columns[pixel % ow]);
            *y = 0.0;
            for (row, row_weight) in (*first_row..).zip(row_weights) {
                for (column, column_weight) in (*first_column..).zip(column_weights) {
                    *y += row_weight * column_weight * x[(row * w + column) * channels + channel];
                }
            }
        }
    }
}

/// `y` is the mean over the pixels, per channel and image.
pub(super) fn global_avg_pool(images: usize, x: &[f64], y: &mut [f64]) {
    let channels = y.len() / images;
    let per_image = x.len() / images;
    let pixels = per_image / channels;
    for (image, y) in x.chunks(per_image).zip(y.chunks_mut(channels)) {
        for (channel, y) in y.iter_mut().enumerate() {
            *y = image.iter().skip(channel).step_by(channels).sum::<f64>() / pixels as f64;
        }
    }
}

/// Distributes the gradient of each channel equally over the pixels.
pub(super) fn global_avg_pool_grad(pixels: usize, channels: usize, dy: &[f64], dx: &mut [f64]) {
    for (dx, dy) in dx.chunks_mut(pixels * channels).zip(dy.chunks(channels)) {
        for pixel in dx.chunks_mut(channels) {
            for (dx, dy) in pixel.iter_mut().zip(dy) {
                *dx = dy / pixels as f64;
            }
        }
    }
}
