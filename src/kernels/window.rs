//! Parameters of the kernels with a sliding window.
//!
//! A *tap* is one spatial position `(kh, kw)` of the window, numbered row by row: `tap = kh * kernel_w + kw`.
//! A convolution kernel has one weight per tap, input channel and output channel.

use crate::kernels::{Launch, files, to_u32};
use crate::shape::WindowGeometry;
use crate::wgsl::params;
use std::ops::Range;

/// Input images of a windowed operation: geometry, channels, and a range of the batch.
#[derive(Clone, Copy, Debug)]
pub struct Images {
    /// Geometry of the window.
    pub window: WindowGeometry,
    /// Channels of the input.
    pub channels: usize,
    /// Number of channel groups (grouped convolution).
    pub groups: usize,
    /// First image, as an index into the batch.
    pub first: usize,
    /// Number of images.
    pub count: usize,
}

params! {
    pub(super) struct WindowParams {
        height: u32,
        width: u32,
        out_height: u32,
        out_width: u32,
        kernel_h: u32,
        kernel_w: u32,
        stride_h: u32,
        stride_w: u32,
        dilation_h: u32,
        dilation_w: u32,
        pad_top: u32,
        pad_left: u32,
        channels: u32,
        groups: u32,
        first_example: u32,
        images: u32,
    }
}

impl WindowParams {
    pub(super) fn new(images: &Images) -> Self {
        let w = &images.window;
        WindowParams {
            height: to_u32(w.input[0]),
            width: to_u32(w.input[1]),
            out_height: to_u32(w.output[0]),
            out_width: to_u32(w.output[1]),
            kernel_h: to_u32(w.kernel[0]),
            kernel_w: to_u32(w.kernel[1]),
            stride_h: to_u32(w.stride[0]),
            stride_w: to_u32(w.stride[1]),
            dilation_h: to_u32(w.dilation[0]),
            dilation_w: to_u32(w.dilation[1]),
            pad_top: to_u32(w.pad_begin[0]),
            pad_left: to_u32(w.pad_begin[1]),
            channels: to_u32(images.channels),
            groups: to_u32(images.groups),
            first_example: to_u32(images.first),
            images: to_u32(images.count),
        }
    }
}

/// Divides the taps of a window into ranges, one for each dispatch, so that the loops of an invocation that
/// covers the range for `pixels` pixels have at most `max_iterations` iterations.
pub fn tap_parts(window: &WindowGeometry, pixels: usize, max_iterations: usize) -> Vec<Range<usize>> {
    let taps = window.taps();
    if pixels * (1 + tap_iterations(window, &(0..taps))) <= max_iterations {
        return std::iter::once(0..taps).collect();
    }
    // A range has at most as many rows as taps, and two more if it begins and ends within a row.
    let longest = (max_iterations / pixels / 2).saturating_sub(2).max(1);
    let each = taps.div_ceil(taps.div_ceil(longest));
    (0..taps).step_by(each).map(|first| first..(first + each).min(taps)).collect()
}

/// Iterations of nested loops over the rows of a range of taps and over the taps of each row.
pub(super) fn tap_iterations(window: &WindowGeometry, taps: &Range<usize>) -> usize {
    let columns = window.kernel[1];
    taps.len() + (taps.end - 1) / columns - taps.start / columns + 1
}

params! {
    struct TapParams {
        first_tap: u32,
        end_tap: u32,
    }
}

impl Launch {
    /// Restricts a kernel with nested loops over the taps of a window to a range of them.
    pub(super) fn taps(mut self, window: &WindowGeometry, taps: &Range<usize>) -> Self {
        let launch = if taps.len() == window.taps() {
            self.snippets.push(&files::TAPS_ALL);
            self
        } else {
            self.snippets.push(&files::TAPS_PART);
            self.more_params(&TapParams { first_tap: to_u32(taps.start), end_tap: to_u32(taps.end) })
        };
        launch.iterations(tap_iterations(window, taps))
    }
}
