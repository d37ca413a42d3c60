//! The operations, as mathematics.

use super::{Clip, Dropout, ParameterId, Target, UpdateRule};
use crate::error::{Error, Result};
use crate::shape::{Window, WindowGeometry};
use crate::wgsl::params;

/// A 2-D convolution (cross-correlation: the kernel is not flipped) placed on its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Rows, columns, taps, strides, padding.
    pub window: WindowGeometry,
    /// Input channels.
    pub c_in: usize,
    /// Output channels.
    pub c_out: usize,
    /// Output channels `[q*c_out/groups, (q+1)*c_out/groups)` read input channels `[q*c_in/groups, ..)`.
    pub groups: usize,
}

impl Conv2d {
    /// Places a convolution on images of `input` = `[h, w, c_in]`.
    ///
    /// # Errors
    /// As [`Window::on`]; [`Error::InvalidArgument`] unless `groups` divides both channel counts.
    pub fn new(input: [usize; 3], c_out: usize, window: Window, groups: usize, at: &str) -> Result<Self> {
        let c_in = input[2];
        if c_out == 0 || groups == 0 || !c_in.is_multiple_of(groups) || !c_out.is_multiple_of(groups) {
            let got = format!("{groups} groups for {c_in} input and {c_out} output channels");
            return Err(Error::argument(at, "groups that divide the input and the output channels", got));
        }
        Ok(Conv2d { window: window.on([input[0], input[1]], at)?, c_in, c_out, groups })
    }

    /// Input channels of one group.
    pub fn c_in_per_group(&self) -> usize {
        self.c_in / self.groups
    }

    /// Output channels of one group.
    pub fn c_out_per_group(&self) -> usize {
        self.c_out / self.groups
    }

    /// Products summed into one output element.
    pub fn depth(&self) -> usize {
        self.window.taps() * self.c_in_per_group()
    }

    /// The kernel's shape, HWIO.
    pub fn kernel_shape(&self) -> [usize; 4] {
        [self.window.kernel[0], self.window.kernel[1], self.c_in_per_group(), self.c_out]
    }
}

/// Pooling of `[h, w, c]` images: padding counts as minus infinity to a maximum, and not at all to a mean, which is over
/// the elements on the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2d {
    /// Rows, columns, taps, strides, padding.
    pub window: WindowGeometry,
    /// Channels.
    pub channels: usize,
}

/// An activation, element by element. A NaN stays.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x` above 0, else `slope * x`; the derivative at 0 is `slope`.
    LeakyRelu {
        /// Of the part below 0.
        slope: f64,
    },
    /// `min(max(x, -limit), limit)`; the derivative is 1 where `|x| < limit`, else 0.
    Clamp {
        /// Above 0.
        limit: f64,
    },
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `x * (1 + erf(x / sqrt(2))) / 2` (Hendrycks and Gimpel 2016).
    Gelu,
    /// Its approximation `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2`.
    GeluTanh,
}

/// How a batch norm's running statistics follow those of the batches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StatisticsRule {
    /// `running = (1 - momentum)*running + momentum*batch`.
    pub momentum: f64,
    /// Whether the running variance is the biased one; else it is the batch's times `n/(n-1)` (1 for `n` = 1).
    pub biased: bool,
    /// Values of one channel in one example: `n` is this times the rows in use.
    pub per_example: usize,
}

/// An operation. Batched values have the batch as their first axis. Results in parentheses.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `x [n,h,w,c_in], kernel [kh,kw,c_in/groups,c_out]` -> (`y [n,oh,ow,c_out]`).
    Conv2d(Conv2d),
    /// `dy, kernel` -> (`dx`): the adjoint of `Conv2d` in x.
    Conv2dGradInput(Conv2d),
    /// `x, dy` -> (`dkernel`), summed over the batch: the adjoint of `Conv2d` in the kernel.
    Conv2dGradKernel(Conv2d),
    /// `a, b` -> (`op(a) [m,k] * op(b) [k,n]`), where `op` transposes if told to.
    MatMul {
        /// `a` is stored `[k, m]`.
        transpose_a: bool,
        /// `b` is stored `[n, k]`.
        transpose_b: bool,
    },
    /// `x [.., c], bias [c]` -> (`x + bias`).
    BiasAdd,
    /// `dy [.., c]` -> (`dbias [c]`): the sum over all axes but the last.
    BiasGrad,
    /// `a, b` -> (`a + b`), of the same shape.
    Add,
    /// `a, b` -> (`a * b`, element by element), of the same shape.
    Mul,
    /// `x` -> (this factor times `x`).
    Scale(f64),
    /// `x` -> (`dx`): the gradient of the mean of x's elements in use, 1 over their number in each.
    MeanGrad,
    /// `x` -> (0 where `x <= 0`, else `x`; a NaN stays).
    Relu,
    /// `y, dy` -> (`dy` where `y`, the output of `Relu`, is above 0, else 0).
    ReluGrad,
    /// `x` -> (the activation of x).
    Activation(Activation),
    /// `x, dy` -> (`dy` times the activation's derivative at x).
    ActivationGrad(Activation),
    /// `x [n,c]` -> (`exp(x) / sum(exp(x))` of each row).
    Softmax,
    /// `y, dy` -> (`y * (dy - sum(dy * y))` of each row), where y is the output of `Softmax`.
    SoftmaxGrad,
    /// `x` -> (`x / (1 - rate)` where it is kept, else 0). Linear, so `dy` -> (`dx`) is the same operation.
    Dropout(Dropout),
    /// `x` -> (`y`, `position` u32): the maximum, and the number (row-major in the window) of its first tap.
    /// NaN counts as the largest; a window in the padding alone gives minus infinity and position `u32::MAX`.
    MaxPool2d(Pool2d),
    /// `position, dy` -> (`dx`): each `dy` goes wholly to the first maximum.
    MaxPool2dGrad(Pool2d),
    /// `x` -> (`y`): the mean of the window's elements on the image; 0 for a window in the padding alone.
    AvgPool2d(Pool2d),
    /// `dy` -> (`dx`): the adjoint of `AvgPool2d`.
    AvgPool2dGrad(Pool2d),
    /// `x [n,h,w,c]` -> (`y [n,c]`): the mean over the pixels of each image.
    GlobalAvgPool,
    /// `dy [n,c]` -> (`dx [n,h,w,c]`) for images of `[h, w]` pixels.
    GlobalAvgPoolGrad([usize; 2]),
    /// `logits [n,classes], labels u32 [n]`, and `weights [classes]` if classes have some -> (`loss [n]`): of each row the
    /// sum over the classes of `t*(log(sum(exp(logits))) - logit)`. The target `t` is `weight*smoothing/classes`, and at the
    /// label `weight*(1 - smoothing)` more; a weight is 1 where there are none.
    SoftmaxCrossEntropy {
        /// The share of the target that all classes have together, from 0 to 1.
        smoothing: f64,
    },
    /// `logits, labels`, and `weights` -> (`dlogits`): of the loss's mean, as [`Op::Metrics`] has it.
    SoftmaxCrossEntropyGrad {
        /// As in the loss.
        smoothing: f64,
    },
    /// `y [n, ..], targets [n, ..]` -> (`loss [n]`): the mean of `(y - target)^2` over each row's elements.
    MeanSquaredError,
    /// `y, targets` -> (`dy`): of the loss's mean over the batch.
    MeanSquaredErrorGrad,
    /// `x [n, .., c]` -> (`mean [c]`, `inv_std [c]`, `variance [c]`) over all axes but the last: the biased variance, and
    /// `1/sqrt(variance + epsilon)` (Ioffe and Szegedy 2015).
    BatchStatistics {
        /// Added to the variance.
        epsilon: f64,
    },
    /// `x, scale [c], shift [c], mean [c], spread [c]` -> (`(x - mean)*inv_std*scale + shift`).
    BatchNorm {
        /// `None`: `spread` is `inv_std`. Otherwise it is a variance, and this is added to it under the root.
        epsilon: Option<f64>,
    },
    /// `x, dy, mean, inv_std` -> (`dscale [c]`): the sum of `dy*(x - mean)*inv_std` over all axes but the last.
    BatchNormGradScale,
    /// `x, dy, scale, mean, inv_std, dscale, dshift` -> (`dx`), through the statistics:
    /// `scale*inv_std*(dy - dshift/n - (x - mean)*inv_std*dscale/n)`.
    BatchNormGradInput,
    /// `mean, variance` of a batch -> (): moves the two parameters, a running mean and variance, that are not frozen.
    UpdateStatistics(StatisticsRule, [crate::graph::ParameterId; 2]),
    /// `x` -> (the same elements in another shape): the batch stays the first axis.
    Reshape(Vec<usize>),
    /// `loss [n]`, with `logits [n,classes], labels [n]` where there are classes, and `weights [classes]` where those have some ->
    /// (`mean loss [1]`): the sum of the losses over the number of rows, or over the sum of their labels' weights. Adds the
    /// batch's loss, correct answers, examples and weights to the executor's running sums.
    Metrics,
    /// Gradients of all parameters named, in that order -> (): each becomes the sum of its update's batches so far,
    /// weighted by their shares of the examples ([`StepScalars::share`], [`StepScalars::first`]).
    Accumulate(Vec<ParameterId>),
    /// Gradients of all parameters named, in that order -> (): later updates of these see the gradients clipped. One in
    /// a graph.
    Clip(Clip, Vec<ParameterId>),
    /// Gradients of all targets, in that order -> (): the masked update, if [`StepScalars::last`] is 1.
    Update(UpdateRule, Vec<Target>),
}

impl Op {
    /// The operation's name, as in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Conv2d(_) => "conv2d",
            Op::Conv2dGradInput(_) => "conv2d_grad_input",
            Op::Conv2dGradKernel(_) => "conv2d_grad_kernel",
            Op::MatMul { .. } => "matmul",
            Op::BiasAdd => "bias_add",
            Op::BiasGrad => "bias_grad",
            Op::Add => "add",
            Op::Mul => "mul",
            Op::Scale(_) => "scale",
            Op::MeanGrad => "mean_grad",
            Op::Relu => "relu",
            Op::ReluGrad => "relu_grad",
            Op::Activation(_) => "activation",
            Op::ActivationGrad(_) => "activation_grad",
            Op::Softmax => "softmax",
            Op::SoftmaxGrad => "softmax_grad",
            Op::Dropout(_) => "dropout",
            Op::MaxPool2d(_) => "max_pool2d",
            Op::MaxPool2dGrad(_) => "max_pool2d_grad",
            Op::AvgPool2d(_) => "avg_pool2d",
            Op::AvgPool2dGrad(_) => "avg_pool2d_grad",
            Op::GlobalAvgPool => "global_avg_pool",
            Op::GlobalAvgPoolGrad(_) => "global_avg_pool_grad",
            Op::SoftmaxCrossEntropy { .. } => "softmax_cross_entropy",
            Op::SoftmaxCrossEntropyGrad { .. } => "softmax_cross_entropy_grad",
            Op::MeanSquaredError => "mean_squared_error",
            Op::MeanSquaredErrorGrad => "mean_squared_error_grad",
            Op::BatchStatistics { .. } => "batch_statistics",
            Op::BatchNorm { .. } => "batch_norm",
            Op::BatchNormGradScale => "batch_norm_grad_scale",
            Op::BatchNormGradInput => "batch_norm_grad_input",
            Op::UpdateStatistics(..) => "update_statistics",
            Op::Reshape(_) => "reshape",
            Op::Metrics => "metrics",
            Op::Accumulate(_) => "accumulate",
            Op::Clip(..) => "clip",
            Op::Update(..) => "update",
        }
    }
}

params! {
    /// The numbers that change from step to step. On the device: one uniform of 48 bytes.
    pub struct StepScalars {
        /// Learning rate.
        pub learning_rate: f32,
        /// `1 - beta1^t` with t = 1 at the first step; 1 where the rule has none.
        pub correction1: f32,
        /// `1 - beta2^t`; 1 where the rule has none.
        pub correction2: f32,
        /// Rows of the batch in use; rows beyond are neither read nor counted.
        pub rows: u32,
        /// The step's number from 0, modulo 2^32.
        pub step: u32,
        /// 1: updates go on after a NaN or infinite loss; 0: the first such step and all later ones are skipped.
        pub on_non_finite_continue: u32,
        /// The seed of everything that is drawn in a run: its low and its high half.
        pub seed: [u32; 2],
        /// The number of this run among all that draw, modulo 2^32.
        pub draw: u32,
        /// This batch's share of the examples of its update; 1 where an update has one batch.
        pub share: f32,
        /// 1: this batch is the first of its update.
        pub first: u32,
        /// 1: this batch is the last of its update, which is made now.
        pub last: u32,
    }
}

impl StepScalars {
    /// A plain run of `rows` examples, learning rate 0.
    pub fn forward(rows: usize) -> Self {
        StepScalars {
            learning_rate: 0.0,
            correction1: 1.0,
            correction2: 1.0,
            rows: u32::try_from(rows).unwrap_or(u32::MAX),
            step: 0,
            on_non_finite_continue: 0,
            seed: [0; 2],
            draw: 0,
            share: 1.0,
            first: 1,
            last: 1,
        }
    }
}
