//! Sequences of layers (a model, or a branch of a residual layer) and the residual layer.

use super::{BatchNormLayer, Init, Layer, Mode, ParameterSpec};
use crate::error::{Error, Result};
use crate::graph::{Activation, Graph, Op, ValueId};

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
            let empty_component = name.split('.').any(str::is_empty);
            if empty_component || name.contains(['*', '?', '=']) || name.contains(char::is_control) {
                let expected =
                    "a name without * ? = and control characters, with something before and after each .";
                return Err(Error::argument(format!("layer {name:?}"), expected, format!("{name:?}")));
            }
            let (output, own) = layer.infer(&self.path(name), &shape)?;
            parameters.push(own);
            shape = output;
        }
        Ok((shape, parameters))
    }

    /// Returns the layers whose input features are the elements of flattened images, in their order: the path
    /// and the images' `[h, w, c]`. A dense layer mixes them, so that the layers after it are not listed.
    pub fn flattened(&self, input: &[usize]) -> Result<Vec<(String, [usize; 3])>> {
        let mut shape = input.to_vec();
        let (mut images, mut found) = (None, Vec::new());
        for (name, layer) in self.layers {
            let path = self.path(name);
            match layer {
                Layer::Flatten => images = images.or(<[usize; 3]>::try_from(shape.as_slice()).ok()),
                Layer::Dense(_) => found.extend(images.take().map(|images| (path.clone(), images))),
                Layer::BatchNorm(_) => found.extend(images.map(|images| (path.clone(), images))),
                Layer::Residual(_) if images.is_some() => {
                    let expected = "no residual layer between a flatten and the next dense layer";
                    return Err(Error::argument(path, expected, "one"));
                }
                Layer::Residual(layer) => {
                    for branch in layer.branches(&path) {
                        found.extend(branch.flattened(&shape)?);
                    }
                }
                _ => {}
            }
            shape = layer.output(&path, &shape)?;
        }
        Ok(found)
    }

    /// Appends the forward operations and returns the output. Takes the parameters of all layers, in order,
    /// from the beginning of `parameters`.
    pub fn forward(
        &self,
        graph: &mut Graph,
        mut x: ValueId,
        parameters: &mut &[ValueId],
        mode: Mode,
    ) -> Result<ValueId> {
        for (name, layer) in self.layers {
            x = layer.forward(graph, &self.path(name), x, parameters, mode)?;
        }
        Ok(x)
    }

    /// Appends the updates of the running statistics of all layers.
    pub fn update_statistics(&self, graph: &mut Graph) -> Result<()> {
        self.layers.iter().try_for_each(|(name, layer)| layer.update_statistics(graph, &self.path(name)))
    }
}

/// Maximum depth of residual layers inside residual layers. Each level takes a few stack frames when the model
/// is built.
const MAX_DEPTH: usize = 256;

/// Sets the initializers of all kernels that have none, by [`Init`]'s default; `rectified` is whether a rectifier
/// follows the layers.
pub(crate) fn choose_initializers(layers: &mut [(String, Layer)], mut rectified: bool) {
    for (_, layer) in layers.iter_mut().rev() {
        let init = if rectified { Init::HeUniform } else { Init::GlorotUniform };
        match layer {
            Layer::Conv2d(layer) => layer.default_init(init),
            Layer::Dense(layer) => layer.default_init(init),
            // Deeper layers are refused when the model is built.
            Layer::Residual(layer) if layer.depth <= MAX_DEPTH => {
                choose_initializers(&mut layer.main, rectified);
                choose_initializers(&mut layer.shortcut, rectified);
            }
            Layer::Residual(_) => {}
            Layer::BatchNorm(_)
            | Layer::Dropout { .. }
            | Layer::MaxPool2d(_)
            | Layer::AvgPool2d(_)
            | Layer::GlobalAvgPool
            | Layer::Flatten => continue,
            Layer::Relu | Layer::Activation(_) | Layer::Softmax => {}
        }
        rectified = matches!(
            layer,
            Layer::Relu
                | Layer::Activation(Activation::LeakyRelu { .. } | Activation::Gelu | Activation::GeluTanh)
        );
    }
}

/// Residual layer, `main(x) + shortcut(x)` (He et al. 2015); a shortcut without layers is the identity.
///
/// Parameter paths of the inner layers begin with the name of the residual layer: `block1.conv1.kernel`.
#[derive(Clone, Debug, PartialEq)]
pub struct ResidualLayer {
    main: Vec<(String, Layer)>,
    shortcut: Vec<(String, Layer)>,
    /// 1 without residual layers in the branches, otherwise 1 more than the deepest of them.
    depth: usize,
}

impl ResidualLayer {
    /// A residual layer of two branches of named layers.
    pub fn new(main: Vec<(String, Layer)>, shortcut: Vec<(String, Layer)>) -> Self {
        let depth = |(_, layer): &(String, Layer)| match layer {
            Layer::Residual(inner) => inner.depth,
            _ => 0,
        };
        let depth = 1 + main.iter().chain(&shortcut).map(depth).max().unwrap_or(0);
        ResidualLayer { main, shortcut, depth }
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

    /// Returns the output shape of one example and the parameters of both branches. Visits each inner layer
    /// once.
    pub(super) fn infer(&self, name: &str, input: &[usize]) -> Result<(Vec<usize>, Vec<ParameterSpec>)> {
        if self.depth > MAX_DEPTH {
            let expected = format!("at most {MAX_DEPTH} residual layers inside each other");
            return Err(Error::argument(name, expected, self.depth));
        }
        let [main, shortcut] = self.branches(name).map(|branch| branch.infer(input));
        let ((main, mut parameters), (shortcut, others)) = (main?, shortcut?);
        if main != shortcut {
            let expected = format!("a shortcut output of {main:?}, as the main branch gives");
            return Err(Error::shape(name, expected, format!("{shortcut:?}")));
        }
        parameters.extend(others);
        Ok((main, parameters.into_iter().flatten().collect()))
    }

    /// Appends both branches and their sum. Takes the parameters of both branches from the beginning of
    /// `parameters`.
    pub(super) fn forward(
        &self,
        graph: &mut Graph,
        name: &str,
        x: ValueId,
        parameters: &mut &[ValueId],
        mode: Mode,
    ) -> Result<ValueId> {
        let [main, shortcut] = self.branches(name);
        let a = main.forward(graph, x, parameters, mode)?;
        let b = shortcut.forward(graph, x, parameters, mode)?;
        graph.push_one(Op::Add, &[a, b], name)
    }

    pub(super) fn update_statistics(&self, graph: &mut Graph, name: &str) -> Result<()> {
        self.branches(name).iter().try_for_each(|branch| branch.update_statistics(graph))
    }
}

impl Drop for ResidualLayer {
    /// Drops inner residual layers in a loop: the recursion of a derived drop would overflow the stack for
    /// layers far deeper than the maximum.
    fn drop(&mut self) {
        let mut pending = std::mem::take(&mut self.main);
        pending.append(&mut self.shortcut);
        while let Some((_, layer)) = pending.pop() {
            if let Layer::Residual(mut inner) = layer {
                pending.append(&mut inner.main);
                pending.append(&mut inner.shortcut);
            }
        }
    }
}
