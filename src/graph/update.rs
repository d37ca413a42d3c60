//! How parameters change: rules, clipping, and what each target is scaled by.

use super::ParameterId;

/// How a parameter changes from its gradient `g`. A frozen element's weight and state are not written. `lr` is the
/// step's learning rate times the target's own factor; `weight_decay` is multiplied by the target's factor, too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UpdateRule {
    /// `g += weight_decay*w; buf = momentum*buf + g; step = buf, or g + momentum*buf for Nesterov; w -= lr*step`
    /// (PyTorch's SGD without dampening). State: `momentum`, only if it is not 0.
    Sgd {
        /// Share of the last step kept.
        momentum: f64,
        /// Nesterov's look-ahead.
        nesterov: bool,
        /// Coupled decay.
        weight_decay: f64,
    },
    /// `m = b1*m + (1-b1)*g; v = b2*v + (1-b2)*g*g; w -= lr * (m/(1-b1^t)) / (sqrt(v/(1-b2^t)) + eps)`
    /// (Kingma and Ba 2015); decay coupled (`g += weight_decay*w` first) or decoupled
    /// (`w -= lr*weight_decay*w` first: Loshchilov and Hutter 2019). State: `m`, `v`; and `v_max` for AMSGrad (Reddi et
    /// al. 2018): the largest `v` so far, which takes the place of `v` in the step.
    Adam {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the corrected root.
        epsilon: f64,
        /// Decay.
        weight_decay: f64,
        /// Whether the decay acts on the weight itself (AdamW).
        decoupled: bool,
        /// Whether the step divides by the largest second moment so far.
        amsgrad: bool,
    },
    /// `g += weight_decay*w; v = alpha*v + (1-alpha)*g*g; step = g / (sqrt(v) + eps)`; with momentum
    /// `buf = momentum*buf + step` is the step; `w -= lr*step` (Tieleman and Hinton 2012, as PyTorch has it). Centred
    /// (Graves 2013): `a = alpha*a + (1-alpha)*g`, and `max(v - a*a, 0)` under the root, for rounding can bring it below
    /// 0. State: `square_avg`, then `grad_avg` if centred, then `momentum` if it is not 0.
    RmsProp {
        /// Decay of both averages.
        alpha: f64,
        /// Added to the root.
        epsilon: f64,
        /// Share of the last step kept.
        momentum: f64,
        /// Whether the mean gradient's square is taken off.
        centered: bool,
        /// Coupled decay.
        weight_decay: f64,
    },
    /// `g += weight_decay*w; s += g*g; w -= lr * g / (sqrt(s) + eps)` (Duchi et al. 2011). State: `sum`.
    Adagrad {
        /// Added to the root.
        epsilon: f64,
        /// Coupled decay.
        weight_decay: f64,
    },
}

impl UpdateRule {
    /// Names of the state tensors that each parameter has.
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

    /// Its decay, coupled or not.
    pub fn weight_decay(&self) -> f64 {
        match *self {
            UpdateRule::Sgd { weight_decay, .. }
            | UpdateRule::Adam { weight_decay, .. }
            | UpdateRule::RmsProp { weight_decay, .. }
            | UpdateRule::Adagrad { weight_decay, .. } => weight_decay,
        }
    }

    /// The same rule with its decay multiplied.
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

/// A parameter that an update changes, and its own factors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Which.
    pub parameter: ParameterId,
    /// Multiplies the learning rate, 0 or more.
    pub learning_rate: f64,
    /// Multiplies the weight decay, 0 or more.
    pub weight_decay: f64,
}

impl From<ParameterId> for Target {
    /// Factors of 1.
    fn from(parameter: ParameterId) -> Self {
        Target { parameter, learning_rate: 1.0, weight_decay: 1.0 }
    }
}

/// How gradients are cut down before decay and update. The gradients themselves stay as they are.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clip {
    /// `g *= min(1, max / (norm + 1e-6))`, where `norm` is the Euclidean norm over the trainable elements of all
    /// parameters, or over the frozen ones as well. A NaN norm makes every trainable gradient NaN, an infinite one 0 or
    /// NaN. Squares are added up in f32: gradients above 1.8e19 count as infinite.
    Norm {
        /// The largest norm that is let through.
        max: f64,
        /// Whether frozen elements count.
        over_all: bool,
    },
    /// Each element to `[-limit, limit]`; a NaN stays.
    Value {
        /// The largest size that is let through.
        limit: f64,
    },
}

impl Clip {
    /// Added to the norm, so that a norm of 0 is no division by 0.
    pub const EPSILON: f64 = 1e-6;

    /// By the norm over all trainable elements.
    pub fn norm(max: f64) -> Self {
        Clip::Norm { max, over_all: false }
    }

    /// Each element by itself.
    pub fn value(limit: f64) -> Self {
        Clip::Value { limit }
    }

    /// Counts frozen elements in the norm, too; says nothing to [`Clip::value`].
    pub fn over_all(self) -> Self {
        match self {
            Clip::Norm { max, .. } => Clip::Norm { max, over_all: true },
            value => value,
        }
    }
}
