//! Transforms of the Winograd convolutions F(4x4, 3x3) and F(4x4, 5x5) (Lavin and Gray, "Fast Algorithms for
//! Convolutional Neural Networks", 2016). A tile of 4x4 outputs takes 36 multiplications per pair of channels
//! for a 3x3 kernel, a quarter of the direct convolution's 144; and 64 for a 5x5 kernel, 4/25 of its 400. And
//! F(2x2, 3x3) in one kernel, which computes its transforms in workgroup memory.

mod winograd_fused;
mod winograd_fused_kernel;
mod winograd_input;
mod winograd_kernel;
mod winograd_kernel_grad;
mod winograd_output;
mod winograd_output_grad;

pub(crate) use winograd_fused::{FUSED_POINTS, supports_winograd_fused, winograd_fused};
pub(crate) use winograd_fused_kernel::winograd_fused_kernel;
pub(crate) use winograd_input::winograd_input;
pub(crate) use winograd_kernel::winograd_kernel;
pub(crate) use winograd_kernel_grad::winograd_kernel_grad;
pub(crate) use winograd_output::winograd_output;
pub(crate) use winograd_output_grad::winograd_output_grad;

use crate::kernels::Epilogue;
use crate::kernels::{Launch, files, to_u32};
use crate::shape::WindowGeometry;
use crate::wgsl::params;

/// Outputs of a tile along each axis.
pub const TILE: usize = 4;

/// Number of elements of a transformed tile (its components), for `taps` x `taps` kernels; `taps` is 3 or 5.
pub fn components(taps: usize) -> usize {
    points(taps) * points(taps)
}

/// Number of interpolation points of the one-dimensional transform.
fn points(taps: usize) -> usize {
    TILE + taps - 1
}

/// Adds the one-dimensional transforms for `taps` x `taps` kernels to a launch.
fn with_transforms(mut launch: Launch, taps: usize) -> Launch {
    launch.snippets.extend([
        &files::WINOGRAD_POINTS,
        if taps == 5 { &files::WINOGRAD_5X5 } else { &files::WINOGRAD_3X3 },
    ]);
    let (points, taps) = (to_u32(points(taps)), to_u32(taps));
    launch.constants.extend([
        ("POINTS", points),
        ("LAST", points - 1),
        ("TAPS", taps),
        ("LAST_TAP", taps - 1),
    ]);
    launch
}

pub(super) const WORKGROUP: u32 = 64;

/// Tiles of a range of images of the batch.
#[derive(Clone, Copy, Debug)]
pub struct Tiles {
    /// A 3x3 or 5x5 window with stride 1 and dilation 1.
    pub window: WindowGeometry,
    /// First image.
    pub first: usize,
    /// Number of images.
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
        first_example: u32,
        epilogue: u32,
    }
}

impl WinogradParams {
    pub(super) fn new(tiles: &Tiles, channels: usize, epilogue: Epilogue) -> Self {
        let w = &tiles.window;
        WinogradParams {
            height: to_u32(w.input[0]),
            width: to_u32(w.input[1]),
            out_height: to_u32(w.output[0]),
            out_width: to_u32(w.output[1]),
            pad_top: to_u32(w.pad_begin[0]),
            pad_left: to_u32(w.pad_begin[1]),
            channels: to_u32(channels),
            tiles_h: to_u32(w.output[0].div_ceil(TILE)),
            tiles_w: to_u32(w.output[1].div_ceil(TILE)),
            images: to_u32(tiles.images),
            first_example: to_u32(tiles.first),
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
        KernelParams { c_in: to_u32(c_in), c_out: to_u32(c_out), flipped: flipped.into() }
    }
}
