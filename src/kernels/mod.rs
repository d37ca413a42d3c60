//! The kernels: a folder for each kind of operation, beside the folder of the same name in `shaders/`. A kernel is one file of WGSL
//! and one of Rust, which declares its parameters and says how it is launched.
//!
//! Nothing here touches the device. A [`Launch`] is data: which text, which parameters, how many workgroups.

mod alias;
mod conv;
mod element;
mod elementwise;
mod files;
mod gemm;
mod launch;
mod loss;
mod norm;
mod pool;
mod unroll;
mod update;
mod window;
mod winograd;

pub(crate) use conv::*;
pub(crate) use elementwise::{
    Curve, activation, activation_grad, add, bias_add, bias_grad, dropout, mean_grad, mul, relu, relu_grad,
    scale,
};
pub use files::{FILES, WgslFile};
pub(crate) use gemm::{
    Epilogue, Gemm, MAX_TERMS, Matrix, Operand, PixelSet, Source, gemm, split_k_sum, splits,
};
pub use gemm::{GemmFamily, TileSize};
pub use launch::{Launch, Variant};
pub(crate) use loss::*;
pub(crate) use norm::*;
pub(crate) use pool::*;
pub(crate) use update::*;
pub use update::{Digest, digest};
pub(crate) use window::Images;
pub(crate) use winograd::*;

use element::width;

/// Workgroups in x before a grid is folded into y.
pub const GRID_X: u32 = 32_768;

/// Rounds of all loops together that one invocation may make: Mesa's software drivers leave every loop after 65,535,
/// without a word.
pub const MAX_ITERATIONS: usize = 65_000;

fn constant_bool(name: &str, value: bool) -> String {
    format!("const {name}: bool = {value};")
}

/// A grid of `count` workgroups, folded into y beyond [`GRID_X`].
fn grid(count: usize, z: usize) -> [u32; 3] {
    let count = index(count).max(1);
    [count.min(GRID_X), count.div_ceil(GRID_X), index(z)]
}

/// Workgroups for `count` invocations.
fn grid_of(count: usize, workgroup: u32) -> [u32; 3] {
    grid(count.div_ceil(workgroup as usize), 1)
}

/// Sizes in shaders are `u32`; shapes are checked to stay below 2^31 (`shape::MAX_ELEMENTS`), so nothing is cut here.
fn index(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// How many elements a tensor has, and how many belong to one example (0 if it has no batch axis).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Elements of a full batch.
    pub elements: usize,
    /// Elements of one example, or 0.
    pub per_row: usize,
}
