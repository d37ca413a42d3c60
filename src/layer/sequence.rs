//! Sequences of layers (a model, or a branch of a residual layer) and the residual layer.

use super::{BatchNormLayer, Layer, Mode, ParameterSpec};
use crate::error::{Error, Result};
use crate::graph::{Graph, Op, ValueId};

/// Named layers applied in order.
#[derive(Clone, Copy)]
pub(crate) struct Sequence<'a> {
    /// Path of the enclosing residual layer, which prefixes the paths of the layers; empty at the top level
    /// of a model.
    pub prefix: &'a str,
    pub layers: &'a [(String, Layer)],
}

impl Sequence<'_> {
    fn path(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    /// Validates names and shapes; returns the output shape of one example and the parameters of each layer.
    pub fn infer(&self, input: &[usize]) -> Result<(Vec<usize>, Vec<Vec<ParameterSpec>>)> {
        let mut shape = input.to_vec();
        let mut parameters = Vec::new();
        for (index, (name, layer)) in self.layers.iter().enumerate() {
            if name.is_empty() || self.layers[..index].iter().any(|(other, _)| other == name) {
                let at = self.path(&format!("layer {index}"));
                let got =
                    if name.is_empty() { "an empty name".to_owned() } else { format!("{name:?} twice") };
                return Err(Error::argument(at, "a unique name", got));
            }
            // `.` separates path components, `*` and `?` are glob characters, and `=` ends a glob on the
            // command line. Paths are printed, so that no name may change the state of a terminal.
            if name.contains(['.', '*', '?', '=']) || name.contains(char::is_control) {
                let expected = "a name without . * ? = and control characters";
                return Err(Error::argument(format!("layer {name:?}"), expected, format!("{name:?}")));
            }
            let path = self.path(name);
            parameters.push(layer.parameters(&path, &shape)?);
            shape = layer.output(&path, &shape)?;
        }
        Ok((shape, parameters))
    }

    /// Appends the forward operations and returns the output; `parameters` are those of all layers, in order.
    pub fn forward(
        &self,
        graph: &mut Graph,
        mut x: ValueId,
        parameters: &[ValueId],
        mode: Mode,
    ) -> Result<ValueId> {
        let (_, specs) = self.infer(super::example(graph, x))?;
        let mut rest = parameters;
        for ((name, layer), specs) in self.layers.iter().zip(&specs) {
            let Some((own, others)) = rest.split_at_checked(specs.len()) else {
                let expected = format!("{} parameters", specs.len());
                return Err(Error::argument(self.path(name), expected, rest.len()));
            };
            rest = others;
            x = layer.forward(graph, &self.path(name), x, own, mode)?;
        }
        Ok(x)
    }

    /// Appends the updates of the running statistics of all layers.
    pub fn update_statistics(&self, graph: &mut Graph) -> Result<()> {
        self.layers.iter().try_for_each(|(name, layer)| layer.update_statistics(graph, &self.path(name)))
    }
}

/// Residual layer, `main(x) + shortcut(x)` (He et al. 2015); a shortcut without layers is the identity.
///
/// Parameter paths of the inner layers begin with the name of the residual layer: `block1.conv1.kernel`.
#[derive(Clone, Debug, PartialEq)]
pub struct ResidualLayer {
    main: Vec<(String, Layer)>,
    shortcut: Vec<(String, Layer)>,
}

impl ResidualLayer {
    /// A residual layer of two branches of named layers.
    pub fn new(main: Vec<(String, Layer)>, shortcut: Vec<(String, Layer)>) -> Self {
        ResidualLayer { main, shortcut }
    }

    pub(super) fn is_fixed(&self) -> bool {
        self.main.iter().chain(&self.shortcut).all(|(_, layer)| layer.is_fixed())
    }

    /// As [`Layer::change_batch_norms`].
    pub(super) fn change_batch_norms(
        &mut self,
        path: &str,
        change: &mut dyn FnMut(&str, &mut BatchNormLayer),
    ) {
        for (name, layer) in self.main.iter_mut().chain(&mut self.shortcut) {
            layer.change_batch_norms(&format!("{path}.{name}"), change);
        }
    }

    fn branches<'a>(&'a self, name: &'a str) -> [Sequence<'a>; 2] {
        [&self.main, &self.shortcut].map(|layers| Sequence { prefix: name, layers })
    }

    pub(super) fn output(&self, name: &str, input: &[usize]) -> Result<Vec<usize>> {
        let [main, shortcut] = self.branches(name);
        let (main, shortcut) = (main.infer(input)?.0, shortcut.infer(input)?.0);
        if main != shortcut {
            let expected = format!("a shortcut output of {main:?}, as the main branch gives");
            return Err(Error::shape(name, expected, format!("{shortcut:?}")));
        }
        Ok(main)
    }

    pub(super) fn parameters(&self, name: &str, input: &[usize]) -> Result<Vec<ParameterSpec>> {
        let mut all = Vec::new();
        for branch in self.branches(name) {
            all.extend(branch.infer(input)?.1.into_iter().flatten());
        }
        Ok(all)
    }

    /// Appends both branches and their sum.
    pub(super) fn forward(
        &self,
        graph: &mut Graph,
        name: &str,
        x: ValueId,
        parameters: &[ValueId],
        mode: Mode,
    ) -> Result<ValueId> {
        let [main, shortcut] = self.branches(name);
        let main_parameters = main.infer(super::example(graph, x))?.1.iter().map(Vec::len).sum::<usize>();
        let a = main.forward(graph, x, parameters, mode)?;
        let b = shortcut.forward(graph, x, &parameters[main_parameters..], mode)?;
        graph.push_one(Op::Add, &[a, b], name)
    }

    pub(super) fn update_statistics(&self, graph: &mut Graph, name: &str) -> Result<()> {
        self.branches(name).iter().try_for_each(|branch| branch.update_statistics(graph))
    }
}
