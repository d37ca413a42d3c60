//! Pooling.

use crate::graph::Pool2d;
use crate::shape::WindowGeometry;

/// Calls `visit(output, window)` for every output element of `batch` images; `window` holds the taps that are
/// on the image, as (number of the tap, flat index in x), row-major.
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

fn batch(w: &WindowGeometry, channels: usize, y: &[f64]) -> usize {
    y.len() / (w.outputs() * channels)
}

/// `y` is the largest tap and `position` its number, row-major in the window, the first of equals. Taps in the padding
/// count as minus infinity. NaN counts as larger than anything, so that it stays visible. A window wholly in the padding
/// gives minus infinity and no position (`u32::MAX`).
pub(super) fn max_pool2d(p: &Pool2d, x: &[f64], y: &mut [f64], position: &mut [f64]) {
    each_window(&p.window, p.channels, batch(&p.window, p.channels, y), |output, window| {
        let (mut best, mut best_tap) = (f64::NEG_INFINITY, None);
        for &(tap, index) in window {
            if best_tap.is_none() || x[index] > best || (x[index].is_nan() && !best.is_nan()) {
                (best, best_tap) = (x[index], Some(tap));
            }
        }
        y[output] = best;
        position[output] = best_tap.map_or(f64::from(u32::MAX), |tap| tap as f64);
    });
}

/// `dx` at the tap that `position` names is the sum of all `dy` whose windows name it. A position in the padding passes
/// nothing on.
pub(super) fn max_pool2d_grad(p: &Pool2d, position: &[f64], dy: &[f64], dx: &mut [f64]) {
    dx.fill(0.0);
    each_window(&p.window, p.channels, batch(&p.window, p.channels, dy), |output, window| {
        if let Some(&(_, index)) = window.iter().find(|&&(tap, _)| tap as f64 == position[output]) {
            dx[index] += dy[output];
        }
    });
}

/// `y` is the mean of the taps on the image, 0 where there is none.
pub(super) fn avg_pool2d(p: &Pool2d, x: &[f64], y: &mut [f64]) {
    each_window(&p.window, p.channels, batch(&p.window, p.channels, y), |output, window| {
        let sum: f64 = window.iter().map(|&(_, index)| x[index]).sum();
        y[output] = sum / window.len().max(1) as f64;
    });
}

/// Each `dy` goes in equal shares to the elements that it averaged.
pub(super) fn avg_pool2d_grad(p: &Pool2d, dy: &[f64], dx: &mut [f64]) {
    dx.fill(0.0);
    each_window(&p.window, p.channels, batch(&p.window, p.channels, dy), |output, window| {
        for &(_, index) in window {
            dx[index] += dy[output] / window.len() as f64;
        }
    });
}

/// The mean over the pixels of each channel of each of `images` images.
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

/// Each pixel gets the same share of its channel's gradient.
pub(super) fn global_avg_pool_grad(pixels: usize, channels: usize, dy: &[f64], dx: &mut [f64]) {
    for (dx, dy) in dx.chunks_mut(pixels * channels).zip(dy.chunks(channels)) {
        for pixel in dx.chunks_mut(channels) {
            for (dx, dy) in pixel.iter_mut().zip(dy) {
                *dx = dy / pixels as f64;
            }
        }
    }
}
