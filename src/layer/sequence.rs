//! Layers one after the other: a model, or a branch of a residual join.

use super::{Layer, Mode, ParameterSpec};
use crate::error::{Error, Result};
use crate::graph::{Graph, ValueId};

/// Layers in order with their names; `within` is the path of the join that they belong to, empty for a model's own.
#[derive(Clone, Copy)]
pub(crate) struct Sequence<'a> {
    pub within: &'a str,
    pub layers: &'a [(String, Layer)],
}

impl Sequence<'_> {
    fn path(&self, name: &str) -> String {
        if self.within.is_empty() { name.to_owned() } else { format!("{}.{name}", self.within) }
    }

    /// Checks names and shapes: the shape of one example after the last layer, and each layer's parameters.
    pub fn place(&self, input: &[usize]) -> Result<(Vec<usize>, Vec<Vec<ParameterSpec>>)> {
        let mut shape = input.to_vec();
        let mut parameters = Vec::new();
        for (index, (name, layer)) in self.layers.iter().enumerate() {
            if name.is_empty() || self.layers[..index].iter().any(|(other, _)| other == name) {
                let at = self.path(&format!("layer {index}"));
                return Err(Error::argument(at, "a name of its own", format!("{name:?}")));
            }
            // Dots part a path, stars and question marks are globs, and `=` ends one on the command line.
            if name.contains(['.', '*', '?', '=']) {
                return Err(Error::argument(format!("layer {name:?}"), "a name without . * ? =", name));
            }
            let path = self.path(name);
            parameters.push(layer.parameters(&path, &shape)?);
            shape = layer.output(&path, &shape)?;
        }
        Ok((shape, parameters))
    }

    /// Appends the forward operations; gives the output.
    pub fn forward(
        &self,
        graph: &mut Graph,
        mut x: ValueId,
        parameters: &[ValueId],
        mode: Mode,
    ) -> Result<ValueId> {
        let (_, specs) = self.place(super::example(graph, x))?;
        let mut rest = parameters;
        for ((name, layer), specs) in self.layers.iter().zip(&specs) {
            let Some((own, others)) = rest.split_at_checked(specs.len()) else {
                return Err(Error::argument(self.path(name), "all of its parameters", rest.len()));
            };
            rest = others;
            x = layer.forward(graph, &self.path(name), x, own, mode)?;
        }
        Ok(x)
    }

    /// Appends the updates of running statistics.
    pub fn update_statistics(&self, graph: &mut Graph) -> Result<()> {
        self.layers.iter().try_for_each(|(name, layer)| layer.update_statistics(graph, &self.path(name)))
    }
}
