//! What the kernels with a sliding window share.

use crate::kernels::index;
use crate::shape::WindowGeometry;
use crate::wgsl::params;

/// The images that a kernel works on.
#[derive(Clone, Copy, Debug)]
pub struct Images {
    /// Geometry.
    pub window: WindowGeometry,
    /// Channels of the input.
    pub channels: usize,
    /// Groups of channels.
    pub groups: usize,
    /// The first image of the batch.
    pub first: usize,
    /// Images from there on.
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
        first_row: u32,
        images: u32,
    }
}

impl WindowParams {
    pub(super) fn new(images: &Images) -> Self {
        let w = &images.window;
        WindowParams {
            height: index(w.input[0]),
            width: index(w.input[1]),
            out_height: index(w.output[0]),
            out_width: index(w.output[1]),
            kernel_h: index(w.kernel[0]),
            kernel_w: index(w.kernel[1]),
            stride_h: index(w.stride[0]),
            stride_w: index(w.stride[1]),
            dilation_h: index(w.dilation[0]),
            dilation_w: index(w.dilation[1]),
            pad_top: index(w.pad_begin[0]),
            pad_left: index(w.pad_begin[1]),
            channels: index(images.channels),
            groups: index(images.groups),
            first_row: index(images.first),
            images: index(images.count),
        }
    }
}
