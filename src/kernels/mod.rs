//! GPU kernels: one folder per operation family, with the WGSL in the folder of the same name in `shaders/`.
//! A kernel is one WGSL file and one Rust function, which declares its parameters and describes its launch.
//!
//! Nothing in this module calls the device. A [`Launch`] is data: shader text, parameters, number of
//! workgroups.

mod conv;
mod elementwise;
mod files;
mod gemm;
mod launch;
mod loss;
mod norm;
mod pool;
mod preprocess;
mod ranges;
mod row_tiles;
mod structs;
mod update;
mod window;
mod winograd;

pub(crate) use conv::*;
pub(crate) use elementwise::{
    Curve, activation, activation_grad, add, bias_add, bias_grad, bias_grad_parallel, concat, dropout,
    mean_grad, mul, mul_channels, pad_channels, relu, relu_grad, scale, slice_channels, zero,
};
pub use files::{FILES, WgslFile};
pub(crate) use gemm::{
    Epilogue, Gemm, MAX_TERMS, Matrix, Operand, PixelSet, Source, gemm_launch, gemm_time, round_to_f16,
    split_k_sum, split_k_sum_parallel, splits, stored_f16_scales,
};
pub use gemm::{GemmFamily, TILES, Tile, TileSet};
pub use launch::{Launch, Variant};
pub(crate) use loss::*;
pub(crate) use norm::*;
pub(crate) use pool::*;
pub(crate) use ranges::MAX_RANGES;
pub(crate) use row_tiles::RowTiles;
pub use structs::Digest;
pub(crate) use structs::{SUMS_BYTES, Segment};
pub use update::digest;
pub(crate) use update::*;
pub(crate) use window::{Images, tap_parts};
pub(crate) use winograd::*;

/// Maximum number of workgroups in x; a longer grid is folded into y.
pub const GRID_X: u32 = 32_768;

/// Maximum number of loop iterations of one invocation, over all its loops: Mesa's software drivers leave
/// every loop after 65,535 iterations without an error.
pub const MAX_ITERATIONS: usize = 65_000;

/// Number of parts into which a sum of `terms` terms is divided: about as many parts as each has terms, so that
/// neither the parts nor their sum need many loop iterations, and rounding errors stay small.
pub fn sum_parts(terms: usize) -> usize {
    terms.div_ceil(terms.isqrt().max(1)).max(1)
}

/// Vector width for this number of channels: 4 if it is a multiple of 4, else 1.
fn vector_width(channels: usize) -> usize {
    if channels.is_multiple_of(4) { 4 } else { 1 }
}

fn constant_bool(name: &str, value: bool) -> String {
    format!("const {name}: bool = {value};")
}

/// A grid of `count` workgroups, folded into y beyond [`GRID_X`].
fn grid(count: usize, z: usize) -> [u32; 3] {
    let count = to_u32(count).max(1);
    [count.min(GRID_X), count.div_ceil(GRID_X), to_u32(z)]
}

/// A grid of workgroups of `workgroup` invocations, for `count` invocations in total.
fn grid_of(count: usize, workgroup: u32) -> [u32; 3] {
    grid(count.div_ceil(workgroup as usize), 1)
}

/// Converts a size to the `u32` of shaders. Shapes are validated to stay below 2^31 (`shape::MAX_ELEMENTS`),
/// so the value is never truncated.
fn to_u32(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// Number of elements of a tensor, in total and per example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Elements of a full batch.
    pub elements: usize,
    /// Elements of one example; 0 if the tensor has no batch axis.
    pub per_row: usize,
}
