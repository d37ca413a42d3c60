//! The lowest layers by themselves.

use super::Model;
use crate::error::{Error, Result};
use crate::graph::{DType, Graph, ValueId};
use crate::layer::{Mode, Sequence};

/// What the lowest layers make of examples.
#[derive(Clone, Debug)]
pub struct FeaturesGraph {
    /// The graph.
    pub graph: Graph,
    /// Examples, `[batch, ..input]`.
    pub input: ValueId,
    /// What the layers give, `[batch, ..]`.
    pub features: ValueId,
}

impl Model {
    /// The forward pass of the layers before number `end`, as in evaluation, for batches of up to `batch` examples.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`]; [`Error::InvalidArgument`] if there are not so many layers, or if it is 0.
    pub fn features_graph(&self, end: usize, batch: usize) -> Result<FeaturesGraph> {
        let (_, parameters) = self.below(end)?;
        if end == 0 {
            return Err(Error::argument("Model::features_graph", "1 layer or more", end));
        }
        let mut graph = Graph::new(batch)?;
        let input = graph.batch_input("input", &self.input, DType::F32)?;
        let declared = self.declare(&mut graph)?;
        let layers = Sequence { within: "", layers: &self.layers[..end] };
        let features = layers.forward(&mut graph, input, &declared[..parameters], Mode::Evaluation)?;
        graph.mark_output(features)?;
        Ok(FeaturesGraph { graph, input, features })
    }

    /// The shape of one example after the layers before number `end`, and how many parameters those have.
    pub(crate) fn below(&self, end: usize) -> Result<(Vec<usize>, usize)> {
        let Some(layers) = self.layers.get(..end) else {
            let expected = format!("up to {} layers", self.layers.len());
            return Err(Error::argument("model", expected, end));
        };
        let (shape, parameters) = Sequence { within: "", layers }.place(&self.input)?;
        Ok((shape, parameters.iter().map(Vec::len).sum()))
    }
}
