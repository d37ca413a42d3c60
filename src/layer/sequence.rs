//! Layers one after the other: a model, or a branch of a residual join.

use super::{Gradients, Layer, Mode, ParameterSpec, Taped};
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

    /// Appends the forward operations: the output, and what each layer leaves.
    pub fn forward(
        &self,
        graph: &mut Graph,
        mut x: ValueId,
        parameters: &[ValueId],
        mode: Mode,
    ) -> Result<(ValueId, Vec<Taped>)> {
        let (_, specs) = self.place(super::example(graph, x))?;
        let mut rest = parameters;
        let mut tapes = Vec::new();
        for ((name, layer), specs) in self.layers.iter().zip(&specs) {
            let Some((own, others)) = rest.split_at_checked(specs.len()) else {
                return Err(Error::argument(self.path(name), "all of its parameters", rest.len()));
            };
            rest = others;
            let tape = layer.forward(graph, &self.path(name), x, own, mode)?;
            x = tape.output;
            tapes.push(tape);
        }
        Ok((x, tapes))
    }

    /// Appends the backward operations, down to the lowest layer with parameters, or to the input if its gradient is
    /// `wanted`.
    pub fn backward(
        &self,
        graph: &mut Graph,
        tapes: &[Taped],
        dy: ValueId,
        wanted: bool,
        gradients: &mut Gradients,
    ) -> Result<Option<ValueId>> {
        let lowest = tapes.iter().position(|tape| !tape.parameters.is_empty()).unwrap_or(tapes.len());
        let mut dy = Some(dy);
        for (index, ((name, layer), tape)) in self.layers.iter().zip(tapes).enumerate().rev() {
            let Some(above) = dy else { break };
            if !wanted && index < lowest {
                break;
            }
            let below = wanted || index > lowest;
            dy = layer.backward(graph, &self.path(name), tape, above, below, gradients)?;
        }
        Ok(dy.filter(|_| wanted))
    }

    /// Appends what training moves without a gradient.
    pub fn follow(&self, graph: &mut Graph, tapes: &[Taped]) -> Result<()> {
        for ((name, layer), tape) in self.layers.iter().zip(tapes) {
            layer.follow(graph, &self.path(name), tape)?;
        }
        Ok(())
    }
}
