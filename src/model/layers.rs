//! The layers of a model: a directed acyclic graph in the order of computation.

use super::builder::{Kind, Value};
use crate::error::{Error, Result};
use crate::graph::{Graph, ValueId};
use crate::layer::{Init, Layer, Mode, ParameterSpec};
use crate::shape::Shape;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// First components of the names of tensors in a checkpoint that are not parameters.
const RESERVED: [&str; 3] = ["mask", "state", "steps"];

/// An operand of a layer, or an output of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Source {
    /// The input of the model with this index.
    Input(usize),
    /// The output of the layer with this index.
    Layer(usize),
}

/// A layer of a model with its name and its operands.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedLayer {
    pub(super) name: String,
    pub(super) layer: Layer,
    pub(super) inputs: Vec<Source>,
    pub(super) output: Vec<usize>,
    /// Indices of its parameters in the model.
    pub(super) parameters: Range<usize>,
    /// Index of the earlier layer whose parameters it has.
    pub(super) repeats: Option<usize>,
}

impl NamedLayer {
    /// Name, unique in the model: `conv1`, or `block1.conv1` inside a residual layer.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The layer.
    pub fn layer(&self) -> &Layer {
        &self.layer
    }

    /// Operands: inputs of the model and earlier layers.
    pub fn inputs(&self) -> &[Source] {
        &self.inputs
    }

    /// Shape of the output for one example.
    pub fn output(&self) -> &[usize] {
        &self.output
    }

    /// Indices of its parameters in [`Model::parameters`](super::Model::parameters). A shared layer has those of
    /// the layer that it repeats.
    pub fn parameters(&self) -> Range<usize> {
        self.parameters.clone()
    }

    /// Index of the earlier layer that it repeats with the same parameters, if it is a shared layer.
    pub fn repeats(&self) -> Option<usize> {
        self.repeats
    }
}

/// Validated layers with the inputs and outputs of a model.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Layers {
    /// Name and shape of one example of each input.
    pub inputs: Vec<(String, Vec<usize>)>,
    pub layers: Vec<NamedLayer>,
    pub outputs: Vec<Source>,
    pub parameters: Vec<ParameterSpec>,
}

impl Layers {
    /// Collects the layers that the outputs depend on, each after its operands, and validates names, shapes and
    /// options.
    ///
    /// # Errors
    /// As [`ModelBuilder::build`](super::ModelBuilder::build).
    pub fn new(outputs: &[Arc<Value>]) -> Result<Self> {
        let mut collected = Collected::default();
        for output in outputs {
            collected.add(output)?;
        }
        let Collected { inputs, mut layers, sources, .. } = collected;
        let outputs: Vec<_> = outputs.iter().map(|output| sources[&Arc::as_ptr(output)]).collect();
        check_names(&inputs, &layers)?;
        inputs.iter().try_for_each(|(_, shape)| Shape::new(shape.as_slice()).map(drop))?;
        choose_initializers(&mut layers);
        let mut found = Layers { inputs, layers: Vec::new(), outputs, parameters: Vec::new() };
        for layer in layers {
            found.infer(layer)?;
        }
        check_paths(&found.parameters)?;
        Ok(found)
    }

    /// Shape of one example of a value.
    pub fn shape(&self, source: Source) -> &[usize] {
        match source {
            Source::Input(index) => &self.inputs[index].1,
            Source::Layer(index) => &self.layers[index].output,
        }
    }

    /// Appends a layer whose operands are there, with its parameters or those of the layer that it repeats.
    fn infer(&mut self, mut layer: NamedLayer) -> Result<()> {
        let shapes: Vec<_> = layer.inputs.iter().map(|&source| self.shape(source)).collect();
        let output = layer.layer.output(&layer.name, &shapes)?;
        let own = layer.layer.parameters(&layer.name, &shapes)?;
        layer.output = output;
        layer.parameters = match layer.repeats {
            None => {
                let first = self.parameters.len();
                self.parameters.extend(own);
                first..self.parameters.len()
            }
            Some(repeated) => {
                let range = self.layers[repeated].parameters();
                for (parameter, own) in self.parameters[range.clone()].iter().zip(own) {
                    if parameter.shape != own.shape {
                        let expected =
                            format!("an input for which {} is {}", parameter.path, parameter.shape);
                        return Err(Error::shape(layer.name, expected, own.shape));
                    }
                }
                range
            }
        };
        self.layers.push(layer);
        Ok(())
    }

    /// Returns for each number of lowest layers the only value that the layers above them use, an input or an
    /// output of one of them; `None` if they use several values, or repeat a layer below.
    pub fn cuts(&self) -> Vec<Option<Source>> {
        // The last use of each value: the index of a layer, or the number of layers for an output.
        let mut last_use: HashMap<Source, usize> = HashMap::new();
        let end = self.layers.len();
        for (index, layer) in self.layers.iter().enumerate() {
            last_use.extend(layer.inputs.iter().map(|&source| (source, index)));
        }
        last_use.extend(self.outputs.iter().map(|&source| (source, end)));
        // The lowest layer that this layer, or one above it, repeats.
        let mut repeated = vec![end; end + 1];
        for (index, layer) in self.layers.iter().enumerate().rev() {
            repeated[index] = repeated[index + 1].min(layer.repeats.unwrap_or(end));
        }
        // Values that layers from here on use, in the order of their last use.
        let mut live: BTreeSet<(usize, Source)> = BTreeSet::new();
        let entry = |source: Source| last_use.get(&source).map(|&last| (last, source));
        live.extend((0..self.inputs.len()).map(Source::Input).filter_map(entry));
        let mut cuts = Vec::with_capacity(end + 1);
        for (from, &repeated) in repeated.iter().enumerate() {
            live.extend(from.checked_sub(1).map(Source::Layer).and_then(entry));
            while live.first().is_some_and(|&(last, _)| last < from) {
                live.pop_first();
            }
            let only = live.first().filter(|_| live.len() == 1 && repeated >= from);
            cuts.push(only.map(|&(_, source)| source));
        }
        cuts
    }

    /// Appends the forward operations of the layers in a range. `values` has the values of the inputs and of
    /// the layers below that these use; those of the layers are added.
    pub fn forward(
        &self,
        graph: &mut Graph,
        range: Range<usize>,
        values: &mut HashMap<Source, ValueId>,
        parameters: &[ValueId],
        mode: Mode,
    ) -> Result<()> {
        for (index, layer) in self.layers.iter().enumerate().take(range.end).skip(range.start) {
            let operand = |source: &Source| {
                let missing =
                    || Error::argument(&layer.name, "operands that are computed", format!("{source:?}"));
                values.get(source).copied().ok_or_else(missing)
            };
            let operands = layer.inputs.iter().map(operand).collect::<Result<Vec<_>>>()?;
            let own = &parameters[layer.parameters()];
            let value = layer.layer.forward(graph, &layer.name, &operands, own, mode)?;
            values.insert(Source::Layer(index), value);
        }
        Ok(())
    }

    /// Returns the layers whose input features are the elements of flattened images, in their order: the path
    /// and the images' `[h, w, c]`. A dense layer mixes them, so that the layers after it are not listed.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a layer that joins flattened images with other features.
    pub fn flattened(&self) -> Result<Vec<(String, [usize; 3])>> {
        let mut images: Vec<Option<[usize; 3]>> = Vec::with_capacity(self.layers.len());
        // Those of one pixel have one order.
        let images_of = |layer: &NamedLayer| match *self.shape(layer.inputs[0]) {
            [h, w, c] if h > 1 || w > 1 => Some([h, w, c]),
            _ => None,
        };
        let mut found = Vec::new();
        for layer in &self.layers {
            let of = |source: &Source| match source {
                Source::Input(_) => None,
                Source::Layer(index) => images[*index],
            };
            let operands: Vec<_> = layer.inputs.iter().map(of).collect();
            let first = operands.first().copied().flatten();
            images.push(match &layer.layer {
                Layer::Flatten => first.or(images_of(layer)),
                Layer::Reshape(shape) if shape.len() == 1 => first.or(images_of(layer)),
                Layer::Reshape(shape) if first.is_some() => {
                    let expected = "images that were not flattened before";
                    return Err(Error::argument(&layer.name, expected, format!("a reshape to {shape:?}")));
                }
                Layer::Reshape(_) => None,
                Layer::Dense(_) => {
                    found.extend(first.map(|images| (layer.name.clone(), images)));
                    None
                }
                Layer::GroupNorm(norm) if first.is_some() && norm.groups > 1 => {
                    let expected = "images, or features that are not flattened images";
                    return Err(Error::argument(&layer.name, expected, "a group norm of flattened images"));
                }
                Layer::BatchNorm(_) | Layer::GroupNorm(_) | Layer::LayerNorm(_) => {
                    found.extend(first.map(|images| (layer.name.clone(), images)));
                    first
                }
                Layer::Concat if operands.iter().any(Option::is_some) => {
                    let expected = "no flattened images; concatenate images, or the outputs of dense layers";
                    return Err(Error::argument(&layer.name, expected, "some"));
                }
                _ if operands.iter().any(|&other| other != first) => {
                    let expected = "operands that are all flattened from images of one shape, or none";
                    return Err(Error::argument(&layer.name, expected, format!("{operands:?}")));
                }
                _ => first,
            });
        }
        Ok(found)
    }
}

/// Layers in the order of computation, before their shapes are inferred.
#[derive(Default)]
struct Collected<'a> {
    inputs: Vec<(String, Vec<usize>)>,
    layers: Vec<NamedLayer>,
    sources: HashMap<*const Value, Source>,
    /// Number of layers of each scope, which numbers those without a name.
    counts: HashMap<&'a str, usize>,
}

impl<'a> Collected<'a> {
    /// Adds a value after all that it depends on, in a loop: recursion would overflow the stack for long models.
    fn add(&mut self, output: &'a Arc<Value>) -> Result<()> {
        let mut pending: Vec<(&Arc<Value>, usize)> = vec![(output, 0)];
        while let Some((value, next)) = pending.pop() {
            if self.sources.contains_key(&Arc::as_ptr(value)) {
                continue;
            }
            match value.operands.get(next) {
                Some(operand) => pending.extend([(value, next + 1), (operand, 0)]),
                None => self.push(value)?,
            }
        }
        Ok(())
    }

    /// Adds a value whose operands were added.
    fn push(&mut self, value: &'a Arc<Value>) -> Result<()> {
        let mut inputs: Vec<_> = value.operands.iter().map(|v| self.sources[&Arc::as_ptr(v)]).collect();
        let count = self.counts.entry(&value.scope).or_default();
        let full = |name: &str| match value.scope.as_str() {
            "" => name.to_owned(),
            scope => format!("{scope}.{name}"),
        };
        let numbered = |layer: &Layer, count: usize| full(&format!("{}{count}", layer.label()));
        let (name, layer, repeats) = match &value.kind {
            Kind::Input(name, shape) => {
                self.sources.insert(Arc::as_ptr(value), Source::Input(self.inputs.len()));
                self.inputs.push((name.clone(), shape.clone()));
                return Ok(());
            }
            Kind::Layer(name, layer) => {
                (name.as_deref().map_or_else(|| numbered(layer, *count), full), layer.clone(), None)
            }
            // The last operand is the layer that is repeated.
            Kind::Shared(name) => match inputs.pop() {
                Some(Source::Layer(index)) => {
                    let repeated = &self.layers[index];
                    (full(name), repeated.layer.clone(), Some(repeated.repeats.unwrap_or(index)))
                }
                _ => return Err(Error::argument(full(name), "a layer to repeat", "an input of the model")),
            },
        };
        *count += 1;
        self.sources.insert(Arc::as_ptr(value), Source::Layer(self.layers.len()));
        self.layers.push(NamedLayer { name, layer, inputs, output: Vec::new(), parameters: 0..0, repeats });
        Ok(())
    }
}

/// Checks that the names of inputs and of layers are unique and can be parts of a path.
fn check_names(inputs: &[(String, Vec<usize>)], layers: &[NamedLayer]) -> Result<()> {
    let inputs = inputs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
    let layers = layers.iter().map(|layer| layer.name.as_str()).collect();
    for (kind, names) in [("input", inputs), ("layer", layers)] {
        let mut seen = BTreeSet::new();
        for (index, name) in names.into_iter().enumerate() {
            if name.is_empty() || !seen.insert(name) {
                let got =
                    if name.is_empty() { "an empty name".to_owned() } else { format!("{name:?} twice") };
                return Err(Error::argument(format!("{kind} {index}"), "a unique name", got));
            }
            // `.` separates path components, `*` and `?` are glob characters, and `=` ends a glob on the
            // command line. Paths are printed, so that no name may change the state of a terminal.
            let empty_component = name.split('.').any(str::is_empty);
            if empty_component || name.contains(['*', '?', '=']) || name.contains(char::is_control) {
                let expected =
                    "a name without * ? = and control characters, with something before and after each .";
                return Err(Error::argument(format!("{kind} {name:?}"), expected, format!("{name:?}")));
            }
        }
    }
    Ok(())
}

/// Checks that the paths of parameters are unique and leave room for the other tensors of a checkpoint.
fn check_paths(parameters: &[ParameterSpec]) -> Result<()> {
    let mut paths = BTreeSet::new();
    for ParameterSpec { path, .. } in parameters {
        // A checkpoint has the tensors `mask.PATH`, `state.SLOT.PATH` and `steps.PATH` of each parameter.
        let reserved = |(first, rest): (&str, &str)| RESERVED.contains(&first) && rest.contains('.');
        if path.split_once('.').is_some_and(reserved) {
            let expected = "a layer name that does not begin with mask., state. or steps.";
            return Err(Error::argument("parameter path", expected, format!("{path:?}")));
        }
        if !paths.insert(path) {
            return Err(Error::argument("parameter path", "a unique path", format!("{path:?} twice")));
        }
    }
    Ok(())
}

/// Sets the initializers of all kernels that have none, by [`Init`]'s default.
fn choose_initializers(layers: &mut [NamedLayer]) {
    // Whether a rectifier follows, directly or after layers that pass values on.
    let mut rectified = vec![false; layers.len()];
    for index in (0..layers.len()).rev() {
        let layer = &mut layers[index];
        let init = if rectified[index] { Init::HeUniform } else { Init::GlorotUniform };
        layer.layer.default_init(init);
        if layer.layer.is_rectifier() || (layer.layer.passes_on() && rectified[index]) {
            for source in layer.inputs.clone() {
                if let Source::Layer(operand) = source {
                    rectified[operand] = true;
                }
            }
        }
    }
}
