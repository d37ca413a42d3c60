use super::Optimizer;
use crate::graph::UpdateRule;

/// Adagrad (Duchi et al. 2011) with coupled decay; the sums begin at 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adagrad {
    learning_rate: f64,
    epsilon: f64,
    weight_decay: f64,
}

impl Adagrad {
    /// Epsilon 1e-10, no decay.
    pub fn new(learning_rate: f64) -> Self {
        Adagrad { learning_rate, epsilon: 1e-10, weight_decay: 0.0 }
    }

    /// Added to the root.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Adds `weight_decay * w` to each gradient.
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
