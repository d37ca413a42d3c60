use super::Optimizer;
use crate::graph::UpdateRule;

/// Adam (Kingma and Ba 2015) with bias correction and coupled weight decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    learning_rate: f64,
    betas: [f64; 2],
    epsilon: f64,
    weight_decay: f64,
    amsgrad: bool,
}

impl Adam {
    /// Betas 0.9 and 0.999, epsilon 1e-8, no decay.
    pub fn new(learning_rate: f64) -> Self {
        Adam { learning_rate, betas: [0.9, 0.999], epsilon: 1e-8, weight_decay: 0.0, amsgrad: false }
    }

    /// Decay of the first and of the second moment, each from 0 to below 1.
    pub fn betas(mut self, beta1: f64, beta2: f64) -> Self {
        self.betas = [beta1, beta2];
        self
    }

    /// Added to the corrected root.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Adds `weight_decay * w` to each gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Whether each step divides by the largest second moment so far (AMSGrad, Reddi et al. 2018): that of the uncorrected
    /// moments, which is corrected then.
    pub fn amsgrad(mut self, amsgrad: bool) -> Self {
        self.amsgrad = amsgrad;
        self
    }

    fn optimizer(self, name: &'static str, decoupled: bool) -> Optimizer {
        let Adam { learning_rate, betas: [beta1, beta2], epsilon, weight_decay, amsgrad } = self;
        let rule = UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, decoupled, amsgrad };
        Optimizer::new(name, rule, learning_rate)
    }
}

impl From<Adam> for Optimizer {
    fn from(adam: Adam) -> Self {
        adam.optimizer(if adam.amsgrad { "amsgrad" } else { "adam" }, false)
    }
}

/// AdamW (Loshchilov and Hutter 2019): Adam whose decay acts on the weight itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW(Adam);

impl AdamW {
    /// Betas 0.9 and 0.999, epsilon 1e-8, decay 0.01.
    pub fn new(learning_rate: f64) -> Self {
        AdamW(Adam::new(learning_rate).weight_decay(0.01))
    }

    /// Decay of the first and of the second moment, each from 0 to below 1.
    pub fn betas(self, beta1: f64, beta2: f64) -> Self {
        AdamW(self.0.betas(beta1, beta2))
    }

    /// Added to the corrected root.
    pub fn epsilon(self, epsilon: f64) -> Self {
        AdamW(self.0.epsilon(epsilon))
    }

    /// As [`Adam::amsgrad`].
    pub fn amsgrad(self, amsgrad: bool) -> Self {
        AdamW(self.0.amsgrad(amsgrad))
    }

    /// `w -= learning_rate * weight_decay * w` before each step.
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        AdamW(self.0.weight_decay(weight_decay))
    }
}

impl From<AdamW> for Optimizer {
    fn from(adamw: AdamW) -> Self {
        adamw.0.optimizer("adamw", true)
    }
}
