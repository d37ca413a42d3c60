//! Parameters of the kernels with a sliding window.
//!
//! A *tap* is one spatial position `(kh, kw)` of the window, numbered row by row: `tap = kh * kernel_w + kw`.
//! A convolution kernel has one weight per tap, input channel and output channel.

use crate::kernels::to_u32;
use crate::shape::WindowGeometry;
use crate::wgsl::params;

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
