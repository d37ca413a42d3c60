//! Operations and their attributes. The documentation of each operation defines it by a formula.

use super::{Clip, ParameterId, Resample2d, Target, UpdateRule};
use crate::error::{Error, Result};
use crate::rng::threefry;
use crate::shape::{MAX_ELEMENTS, Shape, Window, WindowGeometry};
use crate::wgsl::params;
use serde::{Deserialize, Serialize};

/// Attributes of a 2-D convolution on a fixed input size. Cross-correlation: the kernel is not flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Input and output size, kernel, stride, dilation and padding.
    pub window: WindowGeometry,
    /// Input channels.
    pub c_in: usize,
    /// Output channels.
    pub c_out: usize,
    /// Channel groups: output channels of group `q`, `[q*c_out/groups, (q+1)*c_out/groups)`, read input
    /// channels `[q*c_in/groups, (q+1)*c_in/groups)`.
    pub groups: usize,
}

impl Conv2d {
    /// Resolves a convolution for images of shape `input` = `[h, w, c_in]`; `at` names it in errors.
    ///
    /// # Errors
    /// As [`Window::on`]; [`Error::InvalidArgument`] for no output channels, if `groups` does not divide both
    /// channel counts, or for a kernel of more than [`MAX_ELEMENTS`] elements.
    pub fn new(input: [usize; 3], c_out: usize, window: Window, groups: usize, at: &str) -> Result<Self> {
        let c_in = input[2];
        if c_out == 0 {
            return Err(Error::argument(at, "1 output channel or more", c_out));
        }
        if groups == 0 || !c_in.is_multiple_of(groups) || !c_out.is_multiple_of(groups) {
            let got = format!("{groups} groups for {c_in} input and {c_out} output channels");
            return Err(Error::argument(at, "groups that divide the input and the output channels", got));
        }
        let conv = Conv2d { window: window.on([input[0], input[1]], at)?, c_in, c_out, groups };
        // With a kernel of valid size, the reduction length cannot overflow.
        match Shape::new(conv.kernel_shape()) {
            Ok(_) => Ok(conv),
            Err(_) => {
                let expected = format!("a kernel of at most {MAX_ELEMENTS} elements");
                Err(Error::argument(at, expected, format!("{:?}", conv.kernel_shape())))
            }
        }
    }

    /// Input channels per group.
    pub fn c_in_per_group(&self) -> usize {
        self.c_in / self.groups
    }

    /// Output channels per group.
    pub fn c_out_per_group(&self) -> usize {
        self.c_out / self.groups
    }

    /// Reduction length: the number of products summed into one output element,
    /// `kernel_h * kernel_w * c_in / groups`.
    pub fn depth(&self) -> usize {
        self.window.taps() * self.c_in_per_group()
    }

    /// Kernel shape, HWIO: `[kernel_h, kernel_w, c_in / groups, c_out]`.
    pub fn kernel_shape(&self) -> [usize; 4] {
        [self.window.kernel[0], self.window.kernel[1], self.c_in_per_group(), self.c_out]
    }
}

/// Attributes of 2-D pooling of `[h, w, c]` images. Padding counts as minus infinity in a maximum and is
/// excluded from an average (PyTorch's `count_include_pad=False`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2d {
    /// Input and output size, kernel, stride, dilation and padding.
    pub window: WindowGeometry,
    /// Channels.
    pub channels: usize,
}

/// An elementwise activation function. NaN inputs give NaN.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Activation {
    /// `x` where `x > 0`, else `slope * x`; the derivative at 0 is `slope`.
    LeakyRelu {
        /// Slope for `x <= 0`; finite.
        slope: f64,
    },
    /// `min(max(x, min), max)`; the derivative is 1 where `min < x < max`, else 0.
    Clamp {
        /// Smallest output; finite in f32.
        min: f64,
        /// Largest output; finite in f32, above `min`. A clamp with one limit has -[`f32::MAX`] or [`f32::MAX`] as the other.
        max: f64,
    },
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `x * (1 + erf(x / sqrt(2))) / 2` (Hendrycks and Gimpel 2016).
    Gelu,
    /// The tanh approximation of GELU, `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2`.
    GeluTanh,
    /// `min(max(x, 0), 6)`; the derivative is 1 where `0 < x < 6`, else 0.
    Relu6,
    /// `x / (1 + exp(-x))`, also called swish (Hendrycks and Gimpel 2016).
    Silu,
    /// `min(max(x + 3, 0), 6) / 6`; the derivative is 1/6 where `|x| < 3`, else 0 (Howard et al. 2019).
    HardSigmoid,
    /// `x * min(max(x + 3, 0), 6) / 6`; the derivative is 0 at -3 and 1 at 3 (Howard et al. 2019).
    HardSwish,
    /// `(1 + max(x, 0))^-exponent`; the derivative is `-exponent` at 0. The factor of local response normalization.
    InversePower {
        /// Exponent, above 0 and at most 16.
        exponent: f64,
    },
}

/// Dropout (Srivastava et al. 2014), inverted: kept elements are scaled in training, so evaluation is the
/// identity.
///
/// The mask is a pure function of seed, draw, layer and index: the element with flat index `i` is kept if the
/// first word of `threefry(seed, [i, draw + layer * 0x9e3779b9])` (modulo 2^32; `seed` and `draw` as in
/// [`StepScalars`]) is at least [`Dropout::threshold`]. The counters of different draws of a layer differ,
/// and so do the counters of different layers in one draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability that an element becomes 0, in `[0, 1)`.
    pub rate: f64,
    /// Index of the dropout layer; distinguishes the masks of the layers of one graph.
    pub layer: u32,
}

impl Dropout {
    /// Threshold below which a random word drops its element: `rate * 2^32`, rounded.
    pub fn threshold(&self) -> u32 {
        // The conversion to `u32` saturates at 2^32 - 1, so even for a rate that rounds to 2^32, one of the
        // 2^32 possible words keeps its element.
        (self.rate * 4_294_967_296.0).round() as u32
    }

    /// The factor of kept elements, `1 / (1 - rate)`.
    pub fn scale(&self) -> f64 {
        1.0 / (1.0 - self.rate)
    }

    /// Offset that the layer adds to the second counter word. The multiplier is odd, so different layers have
    /// different offsets.
    pub fn offset(&self) -> u32 {
        self.layer.wrapping_mul(0x9e37_79b9)
    }

    /// Whether the element with this flat index is kept.
    pub fn keeps(&self, seed: [u32; 2], draw: u32, element: u32) -> bool {
        threefry(seed, [element, draw.wrapping_add(self.offset())])[0] >= self.threshold()
    }
}

/// The loss of an element `y` of an output with the target `t`; `d = y - t`.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ElementLoss {
    /// `slope*d^2 / (2*threshold)` where `|d| <= threshold`, else `slope*(|d| - threshold/2)` (Huber 1964). With
    /// threshold 0, it is `slope*|d|`, whose derivative at 0 is 0.
    Huber {
        /// The difference at which the parabola ends; 0 or more.
        threshold: f64,
        /// Slope beyond it; above 0.
        slope: f64,
    },
    /// `positive_weight*t*log(1 + exp(-y)) + (1 - t)*log(1 + exp(y))`: the binary cross-entropy of the logit y.
    BinaryCrossEntropy {
        /// Weight of the loss of positive targets; above 0.
        positive_weight: f64,
    },
}

/// The sets of elements of an example that a normalization of examples has the statistics of: the channels of a group,
/// at each position or at all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalization {
    /// Number of groups of adjacent channels; a divisor of the number of channels.
    pub groups: usize,
    /// Whether each position has statistics of its own (layer norm over the channels), or all have the same (group
    /// norm).
    pub each_position: bool,
    /// Added to the variance.
    pub epsilon: f64,
}

/// Update of a batch norm's running statistics (exponential moving averages).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StatisticsRule {
    /// `running = (1 - momentum)*running + momentum*batch`.
    pub momentum: f64,
    /// Whether to average the biased batch variance; if not, the variance is first multiplied by `n/(n-1)`
    /// (by 1 for `n` = 1).
    pub biased: bool,
    /// Number of elements per channel and example. The `n` of `biased` is this times the number of valid
    /// rows.
    pub per_example: usize,
}

/// An operation. Each variant documents `operands -> (results)`; batched values have the batch as their first
/// axis.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `x [n,h,w,c_in], kernel [kh,kw,c_in/groups,c_out]` -> (`y [n,oh,ow,c_out]`).
    Conv2d(Conv2d),
    /// `dy, kernel` -> (`dx`): the gradient of `Conv2d` with respect to x.
    Conv2dGradInput(Conv2d),
    /// `x, dy` -> (`dkernel`): the gradient of `Conv2d` with respect to the kernel, summed over the batch.
    Conv2dGradKernel(Conv2d),
    /// `a, b` -> (`op(a) [m,k] * op(b) [k,n]`), where `op` is the identity or the transpose.
    MatMul {
        /// Whether `a` is stored as `[k, m]`.
        transpose_a: bool,
        /// Whether `b` is stored as `[n, k]`.
        transpose_b: bool,
    },
    /// `x [.., c], bias [c]` -> (`x + bias`).
    BiasAdd,
    /// `dy [.., c]` -> (`dbias [c]`): the sum over all axes but the last.
    BiasGrad,
    /// `a, b` -> (`a + b`), of the same shape.
    Add,
    /// `a, b` -> (`a * b`, elementwise), of the same shape.
    Mul,
    /// `a [.., c], b [c]` or `a [n, .., c], b [n, c]` -> (`a * b`): each channel times its factor, one for all
    /// examples or one for each.
    MulChannels,
    /// `a [.., c], b [.., d]` -> (`y [.., c + d]`): both side by side along the last axis.
    Concat,
    /// `x [.., c]` -> (`y [.., channels]`): these channels of x.
    SliceChannels {
        /// First channel.
        begin: usize,
        /// Number of channels, 1 or more.
        channels: usize,
    },
    /// `x [.., c]` -> (`y [.., channels]`): x at channel `begin`, and zeros around it.
    PadChannels {
        /// First channel of x in the result.
        begin: usize,
        /// Number of channels of the result.
        channels: usize,
    },
    /// `x` -> (`factor * x`).
    Scale(f64),
    /// `x` -> (`dx`): the gradient of the mean of x's valid elements, `1 / elements` everywhere.
    MeanGrad,
    /// `x` -> (0 where `x <= 0`, else `x`; NaN gives NaN).
    Relu,
    /// `y, dy` -> (`dx`): `dy` where `y > 0`, else 0; `y` is the output of `Relu`.
    ReluGrad,
    /// `x` -> (`activation(x)`).
    Activation(Activation),
    /// `x, dy` -> (`dx`): `dy` times the derivative of the activation at x.
    ActivationGrad(Activation),
    /// `x [n,c]` -> (`y`): `exp(x) / sum(exp(x))` per row.
    Softmax,
    /// `y, dy` -> (`dx`): `y * (dy - sum(dy * y))` per row; `y` is the output of `Softmax`.
    SoftmaxGrad,
    /// `x [n,c]` -> (`y`): `x - log(sum(exp(x)))` per row.
    LogSoftmax,
    /// `y, dy` -> (`dx`): `dy - exp(y) * sum(dy)` per row; `y` is the output of `LogSoftmax`.
    LogSoftmaxGrad,
    /// `x` -> (`x / (1 - rate)` where kept, else 0). It is linear, so the same operation with the same mask
    /// maps `dy` to `dx`.
    Dropout(Dropout),
    /// `x` -> (`y`, `position` u32): the maximum of each window, and the row-major index within the window of
    /// its first occurrence. NaN counts as the largest value; a window entirely in the padding gives minus
    /// infinity and position `u32::MAX`.
    MaxPool2d(Pool2d),
    /// `position, dy` -> (`dx`): each `dy` is added to the element at its window's `position`.
    MaxPool2dGrad(Pool2d),
    /// `x` -> (`y`): the mean of each window's elements inside the image; 0 for a window entirely in the
    /// padding.
    AvgPool2d(Pool2d),
    /// `dy` -> (`dx`): the gradient of `AvgPool2d`.
    AvgPool2dGrad(Pool2d),
    /// `x [n,h,w,c]` -> (`y [n,oh,ow,c]`): upsampling, or means over windows. The adjoint of the operation is the
    /// same operation with [`Resample2d::adjoint`].
    Resample2d(Resample2d),
    /// `x [n,h,w,c]` -> (`y [n,c]`): the mean over the pixels of each image.
    GlobalAvgPool,
    /// `dy [n,c]` -> (`dx [n,h,w,c]`): the gradient of `GlobalAvgPool` for images of `[h, w]` pixels.
    GlobalAvgPoolGrad([usize; 2]),
    /// `logits [n,classes], labels u32 [n]`, optionally `class_weights [classes]` -> (`loss [n]`): per row
    /// the sum over the classes of `t*(log(sum(exp(logits))) - logit)`. The target is
    /// `t[c] = weight[c]*(smoothing/classes + (1 - smoothing)*(c == label))`; without class weights, `weight`
    /// is 1.
    SoftmaxCrossEntropy {
        /// Label smoothing, from 0 to 1: the share of the target distributed uniformly over all classes.
        smoothing: f64,
    },
    /// `logits, labels`, optionally `class_weights` -> (`dlogits`): the gradient of the mean loss as defined
    /// by [`Op::Metrics`].
    SoftmaxCrossEntropyGrad {
        /// Label smoothing, as in the loss.
        smoothing: f64,
    },
    /// `y [n, ..], targets [n, ..]` -> (`loss [n]`): the mean of `(y - target)^2` over the elements of each
    /// row.
    MeanSquaredError,
    /// `y, targets` -> (`dy`): the gradient of the mean loss over the batch.
    MeanSquaredErrorGrad,
    /// `y [n, ..], targets [n, ..]` -> (`loss [n]`): the mean of the losses of the elements of each row.
    ElementLoss(ElementLoss),
    /// `y, targets` -> (`dy`): the gradient of the mean loss over the batch.
    ElementLossGrad(ElementLoss),
    /// `logits [n,classes], targets [n,classes]` -> (`loss [n]`): per row the sum over the classes of
    /// `t*(log(sum(exp(logits))) - logit)`, where classes with a target of 0 add nothing.
    SoftCrossEntropy,
    /// `logits, targets` -> (`dlogits`): the gradient of the mean loss over the batch.
    SoftCrossEntropyGrad,
    /// `x [n, .., c]` -> (`mean [c]`, `inv_std [c]`, `variance [c]`) over all axes but the last, where
    /// `variance` is biased and `inv_std` is `1/sqrt(variance + epsilon)` (Ioffe and Szegedy 2015).
    BatchStatistics {
        /// Added to the variance.
        epsilon: f64,
    },
    /// `x, scale [c], shift [c], mean [c], spread [c]` -> (`y`): `(x - mean)*inv_std*scale + shift`.
    BatchNorm {
        /// `None` if the operand `spread` is `inv_std` itself (training). `Some(epsilon)` if it is a
        /// variance, with `inv_std = 1/sqrt(spread + epsilon)` (evaluation).
        epsilon: Option<f64>,
    },
    /// `x, dy, mean, spread` -> (`dscale [c]`): the sum of `dy*(x - mean)*inv_std` over all axes but the
    /// last.
    BatchNormGradScale {
        /// As in [`Op::BatchNorm`].
        epsilon: Option<f64>,
    },
    /// `x, dy, scale, mean, inv_std, dscale, dshift` -> (`dx`), including the gradient through the batch
    /// statistics: `scale*inv_std*(dy - dshift/n - (x - mean)*inv_std*dscale/n)`.
    BatchNormGradInput,
    /// `x [n, .., c]` -> (`y [n, .., c]`, `inv_std [n, sets]`): `(x - mean)*inv_std` of each set of elements of an
    /// example, where `inv_std` is `1/sqrt(variance + epsilon)` with the biased variance (Wu and He 2018; Ba et al.
    /// 2016). The sets are numbered by position, if each has its own, then by group.
    Normalize(Normalization),
    /// `y, inv_std, dy` -> (`dx`): `inv_std*(dy - mean(dy) - y*mean(dy*y))` for each set, the gradient of `Normalize`
    /// with the results `y, inv_std`.
    NormalizeGrad(Normalization),
    /// `mean, variance` of a batch -> (): updates the unfrozen elements of the two parameters, the running
    /// mean and the running variance. An element whose new value is not finite keeps the old one, as in an
    /// [`UpdateRule`].
    UpdateStatistics(StatisticsRule, [ParameterId; 2]),
    /// `x` -> (`x` with these extents); a batch axis stays first.
    Reshape(Vec<usize>),
    /// `loss [n]`, for classification also `logits [n,classes], labels [n]`, optionally
    /// `class_weights [classes]` -> (`mean loss [1]`): the sum of the losses divided by the number of rows,
    /// or by the sum of the labels' weights if that is above 0. Adds the batch's loss, correct predictions, examples and weights
    /// to the executor's running sums.
    Metrics,
    /// Gradients of the listed parameters, in that order -> (): gradient accumulation. Replaces each gradient
    /// by the sum of the gradients of all batches of the current update so far, weighted by
    /// [`StepScalars::share`].
    Accumulate(Vec<ParameterId>),
    /// Gradients of the listed parameters, in that order -> (): clips the gradients that later updates read.
    /// At most one per graph.
    Clip(Clip, Vec<ParameterId>),
    /// Gradients of the listed targets, in that order -> (): the masked update, executed if
    /// [`StepScalars::last`] is 1.
    Update(UpdateRule, Vec<Target>),
}

impl Op {
    /// Name of the operation, as used in reports and errors.
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
            Op::MulChannels => "mul_channels",
            Op::Concat => "concat",
            Op::SliceChannels { .. } => "slice_channels",
            Op::PadChannels { .. } => "pad_channels",
            Op::Scale(_) => "scale",
            Op::MeanGrad => "mean_grad",
            Op::Relu => "relu",
            Op::ReluGrad => "relu_grad",
            Op::Activation(_) => "activation",
            Op::ActivationGrad(_) => "activation_grad",
            Op::Softmax => "softmax",
            Op::SoftmaxGrad => "softmax_grad",
            Op::LogSoftmax => "log_softmax",
            Op::LogSoftmaxGrad => "log_softmax_grad",
            Op::Dropout(_) => "dropout",
            Op::MaxPool2d(_) => "max_pool2d",
            Op::MaxPool2dGrad(_) => "max_pool2d_grad",
            Op::AvgPool2d(_) => "avg_pool2d",
            Op::AvgPool2dGrad(_) => "avg_pool2d_grad",
            Op::Resample2d(r) if r.adjoint => "resample2d_adjoint",
            Op::Resample2d(_) => "resample2d",
            Op::GlobalAvgPool => "global_avg_pool",
            Op::GlobalAvgPoolGrad(_) => "global_avg_pool_grad",
            Op::SoftmaxCrossEntropy { .. } => "softmax_cross_entropy",
            Op::SoftmaxCrossEntropyGrad { .. } => "softmax_cross_entropy_grad",
            Op::MeanSquaredError => "mean_squared_error",
            Op::MeanSquaredErrorGrad => "mean_squared_error_grad",
            Op::ElementLoss(_) => "element_loss",
            Op::ElementLossGrad(_) => "element_loss_grad",
            Op::SoftCrossEntropy => "soft_cross_entropy",
            Op::SoftCrossEntropyGrad => "soft_cross_entropy_grad",
            Op::BatchStatistics { .. } => "batch_statistics",
            Op::BatchNorm { .. } => "batch_norm",
            Op::BatchNormGradScale { .. } => "batch_norm_grad_scale",
            Op::BatchNormGradInput => "batch_norm_grad_input",
            Op::Normalize(_) => "normalize",
            Op::NormalizeGrad(_) => "normalize_grad",
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
    /// Per-step scalars; on the device a uniform buffer of 48 bytes.
    pub struct StepScalars {
        /// Learning rate.
        pub learning_rate: f32,
        /// Adam's bias correction `1 - beta1^t` of elements that missed no step, with t = 1 at the first
        /// step; 1 for other rules.
        pub correction1: f32,
        /// Adam's bias correction `1 - beta2^t` of these elements; 1 for other rules.
        pub correction2: f32,
        /// Valid rows of the batch; later rows are neither read nor counted.
        pub rows: u32,
        /// Index of the step from 0, modulo 2^32.
        pub step: u32,
        /// 1: updates continue after a NaN or infinite loss or update; 0: the updates of the first step with
        /// such a loss and of all later steps are skipped, and those after a step with such an update.
        pub on_non_finite_continue: u32,
        /// Seed of all random draws of the run: low and high 32 bits.
        pub seed: [u32; 2],
        /// Index of this run among all runs that draw random numbers, modulo 2^32.
        pub draw: u32,
        /// The batch's share of the examples of its update; 1 without gradient accumulation.
        pub share: f32,
        /// 1 if this batch is the first of its update.
        pub first: u32,
        /// 1 if this batch is the last of its update, which then executes.
        pub last: u32,
    }
}

impl StepScalars {
    /// The scalars of a forward pass of `rows` examples: learning rate 0, seed 0, no accumulation.
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
