//! Optimizer update rules, gradient clipping and per-parameter factors.

use super::ParameterId;

/// Optimizer update rule for a weight `w` with gradient `g`.
///
/// `lr` is the step's learning rate times [`Target::learning_rate`]; `weight_decay` is multiplied by
/// [`Target::weight_decay`]. Weight and state of a frozen element are never written. An element whose new
/// weight or state is not finite in f32 keeps its old ones, and updates after the next [`Op::Metrics`] are
/// skipped, unless [`StepScalars::on_non_finite_continue`] is 1.
///
/// [`Op::Metrics`]: super::Op::Metrics
/// [`StepScalars::on_non_finite_continue`]: super::StepScalars::on_non_finite_continue
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UpdateRule {
    /// `g += weight_decay*w; buf = momentum*buf + g; step = buf, or g + momentum*buf for Nesterov; w -=
    /// lr*step` (PyTorch's SGD without dampening). State: `momentum`, only if it is not 0.
    Sgd {
        /// Momentum factor.
        momentum: f64,
        /// Whether to use Nesterov momentum.
        nesterov: bool,
        /// Coupled weight decay (L2 penalty).
        weight_decay: f64,
    },
    /// `m = b1*m + (1-b1)*g; v = b2*v + (1-b2)*g*g; w -= lr * (m/(1-b1^t)) / (sqrt(v/(1-b2^t)) + eps)`
    /// (Kingma and Ba 2015); decay coupled (`g += weight_decay*w` first) or decoupled
    /// (`w -= lr*weight_decay*w` first: Loshchilov and Hutter 2019). State: `m`, `v`; for AMSGrad (Reddi et
    /// al. 2018) also `v_max`, the running maximum of `v`, which replaces `v` in the step. For an element
    /// that missed steps, `t` is the index of the step, counted from 1, minus their number.
    Adam {
        /// Decay rate of the first moment.
        beta1: f64,
        /// Decay rate of the second moment.
        beta2: f64,
        /// Added to the square root of the bias-corrected second moment.
        epsilon: f64,
        /// Weight decay.
        weight_decay: f64,
        /// Whether the weight decay is decoupled (AdamW).
        decoupled: bool,
        /// Whether the step divides by the running maximum of the second moment (AMSGrad).
        amsgrad: bool,
    },
    /// `g += weight_decay*w; v = alpha*v + (1-alpha)*g*g; step = g / (sqrt(v) + eps)`; with momentum
    /// `buf = momentum*buf + step` is the step; `w -= lr*step` (Tieleman and Hinton 2012, as in PyTorch).
    /// Centered (Graves 2013): `a = alpha*a + (1-alpha)*g`, and the square root is of `max(v - a*a, 0)`,
    /// because rounding can make the difference negative. State: `square_avg`, then `grad_avg` if centered,
    /// then `momentum` if it is not 0.
    RmsProp {
        /// Decay rate of both averages.
        alpha: f64,
        /// Added to the square root.
        epsilon: f64,
        /// Momentum factor.
        momentum: f64,
        /// Whether the squared mean gradient is subtracted from the mean square.
        centered: bool,
        /// Coupled weight decay (L2 penalty).
        weight_decay: f64,
    },
    /// `g += weight_decay*w; s += g*g; w -= lr * g / (sqrt(s) + eps)` (Duchi et al. 2011). State: `sum`.
    Adagrad {
        /// Added to the square root.
        epsilon: f64,
        /// Coupled weight decay (L2 penalty).
        weight_decay: f64,
    },
}

impl UpdateRule {
    /// Names of the optimizer state tensors per parameter.
    pub fn slots(&self) -> &'static [&'static str] {
        match *self {
            UpdateRule::Sgd { momentum: 0.0, .. } => &[],
            UpdateRule::Sgd { .. } => &["momentum"],
            UpdateRule::Adam { amsgrad: false, .. } => &["m", "v"],
            UpdateRule::Adam { .. } => &["m", "v", "v_max"],
            UpdateRule::RmsProp { momentum: 0.0, centered: false, .. } => &["square_avg"],
            UpdateRule::RmsProp { momentum: 0.0, .. } => &["square_avg", "grad_avg"],
            UpdateRule::RmsProp { centered: false, .. } => &["square_avg", "momentum"],
            UpdateRule::RmsProp { .. } => &["square_avg", "grad_avg", "momentum"],
            UpdateRule::Adagrad { .. } => &["sum"],
        }
    }

    /// The weight decay, coupled or decoupled.
    pub fn weight_decay(&self) -> f64 {
        match *self {
            UpdateRule::Sgd { weight_decay, .. }
            | UpdateRule::Adam { weight_decay, .. }
            | UpdateRule::RmsProp { weight_decay, .. }
            | UpdateRule::Adagrad { weight_decay, .. } => weight_decay,
        }
    }

    /// Multiplies the weight decay by `by`.
    pub fn scale_decay(mut self, by: f64) -> Self {
        match &mut self {
            UpdateRule::Sgd { weight_decay, .. }
            | UpdateRule::Adam { weight_decay, .. }
            | UpdateRule::RmsProp { weight_decay, .. }
            | UpdateRule::Adagrad { weight_decay, .. } => *weight_decay *= by,
        }
        self
    }
}

/// A parameter of an update, with its learning-rate and weight-decay factors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Parameter.
    pub parameter: ParameterId,
    /// Factor of the learning rate, 0 or more.
    pub learning_rate: f64,
    /// Factor of the weight decay, 0 or more.
    pub weight_decay: f64,
}

impl From<ParameterId> for Target {
    /// A target with both factors 1.
    fn from(parameter: ParameterId) -> Self {
        Target { parameter, learning_rate: 1.0, weight_decay: 1.0 }
    }
}

/// Gradient clipping, applied before weight decay and update. The gradient values of the graph are not
/// modified.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// By global norm: `g *= min(1, max / (norm + 1e-6))`, where `norm` is the Euclidean norm over the
    /// trainable elements of all parameters, or also over the frozen ones. A NaN norm makes every trainable
    /// gradient NaN, an infinite norm makes it 0 or NaN. Squares are summed in f32: gradients above 1.8e19
    /// count as infinite.
    Norm {
        /// Maximum norm; gradients with a larger norm are scaled down to it.
        max: f64,
        /// Whether frozen elements contribute to the norm.
        over_all: bool,
    },
    /// By value: each element is clamped to `[-limit, limit]`; NaN stays NaN.
    Value {
        /// Maximum magnitude of a gradient element.
        limit: f64,
    },
}

impl Clip {
    /// Added to the norm to avoid a division by 0.
    pub const EPSILON: f64 = 1e-6;

    /// Clips by the global norm over all trainable elements.
    pub fn norm(max: f64) -> Self {
        Clip::Norm { max, over_all: false }
    }

    /// Clips each element to `[-limit, limit]`.
    pub fn value(limit: f64) -> Self {
        Clip::Value { limit }
    }

    /// Includes frozen elements in the norm; no effect on [`Clip::value`].
    pub fn over_all(self) -> Self {
        match self {
            Clip::Norm { max, .. } => Clip::Norm { max, over_all: true },
            value => value,
        }
    }
}
