//! Local response normalization.

use super::{across_channels, example, resample_channels};
use crate::error::{Error, Result};
use crate::graph::{Activation, Graph, Op, ResamplingRule, ValueId};
use serde::{Deserialize, Serialize};

/// Local response normalization across channels (Krizhevsky et al. 2012), `x / (k + alpha * mean)^beta`: `mean` is that
/// of the squares of the `size` channels from `c - size / 2` on, of which those that do not exist count as 0. PyTorch's
/// `nn.LocalResponseNorm`; there are no parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalResponseNormLayer {
    pub(crate) size: usize,
    pub(crate) alpha: f64,
    pub(crate) beta: f64,
    pub(crate) k: f64,
}

impl LocalResponseNormLayer {
    /// A local response norm over `size` channels with PyTorch's defaults: `alpha` 1e-4, `beta` 0.75, `k` 1.
    pub fn new(size: usize) -> Self {
        LocalResponseNormLayer { size, alpha: 1e-4, beta: 0.75, k: 1.0 }
    }

    /// Sets the factor of the mean; 0 or more.
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Sets the exponent; above 0 and at most 16.
    pub fn beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    /// Sets the summand; above 0.
    pub fn k(mut self, k: f64) -> Self {
        self.k = k;
        self
    }

    /// Returns the mean of squares of neighbouring channels as an operation of `across_channels`.
    fn mean(&self, name: &str, input: &[usize]) -> Result<Op> {
        let LocalResponseNormLayer { size, alpha, beta, k } = *self;
        let finite = |value: f64| value > 0.0 && (value as f32).is_normal();
        let valid = size > 0
            && finite(k)
            && (alpha == 0.0 || finite(alpha) && finite(alpha / k))
            && beta > 0.0
            && beta <= 16.0
            && finite(k.powf(-beta));
        if !valid {
            let expected =
                "1 channel or more, alpha of 0 or more, beta above 0 and up to 16, k above 0, finite in f32";
            return Err(Error::argument(name, expected, format!("{self:?}")));
        }
        let [pad_begin, pad_end] = [size / 2, (size - 1) / 2];
        resample_channels(
            name,
            input,
            ResamplingRule::WindowMean { kernel: size, stride: 1, pad_begin, pad_end },
        )
    }

    pub(super) fn output(&self, name: &str, input: &[usize]) -> Result<Vec<usize>> {
        self.mean(name, input).map(|_| input.to_vec())
    }

    /// Appends `x * (1 + alpha / k * mean)^-beta * k^-beta`.
    pub(super) fn forward(&self, graph: &mut Graph, name: &str, x: ValueId) -> Result<ValueId> {
        let mean = self.mean(name, example(graph, x))?;
        let squares = graph.push_one(Op::Mul, &[x, x], &format!("{name} squares"))?;
        let mean = across_channels(graph, name, squares, mean)?;
        let scaled = graph.push_one(Op::Scale(self.alpha / self.k), &[mean], &format!("{name} scaled"))?;
        let power = Op::Activation(Activation::InversePower { exponent: self.beta });
        let factor = graph.push_one(power, &[scaled], &format!("{name} factor"))?;
        let y = graph.push_one(Op::Mul, &[x, factor], name)?;
        if self.k == 1.0 {
            return Ok(y);
        }
        graph.push_one(Op::Scale(self.k.powf(-self.beta)), &[y], &format!("{name} product"))
    }
}
