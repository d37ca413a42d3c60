//! What the transforms of Winograd's F(4x4, 3x3) and F(4x4, 5x5) share (Lavin and Gray, "Fast Algorithms for Convolutional Neural
//! Networks", 2016): 36 products of channels for 16 results and 9 taps, a quarter of the multiplications; 64 for 25 taps, 4/25.

mod winograd_input;
mod winograd_kernel;
mod winograd_kernel_grad;
mod winograd_output;
mod winograd_output_grad;

pub(crate) use winograd_input::winograd_input;
pub(crate) use winograd_kernel::winograd_kernel;
pub(crate) use winograd_kernel_grad::winograd_kernel_grad;
pub(crate) use winograd_output::winograd_output;
pub(crate) use winograd_output_grad::winograd_output_grad;

use crate::kernels::Epilogue;
use crate::kernels::{Launch, files, index};
use crate::shape::WindowGeometry;
use crate::wgsl::params;

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
        self.snippets.extend([
            &files::WINOGRAD_POINTS,
            if taps == 5 { &files::WINOGRAD_5X5 } else { &files::WINOGRAD_3X3 },
        ]);
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

params! {
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
}

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

params! {
    pub(super) struct KernelParams {
        c_in: u32,
        c_out: u32,
        flipped: u32,
    }
}

impl KernelParams {
    pub(super) fn new(c_in: usize, c_out: usize, flipped: bool) -> Self {
        KernelParams { c_in: index(c_in), c_out: index(c_out), flipped: flipped.into() }
    }
}
