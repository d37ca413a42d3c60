//! What the kernels with a sliding window share.

use super::{Snippet, index};
use crate::shape::WindowGeometry;

pub(super) static WINDOW: Snippet =
    Snippet { name: "window", text: include_str!("../../shaders/shared/window.wgsl"), bindings: &[] };
pub(super) static WINDOW_PARAMS: Snippet = Snippet {
    name: "window_params",
    text: include_str!("../../shaders/shared/window_params.wgsl"),
    bindings: &[],
};

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

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
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

pub(super) const WINDOW_FIELDS: &[(&str, usize)] = &[
    ("height", std::mem::offset_of!(WindowParams, height)),
    ("width", std::mem::offset_of!(WindowParams, width)),
    ("out_height", std::mem::offset_of!(WindowParams, out_height)),
    ("out_width", std::mem::offset_of!(WindowParams, out_width)),
    ("kernel_h", std::mem::offset_of!(WindowParams, kernel_h)),
    ("kernel_w", std::mem::offset_of!(WindowParams, kernel_w)),
    ("stride_h", std::mem::offset_of!(WindowParams, stride_h)),
    ("stride_w", std::mem::offset_of!(WindowParams, stride_w)),
    ("dilation_h", std::mem::offset_of!(WindowParams, dilation_h)),
    ("dilation_w", std::mem::offset_of!(WindowParams, dilation_w)),
    ("pad_top", std::mem::offset_of!(WindowParams, pad_top)),
    ("pad_left", std::mem::offset_of!(WindowParams, pad_left)),
    ("channels", std::mem::offset_of!(WindowParams, channels)),
    ("groups", std::mem::offset_of!(WindowParams, groups)),
    ("first_row", std::mem::offset_of!(WindowParams, first_row)),
    ("images", std::mem::offset_of!(WindowParams, images)),
];

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
