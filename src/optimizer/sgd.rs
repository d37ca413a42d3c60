use super::Optimizer;
use crate::graph::UpdateRule;

/// Stochastic gradient descent: momentum, Nesterov's look-ahead, coupled weight decay (PyTorch's SGD).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    learning_rate: f64,
    momentum: f64,
    nesterov: bool,
    weight_decay: f64,
}

impl Sgd {
    /// Plain SGD.
    pub fn new(learning_rate: f64) -> Self {
        Sgd { learning_rate, momentum: 0.0, nesterov: false, weight_decay: 0.0 }
    }

    /// Share of the last step that is kept, from 0 to below 1.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Nesterov's look-ahead; needs momentum.
    pub fn nesterov(mut self, nesterov: bool) -> Self {
        self.nesterov = nesterov;
        self
    }

    /// Adds `weight_decay * w` to each gradient.
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
