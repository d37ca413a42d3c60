//! The kernels: for each file in `shaders/` a file of the same name here, with its parameters, bindings and grid.
//!
//! Nothing here touches the device. A [`Launch`] is data: which text, which parameters, how many workgroups.

mod accumulate;
mod activation;
mod activation_grad;
mod adagrad_update;
mod adam_update;
mod add;
mod alias;
mod amsgrad_update;
mod avg_pool2d;
mod avg_pool2d_grad;
mod batch_moments;
mod batch_norm;
mod batch_norm_grad_input;
mod batch_norm_grad_scale;
mod batch_statistics;
mod bias_add;
mod bias_grad;
mod clip_scale;
mod col2im;
mod depthwise_conv2d;
mod depthwise_conv2d_grad_input;
mod depthwise_conv2d_grad_kernel;
mod digest;
mod dropout;
mod element;
mod family;
mod gather_patches;
mod gemm;
mod gemm_cooperative;
mod gemm_launch;
mod gemm_params;
mod gemm_product;
mod gemm_register;
mod gemm_snippets;
mod gemm_subgroup;
mod gemm_tiled;
mod global_avg_pool;
mod global_avg_pool_grad;
mod gradient_norm;
mod im2col;
mod launch;
mod max_pool2d;
mod max_pool2d_grad;
mod mean_squared_error;
mod mean_squared_error_grad;
mod metrics;
mod pick;
mod relu;
mod relu_grad;
mod rmsprop_centered_momentum_update;
mod rmsprop_centered_update;
mod rmsprop_momentum_update;
mod rmsprop_update;
mod scatter_sum;
mod sgd_momentum_update;
mod sgd_update;
mod slice_sum;
mod softmax;
mod softmax_cross_entropy;
mod softmax_cross_entropy_grad;
mod softmax_grad;
mod split;
mod unroll;
mod update_range;
mod update_statistics;
mod weight_dots;
mod window;
mod winograd;
mod winograd_input;
mod winograd_kernel;
mod winograd_kernel_grad;
mod winograd_output;
mod winograd_output_grad;

pub(crate) use accumulate::accumulate;
pub(crate) use activation::{Curve, activation};
pub(crate) use activation_grad::activation_grad;
pub(crate) use adagrad_update::adagrad_update;
pub(crate) use adam_update::{AdamUpdate, adam_update};
pub(crate) use add::add;
pub(crate) use amsgrad_update::amsgrad_update;
pub(crate) use avg_pool2d::avg_pool2d;
pub(crate) use avg_pool2d_grad::avg_pool2d_grad;
pub(crate) use batch_moments::batch_moments;
pub(crate) use batch_norm::batch_norm;
pub(crate) use batch_norm_grad_input::batch_norm_grad_input;
pub(crate) use batch_norm_grad_scale::batch_norm_grad_scale;
pub(crate) use batch_statistics::batch_statistics;
pub(crate) use bias_add::bias_add;
pub(crate) use bias_grad::bias_grad;
pub(crate) use clip_scale::clip_scale;
pub(crate) use col2im::col2im;
pub(crate) use depthwise_conv2d::depthwise_conv2d;
pub(crate) use depthwise_conv2d_grad_input::depthwise_conv2d_grad_input;
pub(crate) use depthwise_conv2d_grad_kernel::depthwise_conv2d_grad_kernel;
pub use digest::digest;
pub(crate) use digest::{SEGMENT_ELEMENTS, Segment};
pub(crate) use dropout::dropout;
pub use family::{GemmFamily, TileSize};
pub(crate) use gather_patches::gather_patches;
pub(crate) use gemm::gemm;
pub(crate) use gemm_product::{Epilogue, Gemm, MOST_TERMS, Matrix, Operand, Source, Spread};
pub(crate) use global_avg_pool::global_avg_pool;
pub(crate) use global_avg_pool_grad::global_avg_pool_grad;
pub(crate) use gradient_norm::{gradient_norm, norm_parts};
pub(crate) use im2col::im2col;
pub use launch::{Launch, Variant};
pub(crate) use max_pool2d::max_pool2d;
pub(crate) use max_pool2d_grad::max_pool2d_grad;
pub(crate) use mean_squared_error::mean_squared_error;
pub(crate) use mean_squared_error_grad::mean_squared_error_grad;
pub(crate) use metrics::{SUMS_BYTES, metrics};
pub(crate) use pick::pick;
pub(crate) use relu::relu;
pub(crate) use relu_grad::relu_grad;
pub(crate) use rmsprop_centered_momentum_update::rmsprop_centered_momentum_update;
pub(crate) use rmsprop_centered_update::rmsprop_centered_update;
pub(crate) use rmsprop_momentum_update::rmsprop_momentum_update;
pub(crate) use rmsprop_update::{RmsPropUpdate, rmsprop_update};
pub(crate) use scatter_sum::{NO_PLACE, scatter_sum};
pub(crate) use sgd_momentum_update::{SgdMomentumUpdate, sgd_momentum_update};
pub(crate) use sgd_update::sgd_update;
pub(crate) use slice_sum::slice_sum;
pub(crate) use softmax::softmax;
pub(crate) use softmax_cross_entropy::{Target, softmax_cross_entropy};
pub(crate) use softmax_cross_entropy_grad::softmax_cross_entropy_grad;
pub(crate) use softmax_grad::softmax_grad;
pub(crate) use split::slices;
pub(crate) use update_range::UpdateRange;
pub(crate) use update_statistics::{RunningStatistic, update_statistics};
pub(crate) use weight_dots::{WeightDots, weight_dots};
pub(crate) use window::Images;
pub(crate) use winograd::{TILE, Tiles, components};
pub(crate) use winograd_input::winograd_input;
pub(crate) use winograd_kernel::winograd_kernel;
pub(crate) use winograd_kernel_grad::winograd_kernel_grad;
pub(crate) use winograd_output::winograd_output;
pub(crate) use winograd_output_grad::winograd_output_grad;

use crate::gpu::Access;
use element::width;

/// Workgroups in x before a grid is folded into y.
pub const GRID_X: u32 = 32_768;

/// Rounds of all loops together that one invocation may make: Mesa's software drivers leave every loop after 65,535,
/// without a word.
pub const MOST_ROUNDS: usize = 65_000;

/// A piece of text that several kernels or variants share, with the bindings that it declares.
#[derive(Debug)]
pub struct Snippet {
    /// The file's name below `shaders/shared/`, without the ending.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
    /// Bindings declared: number and use.
    pub bindings: &'static [(u32, Access)],
}

/// A kernel's text and interface.
#[derive(Debug)]
pub struct Kernel {
    /// The file's name below `shaders/`, without the ending; also the debug label.
    pub name: &'static str,
    /// Its text.
    pub body: &'static str,
    /// Snippets that every variant has.
    pub snippets: &'static [&'static Snippet],
    /// Bindings declared in the body: number and use. Number 0 is the parameters, 1 the step's scalars.
    pub bindings: &'static [(u32, Access)],
    /// Fields of the parameters with their byte offsets.
    pub params: &'static [(&'static str, usize)],
    /// Bytes of the parameters.
    pub params_bytes: usize,
}

/// Every kernel, by name.
pub static KERNELS: &[&Kernel] = &[
    &activation::KERNEL,
    &activation_grad::KERNEL,
    &adam_update::KERNEL,
    &add::KERNEL,
    &avg_pool2d::KERNEL,
    &avg_pool2d_grad::KERNEL,
    &batch_moments::KERNEL,
    &batch_norm::KERNEL,
    &batch_norm_grad_input::KERNEL,
    &batch_norm_grad_scale::KERNEL,
    &batch_statistics::KERNEL,
    &accumulate::KERNEL,
    &adagrad_update::KERNEL,
    &amsgrad_update::KERNEL,
    &bias_add::KERNEL,
    &bias_grad::KERNEL,
    &clip_scale::KERNEL,
    &col2im::KERNEL,
    &depthwise_conv2d::KERNEL,
    &depthwise_conv2d_grad_input::KERNEL,
    &depthwise_conv2d_grad_kernel::KERNEL,
    &digest::KERNEL,
    &dropout::KERNEL,
    &gather_patches::KERNEL,
    &gemm_cooperative::KERNEL,
    &gemm_register::KERNEL,
    &gemm_subgroup::KERNEL,
    &gemm_tiled::KERNEL,
    &gradient_norm::KERNEL,
    &global_avg_pool::KERNEL,
    &global_avg_pool_grad::KERNEL,
    &im2col::KERNEL,
    &max_pool2d::KERNEL,
    &max_pool2d_grad::KERNEL,
    &mean_squared_error::KERNEL,
    &mean_squared_error_grad::KERNEL,
    &metrics::KERNEL,
    &pick::KERNEL,
    &relu::KERNEL,
    &relu_grad::KERNEL,
    &rmsprop_centered_momentum_update::KERNEL,
    &rmsprop_centered_update::KERNEL,
    &rmsprop_momentum_update::KERNEL,
    &rmsprop_update::KERNEL,
    &scatter_sum::KERNEL,
    &sgd_momentum_update::KERNEL,
    &sgd_update::KERNEL,
    &slice_sum::KERNEL,
    &softmax::KERNEL,
    &softmax_cross_entropy::KERNEL,
    &softmax_cross_entropy_grad::KERNEL,
    &softmax_grad::KERNEL,
    &update_statistics::KERNEL,
    &weight_dots::KERNEL,
    &winograd_input::KERNEL,
    &winograd_kernel::KERNEL,
    &winograd_kernel_grad::KERNEL,
    &winograd_output::KERNEL,
    &winograd_output_grad::KERNEL,
];

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

static SCALARS: Snippet =
    Snippet { name: "scalars", text: include_str!("../../shaders/shared/scalars.wgsl"), bindings: &[] };
static GRID: Snippet =
    Snippet { name: "grid", text: include_str!("../../shaders/shared/grid.wgsl"), bindings: &[] };
static BITS: Snippet =
    Snippet { name: "bits", text: include_str!("../../shaders/shared/bits.wgsl"), bindings: &[] };
static SOFTMAX: Snippet =
    Snippet { name: "softmax", text: include_str!("../../shaders/shared/softmax.wgsl"), bindings: &[] };
static CLASS_WEIGHT: Snippet = Snippet {
    name: "class_weight",
    text: include_str!("../../shaders/shared/class_weight.wgsl"),
    bindings: &[],
};
static LARGEST: Snippet =
    Snippet { name: "largest", text: include_str!("../../shaders/shared/largest.wgsl"), bindings: &[] };
static MATH: Snippet =
    Snippet { name: "math", text: include_str!("../../shaders/shared/math.wgsl"), bindings: &[] };
static ELEMENTWISE: Snippet = Snippet {
    name: "elementwise",
    text: include_str!("../../shaders/shared/elementwise.wgsl"),
    bindings: &[],
};
static RMSPROP: Snippet = Snippet {
    name: "rmsprop",
    text: include_str!("../../shaders/shared/rmsprop.wgsl"),
    bindings: &[(10, Access::ReadWrite)],
};
/// The masked update, to which a rule adds `update`.
static UPDATE: Snippet = Snippet {
    name: "update",
    text: include_str!("../../shaders/shared/update.wgsl"),
    bindings: &[(2, Access::Read), (7, Access::Read), (8, Access::Read), (9, Access::ReadWrite)],
};

/// Invocations in the workgroup of elementwise kernels.
const ELEMENTWISE_WORKGROUP: u32 = 256;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct ElementwiseParams {
    elements: u32,
    per_row: u32,
    channels: u32,
    /// The bits of a float, for kernels with one.
    option: u32,
}

const ELEMENTWISE_FIELDS: &[(&str, usize)] = &[
    ("elements", std::mem::offset_of!(ElementwiseParams, elements)),
    ("per_row", std::mem::offset_of!(ElementwiseParams, per_row)),
    ("channels", std::mem::offset_of!(ElementwiseParams, channels)),
    ("option", std::mem::offset_of!(ElementwiseParams, option)),
];

/// How many elements a tensor has, and how many belong to one example (0 if it has no batch axis).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Elements of a full batch.
    pub elements: usize,
    /// Elements of one example, or 0.
    pub per_row: usize,
}

fn elementwise(kernel: &'static Kernel, extent: Extent, channels: usize) -> Launch {
    elementwise_with(kernel, extent, channels, 0.0)
}

fn elementwise_with(kernel: &'static Kernel, extent: Extent, channels: usize, option: f32) -> Launch {
    let params = ElementwiseParams {
        elements: index(extent.elements),
        per_row: index(extent.per_row),
        channels: index(channels),
        option: option.to_bits(),
    };
    let groups = grid_of(extent.elements.div_ceil(4), ELEMENTWISE_WORKGROUP);
    Launch::new(kernel, &params, ELEMENTWISE_WORKGROUP, groups).flops(extent.elements as u64)
}
