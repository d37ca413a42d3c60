//! Batch normalization over all axes but the last.

use super::{Init, Mode, ParameterSpec};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Op, ParameterId, ParameterKind, StatisticsRule, ValueId};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};

/// Batch normalization, `(x - mean)/sqrt(variance + epsilon)*scale + shift` per channel (Ioffe and Szegedy
/// 2015): with the statistics of the batch in training, unless [`BatchNormLayer::use_running_statistics`] is
/// set; with the running statistics in evaluation.
///
/// Parameters, each `[channels]`: `NAME.scale` and `NAME.shift` are trained; `NAME.running_mean` and
/// `NAME.running_var` are running statistics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchNormLayer {
    pub(crate) epsilon: f64,
    pub(crate) momentum: f64,
    biased: bool,
    use_running: bool,
}

impl Default for BatchNormLayer {
    fn default() -> Self {
        BatchNormLayer::new()
    }
}

impl BatchNormLayer {
    /// A batch norm with the defaults: epsilon 1e-5, momentum 0.1, unbiased running variance.
    pub fn new() -> Self {
        BatchNormLayer { epsilon: 1e-5, momentum: 0.1, biased: false, use_running: false }
    }

    /// Sets the constant that is added to the variance.
    pub fn epsilon(mut self, epsilon: f64) -> Self {
        self.epsilon = epsilon;
        self
    }

    /// Sets the weight of the newest batch in the running statistics.
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Sets whether the running variance averages the biased batch variance (Keras) or the unbiased one,
    /// which is `n/(n-1)` times as large (PyTorch).
    pub fn biased(mut self, biased: bool) -> Self {
        self.biased = biased;
        self
    }

    /// Sets whether training normalizes by the running statistics, as evaluation does, and does not update
    /// them (in PyTorch `eval()` of the layer, in Keras `trainable = False`). Default: no.
    pub fn use_running_statistics(mut self, use_running: bool) -> Self {
        self.use_running = use_running;
        self
    }

    /// Whether the output in training depends only on the example and the parameters.
    pub(crate) fn is_fixed(&self) -> bool {
        self.use_running
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

    /// Appends the normalization; if it is by the statistics of the batch, the operation that computes these
    /// precedes it.
    pub(super) fn forward(
        &self,
        graph: &mut Graph,
        name: &str,
        x: ValueId,
        parameters: &[ValueId],
        mode: Mode,
    ) -> Result<ValueId> {
        let &[scale, shift, running_mean, running_var] = parameters else {
            return Err(Error::argument(name, "4 parameters", parameters.len()));
        };
        if mode == Mode::Evaluation || self.use_running {
            let op = Op::BatchNorm { epsilon: Some(self.epsilon) };
            return graph.push_one(op, &[x, scale, shift, running_mean, running_var], name);
        }
        let label = format!("{name} statistics");
        let statistics = graph.push(Op::BatchStatistics { epsilon: self.epsilon }, &[x], &label)?;
        let operands = [x, scale, shift, statistics[0], statistics[1]];
        graph.push_one(Op::BatchNorm { epsilon: None }, &operands, name)
    }

    /// Appends the update of the running statistics from the batch statistics that the training forward pass
    /// computes; nothing if that uses the running statistics.
    pub(super) fn update_statistics(&self, graph: &mut Graph, name: &str) -> Result<()> {
        if self.use_running {
            return Ok(());
        }
        let parameter = |field: &str| {
            let path = format!("{name}.{field}");
            graph.parameters().iter().position(|p| p.path == path).map(ParameterId::of)
        };
        let scale = parameter("scale").and_then(|id| graph.parameter_value(id));
        let norm = graph
            .nodes()
            .iter()
            .find(|node| node.op == Op::BatchNorm { epsilon: None } && node.inputs.get(1).copied() == scale);
        let statistics = norm.and_then(|norm| {
            let computes_mean = |node: &&Node| node.outputs.first() == norm.inputs.get(3);
            graph.nodes().iter().find(computes_mean).map(|node| (norm.inputs[0], node.outputs.as_slice()))
        });
        let (Some((x, &[mean, _, variance])), Some(running_mean), Some(running_var)) =
            (statistics, parameter("running_mean"), parameter("running_var"))
        else {
            return Err(Error::argument(name, "a forward pass in training mode", "none"));
        };
        let x = graph.at(x);
        let rule = StatisticsRule {
            momentum: self.momentum,
            biased: self.biased,
            per_example: x.elements_per_row() / x.shape.last(),
        };
        let op = Op::UpdateStatistics(rule, [running_mean, running_var]);
        graph.push(op, &[mean, variance], &format!("{name} running"))?;
        Ok(())
    }
}
