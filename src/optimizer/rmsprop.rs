use super::Optimizer;
use crate::graph::UpdateRule;

/// RMSprop (Tieleman and Hinton 2012), with momentum and centred (Graves 2013) if wanted, as PyTorch has it.
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
    /// Alpha 0.99, epsilon 1e-8, no momentum, not centred, no decay.
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

    /// Decay of the averages, from 0 to below 1.
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Added to the root.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Share of the last step that is kept, from 0 to below 1.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Whether the mean gradient's square is taken off the mean square.
    pub fn centered(mut self, centered: bool) -> Self {
        self.centered = centered;
        self
    }

    /// Adds `weight_decay * w` to each gradient.
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
