//! Batch norm over all axes but the last.

use super::{Gradients, Init, Mode, ParameterSpec, Taped, note};
use crate::error::{Error, Result};
use crate::graph::{Graph, Op, ParameterKind, Role, StatisticsRule, ValueId};
use crate::shape::Shape;

/// `(x - mean)/sqrt(variance + epsilon)*scale + shift` for each channel (Ioffe and Szegedy 2015): by the batch's statistics
/// in training, by the running ones in evaluation. Parameters, each `[channels]`: `NAME.scale` and `NAME.shift` are trained;
/// `NAME.running_mean` and `NAME.running_var` follow the batches.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNormLayer {
    epsilon: f64,
    momentum: f64,
    biased: bool,
}

impl Default for BatchNormLayer {
    fn default() -> Self {
        BatchNormLayer::new()
    }
}

impl BatchNormLayer {
    /// Epsilon 1e-5, momentum 0.1, an unbiased running variance.
    pub fn new() -> Self {
        BatchNormLayer { epsilon: 1e-5, momentum: 0.1, biased: false }
    }

    /// What is added to the variance.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// The newest batch's share of the running statistics.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Whether the running variance is the biased one (Keras), and not times `n/(n-1)` (PyTorch).
    pub fn biased(mut self, biased: bool) -> Self {
        self.biased = biased;
        self
    }

    pub(super) fn output(&self, name: &str, input: &[usize]) -> Result<Vec<usize>> {
        if input.is_empty() {
            return Err(Error::shape(name, "examples of shape [.., channels]", "[]"));
        }
        Ok(input.to_vec())
    }

    pub(super) fn parameters(&self, name: &str, input: &[usize]) -> Result<Vec<ParameterSpec>> {
        let channels = self.output(name, input)?[input.len() - 1];
        let all = [
            ("scale", Init::Ones, ParameterKind::Trained),
            ("shift", Init::Zeros, ParameterKind::Trained),
            ("running_mean", Init::Zeros, ParameterKind::Statistic),
            ("running_var", Init::Ones, ParameterKind::Statistic),
        ];
        all.into_iter()
            .map(|(field, init, kind)| {
                let (path, shape) = (format!("{name}.{field}"), Shape::new([channels])?);
                Ok(ParameterSpec { path, shape, init, fan: [channels; 2], kind })
            })
            .collect()
    }

    /// The output, and the batch's statistics in training.
    pub(super) fn forward(
        &self,
        graph: &mut Graph,
        name: &str,
        x: ValueId,
        parameters: &[ValueId],
        mode: Mode,
    ) -> Result<(ValueId, Vec<ValueId>)> {
        let [scale, shift, running_mean, running_var] = four(name, parameters)?;
        if mode == Mode::Evaluation {
            let op = Op::BatchNorm { epsilon: Some(self.epsilon) };
            let y = graph.push_one(op, &[x, scale, shift, running_mean, running_var], name)?;
            return Ok((y, Vec::new()));
        }
        let label = format!("{name} statistics");
        let statistics = graph.push(Op::BatchStatistics { epsilon: self.epsilon }, &[x], &label)?;
        let operands = [x, scale, shift, statistics[0], statistics[1]];
        let y = graph.push_one(Op::BatchNorm { epsilon: None }, &operands, name)?;
        Ok((y, statistics))
    }

    pub(super) fn backward(
        &self,
        graph: &mut Graph,
        name: &str,
        taped: &Taped,
        dy: ValueId,
        wanted: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<ValueId>> {
        let [scale, shift, ..] = four(name, &taped.parameters)?;
        let &[mean, inv_std, _] = taped.statistics.as_slice() else {
            return Err(Error::argument(name, "a forward pass of training", "one of evaluation"));
        };
        let x = taped.input;
        let operands = [x, dy, mean, inv_std];
        let dscale = graph.push_one(Op::BatchNormGradScale, &operands, &format!("{name} grad_scale"))?;
        let dshift = graph.push_one(Op::BiasGrad, &[dy], &format!("{name} grad_shift"))?;
        note(graph, scale, dscale, gradients);
        note(graph, shift, dshift, gradients);
        if !wanted {
            return Ok(None);
        }
        let operands = [x, dy, scale, mean, inv_std, dscale, dshift];
        graph.push_one(Op::BatchNormGradInput, &operands, &format!("{name} grad_input")).map(Some)
    }

    pub(super) fn follow(&self, graph: &mut Graph, name: &str, taped: &Taped) -> Result<()> {
        let [.., running_mean, running_var] = four(name, &taped.parameters)?;
        let (&[mean, _, variance], Role::Parameter(first), Role::Parameter(second)) =
            (taped.statistics.as_slice(), graph.at(running_mean).role, graph.at(running_var).role)
        else {
            return Err(Error::argument(name, "a forward pass of training", "one of evaluation"));
        };
        let channels = graph.at(taped.input).shape.last();
        let rule = StatisticsRule {
            momentum: self.momentum,
            biased: self.biased,
            per_example: graph.at(taped.input).elements_per_row() / channels,
        };
        let op = Op::UpdateStatistics(rule, [first, second]);
        graph.push(op, &[mean, variance], &format!("{name} running"))?;
        Ok(())
    }
}

fn four(name: &str, parameters: &[ValueId]) -> Result<[ValueId; 4]> {
    <[ValueId; 4]>::try_from(parameters)
        .map_err(|_| Error::argument(name, "four parameters", parameters.len()))
}
