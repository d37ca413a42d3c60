//! What the transforms of Winograd's F(4x4, 3x3) share (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
//! 2016): 36 products of channels for 16 results and 9 taps, a quarter of the multiplications.

use super::{Epilogue, Snippet, index};
use crate::shape::WindowGeometry;

pub(super) static WINOGRAD_PARAMS: Snippet = Snippet {
    name: "winograd_params",
    text: include_str!("../../shaders/shared/winograd_params.wgsl"),
    bindings: &[],
};

/// Results of a tile along each axis.
pub const TILE: usize = 4;

/// Components of a tile's transform.
pub const COMPONENTS: usize = 36;

pub(super) const WORKGROUP: u32 = 64;

/// Tiles of some images of the batch.
#[derive(Clone, Copy, Debug)]
pub struct Tiles {
    /// A 3x3 window at stride 1, not dilated.
    pub window: WindowGeometry,
    /// The first image.
    pub first: usize,
    /// Images from there on.
    pub images: usize,
}

impl Tiles {
    /// Tiles of one image.
    pub fn per_image(&self) -> usize {
        self.window.output.map(|size| size.div_ceil(TILE)).iter().product()
    }

    /// Tiles of all images.
    pub fn count(&self) -> usize {
        self.images * self.per_image()
    }
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct WinogradParams {
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    pad_top: u32,
    pad_left: u32,
    channels: u32,
    tiles_h: u32,
    tiles_w: u32,
    images: u32,
    first_row: u32,
    epilogue: u32,
}

pub(super) const WINOGRAD_FIELDS: &[(&str, usize)] = &[
    ("height", std::mem::offset_of!(WinogradParams, height)),
    ("width", std::mem::offset_of!(WinogradParams, width)),
    ("out_height", std::mem::offset_of!(WinogradParams, out_height)),
    ("out_width", std::mem::offset_of!(WinogradParams, out_width)),
    ("pad_top", std::mem::offset_of!(WinogradParams, pad_top)),
    ("pad_left", std::mem::offset_of!(WinogradParams, pad_left)),
    ("channels", std::mem::offset_of!(WinogradParams, channels)),
    ("tiles_h", std::mem::offset_of!(WinogradParams, tiles_h)),
    ("tiles_w", std::mem::offset_of!(WinogradParams, tiles_w)),
    ("images", std::mem::offset_of!(WinogradParams, images)),
    ("first_row", std::mem::offset_of!(WinogradParams, first_row)),
    ("epilogue", std::mem::offset_of!(WinogradParams, epilogue)),
];

impl WinogradParams {
    pub(super) fn new(tiles: &Tiles, channels: usize, epilogue: Epilogue) -> Self {
        let w = &tiles.window;
        WinogradParams {
            height: index(w.input[0]),
            width: index(w.input[1]),
            out_height: index(w.output[0]),
            out_width: index(w.output[1]),
            pad_top: index(w.pad_begin[0]),
            pad_left: index(w.pad_begin[1]),
            channels: index(channels),
            tiles_h: index(w.output[0].div_ceil(TILE)),
            tiles_w: index(w.output[1].div_ceil(TILE)),
            images: index(tiles.images),
            first_row: index(tiles.first),
            epilogue: epilogue.number(),
        }
    }
}

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub(super) struct KernelParams {
    c_in: u32,
    c_out: u32,
    flipped: u32,
}

pub(super) const KERNEL_FIELDS: &[(&str, usize)] = &[
    ("c_in", std::mem::offset_of!(KernelParams, c_in)),
    ("c_out", std::mem::offset_of!(KernelParams, c_out)),
    ("flipped", std::mem::offset_of!(KernelParams, flipped)),
];

impl KernelParams {
    pub(super) fn new(c_in: usize, c_out: usize, flipped: bool) -> Self {
        KernelParams { c_in: index(c_in), c_out: index(c_out), flipped: flipped.into() }
    }
}
