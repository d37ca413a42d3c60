//! Hyper-parameters of the update rules, with PyTorch's definitions and defaults.

use super::Optimizer;
use crate::error::{Error, Result};
use crate::graph::UpdateRule;
use std::fmt;
use std::str::FromStr;

/// Stochastic gradient descent with momentum, Nesterov momentum and coupled weight decay (PyTorch's SGD).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    learning_rate: f64,
    momentum: f64,
    nesterov: bool,
    weight_decay: f64,
}

impl Sgd {
    /// SGD without momentum or weight decay.
    pub fn new(learning_rate: f64) -> Self {
        Sgd { learning_rate, momentum: 0.0, nesterov: false, weight_decay: 0.0 }
    }

    /// Sets the momentum, from 0 to below 1.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Sets whether to use Nesterov momentum, which requires a momentum above 0.
    pub fn nesterov(mut self, nesterov: bool) -> Self {
        self.nesterov = nesterov;
        self
    }

    /// Sets the coupled weight decay: adds `weight_decay * w` to the gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }
}

impl From<Sgd> for Optimizer {
    fn from(sgd: Sgd) -> Self {
        let Sgd { learning_rate, momentum, nesterov, weight_decay } = sgd;
        Optimizer::new("sgd", UpdateRule::Sgd { momentum, nesterov, weight_decay }, learning_rate)
    }
}

/// The steps that the bias correction of Adam counts: its moments are divided by `1 - beta^n`.
///
/// The two differ only for elements that were frozen during some steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BiasCorrection {
    /// For each element, the steps in which it was trained, as PyTorch counts them for each parameter. A thaw
    /// that sets the state of an element to 0 also starts its count again.
    #[default]
    ElementSteps,
    /// All steps of the trainer. An element whose moments are 0 after many steps, because it was frozen,
    /// first moves several times the learning rate in each step.
    TrainerSteps,
}

impl fmt::Display for BiasCorrection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BiasCorrection::ElementSteps => "element-steps",
            BiasCorrection::TrainerSteps => "trainer-steps",
        })
    }
}

impl FromStr for BiasCorrection {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "element-steps" => Ok(BiasCorrection::ElementSteps),
            "trainer-steps" => Ok(BiasCorrection::TrainerSteps),
            _ => Err(Error::argument("bias correction", "element-steps or trainer-steps", text)),
        }
    }
}

/// Adam (Kingma and Ba 2015) with bias correction and coupled weight decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    learning_rate: f64,
    betas: [f64; 2],
    epsilon: f64,
    weight_decay: f64,
    amsgrad: bool,
    bias_correction: BiasCorrection,
}

impl Adam {
    /// Adam with betas 0.9 and 0.999, epsilon 1e-8 and no weight decay.
    pub fn new(learning_rate: f64) -> Self {
        Adam {
            learning_rate,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 0.0,
            amsgrad: false,
            bias_correction: BiasCorrection::ElementSteps,
        }
    }

    /// Sets the decay rates of the first and the second moment, each from 0 to below 1.
    pub fn betas(mut self, beta1: f64, beta2: f64) -> Self {
        self.betas = [beta1, beta2];
        self
    }

    /// Sets the number added to the square root of the bias-corrected second moment.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Sets the coupled weight decay: adds `weight_decay * w` to the gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Sets whether to divide by the largest second moment so far (AMSGrad, Reddi et al. 2018). The maximum
    /// is over the uncorrected moments; the bias correction is applied to it.
    pub fn amsgrad(mut self, amsgrad: bool) -> Self {
        self.amsgrad = amsgrad;
        self
    }

    /// Sets which steps the bias correction counts.
    pub fn bias_correction(mut self, counts: BiasCorrection) -> Self {
        self.bias_correction = counts;
        self
    }

    fn optimizer(self, name: &'static str, decoupled: bool) -> Optimizer {
        let Adam { learning_rate, betas: [beta1, beta2], epsilon, weight_decay, amsgrad, bias_correction } =
            self;
        let rule = UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, decoupled, amsgrad };
        Optimizer { bias_correction: Some(bias_correction), ..Optimizer::new(name, rule, learning_rate) }
    }
}

impl From<Adam> for Optimizer {
    fn from(adam: Adam) -> Self {
        adam.optimizer(if adam.amsgrad { "amsgrad" } else { "adam" }, false)
    }
}

/// AdamW (Loshchilov and Hutter 2019): Adam with decoupled weight decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW(Adam);

impl AdamW {
    /// AdamW with betas 0.9 and 0.999, epsilon 1e-8 and weight decay 0.01.
    pub fn new(learning_rate: f64) -> Self {
        AdamW(Adam::new(learning_rate).weight_decay(0.01))
    }

    /// Sets the decay rates of the first and the second moment, each from 0 to below 1.
    pub fn betas(self, beta1: f64, beta2: f64) -> Self {
        AdamW(self.0.betas(beta1, beta2))
    }

    /// Sets the number added to the square root of the bias-corrected second moment.
    pub fn epsilon(self, epsilon: f64) -> Self {
        AdamW(self.0.epsilon(epsilon))
    }

    /// As [`Adam::amsgrad`].
    pub fn amsgrad(self, amsgrad: bool) -> Self {
        AdamW(self.0.amsgrad(amsgrad))
    }

    /// Sets the decoupled weight decay: `w -= learning_rate * weight_decay * w` before each step.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        AdamW(self.0.weight_decay(weight_decay))
    }

    /// As [`Adam::bias_correction`].
    pub fn bias_correction(self, counts: BiasCorrection) -> Self {
        AdamW(self.0.bias_correction(counts))
    }
}

impl From<AdamW> for Optimizer {
    fn from(adamw: AdamW) -> Self {
        adamw.0.optimizer("adamw", true)
    }
}

/// RMSprop (Tieleman and Hinton 2012) with optional momentum and centring (Graves 2013), as in PyTorch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    learning_rate: f64,
    alpha: f64,
    epsilon: f64,
    momentum: f64,
    centered: bool,
    weight_decay: f64,
}

impl RmsProp {
    /// RMSprop with alpha 0.99, epsilon 1e-8, no momentum, no centring and no weight decay.
    pub fn new(learning_rate: f64) -> Self {
        RmsProp {
            learning_rate,
            alpha: 0.99,
            epsilon: 1e-8,
            momentum: 0.0,
            centered: false,
            weight_decay: 0.0,
        }
    }

    /// Sets the decay rate of the running averages, from 0 to below 1.
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Sets the number added to the square root.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Sets the momentum, from 0 to below 1.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Sets whether to subtract the square of the mean gradient from the mean square (centred RMSprop).
    pub fn centered(mut self, centered: bool) -> Self {
        self.centered = centered;
        self
    }

    /// Sets the coupled weight decay: adds `weight_decay * w` to the gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }
}

impl From<RmsProp> for Optimizer {
    fn from(rmsprop: RmsProp) -> Self {
        let RmsProp { learning_rate, alpha, epsilon, momentum, centered, weight_decay } = rmsprop;
        let rule = UpdateRule::RmsProp { alpha, epsilon, momentum, centered, weight_decay };
        Optimizer::new("rmsprop", rule, learning_rate)
    }
}

/// Adagrad (Duchi et al. 2011) with coupled weight decay; the sums of squares start at 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adagrad {
    learning_rate: f64,
    epsilon: f64,
    weight_decay: f64,
}

impl Adagrad {
    /// Adagrad with epsilon 1e-10 and no weight decay.
    pub fn new(learning_rate: f64) -> Self {
        Adagrad { learning_rate, epsilon: 1e-10, weight_decay: 0.0 }
    }

    /// Sets the number added to the square root.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Sets the coupled weight decay: adds `weight_decay * w` to the gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }
}

impl From<Adagrad> for Optimizer {
    fn from(adagrad: Adagrad) -> Self {
        let Adagrad { learning_rate, epsilon, weight_decay } = adagrad;
        Optimizer::new("adagrad", UpdateRule::Adagrad { epsilon, weight_decay }, learning_rate)
    }
}
