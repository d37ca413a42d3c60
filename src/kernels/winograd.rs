//! What the transforms of Winograd's F(4x4, 3x3) and F(4x4, 5x5) share (Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks", 2016): 36 products of channels for 16 results and 9 taps, a quarter of the multiplications; 64 for 25 taps, 4/25.

use super::{Epilogue, Launch, Snippet, index};
use crate::shape::WindowGeometry;

pub(super) static WINOGRAD_PARAMS: Snippet = Snippet {
    name: "winograd_params",
    text: include_str!("../../shaders/shared/winograd_params.wgsl"),
    bindings: &[],
};

static POINTS: Snippet = Snippet {
    name: "winograd_points",
    text: include_str!("../../shaders/shared/winograd_points.wgsl"),
    bindings: &[],
};
static OF_3: Snippet = Snippet {
    name: "winograd_3x3",
    text: include_str!("../../shaders/shared/winograd_3x3.wgsl"),
    bindings: &[],
};
static OF_5: Snippet = Snippet {
    name: "winograd_5x5",
    text: include_str!("../../shaders/shared/winograd_5x5.wgsl"),
    bindings: &[],
};

/// Results of a tile along each axis.
pub const TILE: usize = 4;

/// Components of the transform of a tile under square kernels of so many taps a side: 3 or 5.
pub fn components(taps: usize) -> usize {
    points(taps) * points(taps)
}

fn points(taps: usize) -> usize {
    TILE + taps - 1
}

impl Launch {
    /// The transforms for square kernels of so many taps a side.
    pub(super) fn winograd(mut self, taps: usize) -> Self {
        self.snippets.extend([&POINTS, if taps == 5 { &OF_5 } else { &OF_3 }]);
        let (points, taps) = (index(points(taps)), index(taps));
        self.constants.extend([
            ("POINTS", points),
            ("LAST", points - 1),
            ("TAPS", taps),
            ("LAST_TAP", taps - 1),
        ]);
        self
    }
}

pub(super) const WORKGROUP: u32 = 64;

/// Tiles of some images of the batch.
#[derive(Clone, Copy, Debug)]
pub struct Tiles {
    /// A 3x3 or 5x5 window at stride 1, not dilated.
    pub window: WindowGeometry,
    /// The first image.
    pub first: usize,
    /// Images from there on.
    pub images: usize,
}

impl Tiles {
    /// Taps of the window along each axis.
    pub fn taps(&self) -> usize {
        self.window.kernel[0]
    }

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
