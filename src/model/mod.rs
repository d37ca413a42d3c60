//! Models: graphs of named layers, their parameters, and the graphs of operations built from them.

mod architecture;
mod builder;
mod layers;
mod summary;
mod torchvision;
mod zoo;

pub use builder::ModelBuilder;
pub use layers::{NamedLayer, Source};
pub use summary::{LayerSummary, ModelSummary};

use crate::error::{Error, Result, assert_send_sync};
use crate::graph::{Clip, DType, Graph, Op, ParameterId, ParameterKind, Target, UpdateRule, ValueId};
use crate::layer::{Layer, Mode, ParameterSpec};
use crate::loss::Loss;
use crate::optimizer::Optimizer;
use layers::Layers;
use std::collections::HashMap;
use wildmatch::WildMatch;

/// A validated graph of named layers. [`Model::input`] starts a builder.
///
/// ```
/// use frazil::{Model, Padding::Same};
///
/// let model = Model::input([8, 8, 1])
///     .conv2d("conv1", 16, [3, 3], |c| c.padding(Same))
///     .relu()
///     .max_pool2d([2, 2])
///     .flatten()
///     .dense("fc", 10)
///     .build()?;
/// assert_eq!(model.output(), [10]);
/// assert_eq!(model.parameters()[0].path, "conv1.kernel");
/// # Ok::<(), frazil::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    layers: Layers,
}

const _: () = assert_send_sync::<Model>();

/// The graph of the first layers of a model, used as a feature extractor.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct FeaturesGraph {
    /// Graph.
    pub graph: Graph,
    /// Input: examples, `[batch, ..input]`.
    pub input: ValueId,
    /// Output of the last of these layers, `[batch, ..]`.
    pub features: ValueId,
}

/// A model's graph in evaluation mode, without a loss.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct InferenceGraph {
    /// Graph.
    pub graph: Graph,
    /// Inputs, `[batch, ..example]`, in the order of [`Model::inputs`].
    pub inputs: Vec<ValueId>,
    /// Readable outputs, `[batch, ..]`, in the order of [`Model::outputs`].
    pub outputs: Vec<ValueId>,
}

/// A model's graph with its loss, and the values that a trainer reads and writes.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct ModelGraph {
    /// Graph.
    pub graph: Graph,
    /// Input: examples, `[batch, ..input]`.
    pub input: ValueId,
    /// Input: labels, `[batch]`; for a loss of targets these, `[batch, ..output]`.
    pub labels: ValueId,
    /// Input with [`Loss::Custom`]: the gradient of the loss with respect to the output, `[batch, ..output]`, the same as
    /// `labels`; `losses` are an input, too.
    pub output_gradient: Option<ValueId>,
    /// Input for the class weights and their values, to be written once; `None` if the loss has none.
    pub class_weights: Option<(ValueId, Vec<f32>)>,
    /// Model output, `[batch, classes]`; for a mean squared error `[batch, ..output]`.
    pub logits: ValueId,
    /// Loss of each example, `[batch]`; with class weights, times the weight of the label.
    pub losses: ValueId,
    /// Mean loss of the batch, `[1]`.
    pub mean_loss: ValueId,
}

impl Model {
    /// Starts a builder for examples of the given shape, `[h, w, c]` for images. The input is named `input`.
    pub fn input(example: impl Into<Vec<usize>>) -> ModelBuilder {
        Model::named_input("input", example)
    }

    /// Starts a builder for an input with a name, for models with several inputs.
    pub fn named_input(name: &str, example: impl Into<Vec<usize>>) -> ModelBuilder {
        ModelBuilder::input(name.to_owned(), example.into())
    }

    /// Builds a model with several outputs. Its layers are those that the outputs depend on, each after its
    /// operands; its inputs are in the order in which they are found.
    ///
    /// # Errors
    /// As [`ModelBuilder::build`]; [`Error::InvalidArgument`] without outputs.
    pub fn with_outputs(outputs: impl IntoIterator<Item = ModelBuilder>) -> Result<Self> {
        let outputs: Vec<_> = outputs.into_iter().map(ModelBuilder::into_value).collect();
        if outputs.is_empty() {
            return Err(Error::argument("Model::with_outputs", "1 output or more", "none"));
        }
        Ok(Model { layers: Layers::new(&outputs)? })
    }

    /// Shape of one example of the first input.
    pub fn example_shape(&self) -> &[usize] {
        self.layers.inputs.first().map_or(&[], |(_, shape)| shape)
    }

    /// Shape of the first output for one example.
    pub fn output(&self) -> &[usize] {
        self.layers.outputs.first().map_or(&[], |&source| self.layers.shape(source))
    }

    /// Name and shape of one example of each input.
    pub fn inputs(&self) -> &[(String, Vec<usize>)] {
        &self.layers.inputs
    }

    /// The outputs.
    pub fn outputs(&self) -> &[Source] {
        &self.layers.outputs
    }

    /// Shape of a value for one example; `None` if there is no such value.
    pub fn shape(&self, source: Source) -> Option<&[usize]> {
        match source {
            Source::Input(index) => self.layers.inputs.get(index).map(|(_, shape)| shape.as_slice()),
            Source::Layer(index) => self.layers.layers.get(index).map(NamedLayer::output),
        }
    }

    /// Name of a value: of the input, or of the layer; `None` if there is no such value.
    pub fn name(&self, source: Source) -> Option<&str> {
        match source {
            Source::Input(index) => self.layers.inputs.get(index).map(|(name, _)| name.as_str()),
            Source::Layer(index) => self.layers.layers.get(index).map(NamedLayer::name),
        }
    }

    /// All layers, each after its operands.
    pub fn layers(&self) -> &[NamedLayer] {
        &self.layers.layers
    }

    /// All parameters, in order of the layers.
    pub fn parameters(&self) -> &[ParameterSpec] {
        &self.layers.parameters
    }

    /// Sets the batch norms that `glob` matches to normalize by their running statistics in training, too, and
    /// not to update them: [`BatchNormLayer::use_running_statistics`](crate::layer::BatchNormLayer::use_running_statistics). A batch
    /// norm matches by its path (`bn1`, `block1.bn`) or by the paths of both its statistics (`bn1.running_*`).
    /// The parameters stay the same, so that checkpoints fit both models.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] if `glob` matches no batch norm, with the paths of all.
    pub fn use_running_statistics(mut self, glob: &str) -> Result<Self> {
        let pattern = WildMatch::new(glob);
        let (mut matched, mut others) = (false, Vec::new());
        let names: Vec<_> = self.layers().iter().map(|named| named.name.clone()).collect();
        for named in &mut self.layers.layers {
            let Layer::BatchNorm(layer) = &mut named.layer else { continue };
            // The statistics of a shared batch norm have the name of the layer that it repeats.
            let name = named.repeats.map_or(&named.name, |repeated| &names[repeated]);
            let of = |field: &str| pattern.matches(&format!("{name}.{field}"));
            if pattern.matches(name) || of("running_mean") && of("running_var") {
                *layer = layer.clone().use_running_statistics(true);
                matched = true;
            } else {
                others.push(name.clone());
            }
        }
        if matched {
            Ok(self)
        } else {
            Err(Error::UnknownParameter { path: glob.to_owned(), similar: others })
        }
    }

    /// Builds the training graph for batches of up to `batch` examples: forward, loss, backward and masked
    /// update.
    ///
    /// # Errors
    /// - [`Error::ShapeMismatch`] if the loss has labels and the output is not `[classes]`.
    /// - [`Error::EmptyBatch`] for a batch of 0.
    /// - [`Error::InvalidArgument`] for a model without trained parameters, or an option of the loss out of
    ///   range.
    pub fn training_graph(
        &self,
        batch: usize,
        loss: Loss,
        updates: impl Into<Updates>,
    ) -> Result<ModelGraph> {
        self.training_graph_from(0, batch, loss, updates)
    }

    /// Builds the [`Model::training_graph`] of the layers from index `first` on; its input is the output of
    /// the `first` layers before them. The parameters of the earlier layers are declared but neither read nor
    /// updated.
    ///
    /// # Errors
    /// As [`Model::training_graph`]; [`Error::InvalidArgument`] if `first` exceeds the number of layers.
    pub fn training_graph_from(
        &self,
        first: usize,
        batch: usize,
        loss: Loss,
        updates: impl Into<Updates>,
    ) -> Result<ModelGraph> {
        let (mut model_graph, targets, gradients) = self.backward_from(first, batch, &loss)?;
        updates.into().push(&mut model_graph.graph, targets, &gradients)?;
        Ok(model_graph)
    }

    /// Builds the [`Model::training_graph`] without updates: forward, loss, backward and the update of running
    /// statistics. Also returns the gradients of the trained parameters, in the order of the parameters; they are
    /// readable.
    ///
    /// # Errors
    /// As [`Model::training_graph`].
    pub fn gradient_graph(&self, batch: usize, loss: Loss) -> Result<(ModelGraph, Vec<ValueId>)> {
        let (mut model_graph, _, gradients) = self.backward_from(0, batch, &loss)?;
        gradients.iter().try_for_each(|&gradient| model_graph.graph.mark_output(gradient))?;
        Ok((model_graph, gradients))
    }

    /// Builds forward, loss, backward and the update of running statistics of the layers from index `first` on;
    /// returns the graph, the trained parameters and their gradients.
    fn backward_from(
        &self,
        first: usize,
        batch: usize,
        loss: &Loss,
    ) -> Result<(ModelGraph, Vec<ParameterId>, Vec<ValueId>)> {
        self.only_output()?;
        let skipped = self.below(first)?.parameters;
        let mut model_graph = self.forward(first, batch, loss, Mode::Training)?;
        let graph = &mut model_graph.graph;
        let trained = |&index: &usize| self.parameters()[index].kind == ParameterKind::Trained;
        let targets: Vec<_> =
            (skipped..self.parameters().len()).filter(trained).map(ParameterId::of).collect();
        if targets.is_empty() {
            return Err(Error::argument("model", "at least one layer with trained parameters", "none"));
        }
        let wanted: Vec<_> = targets.iter().map(|&id| graph.at_parameter(id)).collect();
        let gradients = match model_graph.output_gradient {
            None => graph.backward(model_graph.mean_loss, &wanted)?,
            Some(gradient) => graph.backward_from(model_graph.logits, gradient, &wanted)?,
        };
        // The update of the running statistics follows the loss, so that a step with a non-finite loss does
        // not change them.
        for named in &self.layers()[first..] {
            match &named.layer {
                Layer::BatchNorm(norm) if named.repeats.is_some() && !norm.is_fixed() => {
                    let expected =
                        "one use of running statistics in training; use Model::use_running_statistics";
                    return Err(Error::argument(&named.name, expected, "a shared batch norm"));
                }
                layer => layer.update_statistics(graph, &named.name)?,
            }
        }
        Ok((model_graph, targets, gradients))
    }

    /// Builds the evaluation graph for batches of up to `batch` examples: forward and loss, with readable
    /// logits and losses.
    ///
    /// # Errors
    /// As [`Model::training_graph`].
    pub fn evaluation_graph(&self, batch: usize, loss: Loss) -> Result<ModelGraph> {
        let mut model_graph = self.forward(0, batch, &loss, Mode::Evaluation)?;
        model_graph.graph.mark_output(model_graph.logits)?;
        model_graph.graph.mark_output(model_graph.losses)?;
        Ok(model_graph)
    }

    /// Builds the forward pass and the loss of the layers from index `first` on.
    fn forward(&self, first: usize, batch: usize, loss: &Loss, mode: Mode) -> Result<ModelGraph> {
        let output = self.only_output()?;
        let below = self.below(first)?;
        let mut graph = Graph::new(batch)?;
        let input = graph.batch_input("input", self.layers.shape(below.value), DType::F32)?;
        let declared = self.declare(&mut graph)?;
        let mut values = HashMap::from([(below.value, input)]);
        self.layers.forward(&mut graph, first..self.layers().len(), &mut values, &declared, mode)?;
        let logits = values[&output];
        let loss = loss.forward(&mut graph, logits)?;
        Ok(ModelGraph {
            graph,
            input,
            labels: loss.targets,
            output_gradient: loss.output_gradient,
            class_weights: loss.class_weights,
            logits,
            losses: loss.each,
            mean_loss: loss.mean,
        })
    }

    /// Declares all parameters in a graph and returns their values.
    fn declare(&self, graph: &mut Graph) -> Result<Vec<ValueId>> {
        self.parameters().iter().map(|p| graph.declare(&p.path, p.shape.clone(), p.kind)).collect()
    }

    /// Builds the forward pass of the first `end` layers in evaluation mode, for batches of up to `batch`
    /// examples.
    ///
    /// # Errors
    /// - [`Error::EmptyBatch`] for a batch of 0.
    /// - [`Error::InvalidArgument`] if `end` is 0 or exceeds the number of layers.
    pub fn features_graph(&self, end: usize, batch: usize) -> Result<FeaturesGraph> {
        let value = self.below(end)?.value;
        if end == 0 {
            return Err(Error::argument("Model::features_graph: end", "1 or more", end));
        }
        let InferenceGraph { graph, inputs, outputs } = self.graph_of(&[value], batch)?;
        match (inputs.as_slice(), outputs.as_slice()) {
            (&[input], &[features]) => Ok(FeaturesGraph { graph, input, features }),
            _ => {
                let got = format!("{} inputs", inputs.len());
                Err(Error::argument("Model::features_graph", "a model with one input", got))
            }
        }
    }

    /// Builds the forward pass in evaluation mode, for batches of up to `batch` examples.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`] for a batch of 0.
    pub fn inference_graph(&self, batch: usize) -> Result<InferenceGraph> {
        self.graph_of(&self.layers.outputs, batch)
    }

    /// Builds the forward pass in evaluation mode up to these values of the model.
    pub(crate) fn graph_of(&self, wanted: &[Source], batch: usize) -> Result<InferenceGraph> {
        let mut graph = Graph::new(batch)?;
        let declared = self.declare(&mut graph)?;
        let (mut inputs, mut values) = (Vec::new(), HashMap::new());
        for (index, (name, shape)) in self.layers.inputs.iter().enumerate() {
            let input = graph.batch_input(name, shape, DType::F32)?;
            inputs.push(input);
            values.insert(Source::Input(index), input);
        }
        let end = |source: &Source| match *source {
            Source::Input(_) => 0,
            Source::Layer(index) => index + 1,
        };
        let end = wanted.iter().map(end).max().unwrap_or(0);
        self.layers.forward(&mut graph, 0..end, &mut values, &declared, Mode::Evaluation)?;
        let outputs: Vec<_> = wanted.iter().map(|source| values[source]).collect();
        outputs.iter().try_for_each(|&output| graph.mark_output(output))?;
        Ok(InferenceGraph { graph, inputs, outputs })
    }

    /// Returns the layers whose input features are the elements of flattened images, in the order row, column,
    /// channel: the path and the images' `[h, w, c]`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a layer that joins flattened images with other features.
    pub(crate) fn flattened(&self) -> Result<Vec<(String, [usize; 3])>> {
        self.layers.flattened()
    }

    fn only_output(&self) -> Result<Source> {
        match *self.layers.outputs.as_slice() {
            [output] => Ok(output),
            ref all => {
                Err(Error::argument("model", "one output, for the loss", format!("{} outputs", all.len())))
            }
        }
    }

    /// Returns what the layers from index `end` on use of the layers before them.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if `end` exceeds the number of layers, and if the layers from there on use
    /// several values, or repeat a layer before them.
    pub(crate) fn below(&self, end: usize) -> Result<Below> {
        let value = match self.layers.cuts().get(end) {
            Some(Some(value)) => *value,
            Some(None) if self.layers.inputs.len() > 1 => {
                let got = format!("{} inputs", self.layers.inputs.len());
                return Err(Error::argument("model", "one input, for the examples of a batch", got));
            }
            Some(None) => {
                let expected = "a layer index between which and the layers before it only one value passes";
                return Err(Error::argument("model", expected, end));
            }
            None => {
                let expected = format!("a layer index up to {}", self.layers().len());
                return Err(Error::argument("model", expected, end));
            }
        };
        let parameters = self.layers()[..end].iter().map(|layer| layer.parameters.end).max().unwrap_or(0);
        Ok(Below { value, parameters })
    }

    /// Returns the numbers of lowest layers whose outputs the layers above use as one value only, as
    /// [`Model::below`].
    pub(crate) fn cuts(&self) -> impl Iterator<Item = usize> {
        let cuts = self.layers.cuts();
        (0..cuts.len()).filter(move |&end| cuts[end].is_some())
    }
}

/// The lowest layers of a model.
pub(crate) struct Below {
    /// The only value that the layers above use.
    pub value: Source,
    /// Number of parameters, which are the first of the model.
    pub parameters: usize,
}

/// Gradient processing of a training graph: accumulation, clipping and update.
#[derive(Clone, Debug, PartialEq)]
pub struct Updates {
    rule: UpdateRule,
    clip: Option<Clip>,
    accumulate: bool,
    /// Factors of the learning rate and of the weight decay, indexed by parameter; 1 beyond the end.
    factors: Vec<[f64; 2]>,
}

impl From<UpdateRule> for Updates {
    /// Creates the update by a rule without clipping, accumulation or factors.
    fn from(rule: UpdateRule) -> Self {
        Updates { rule, clip: None, accumulate: false, factors: Vec::new() }
    }
}

impl Updates {
    /// Creates the updates of a model by an optimizer, with gradient accumulation over several batches if
    /// `accumulate` is set.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] if a glob of the optimizer matches no parameter.
    pub fn new(model: &Model, optimizer: &Optimizer, accumulate: bool) -> Result<Self> {
        let paths: Vec<_> = model.parameters().iter().map(|p| p.path.as_str()).collect();
        let factors = optimizer.factors(&paths)?;
        Ok(Updates { rule: *optimizer.rule(), clip: optimizer.clip_setting(), accumulate, factors })
    }

    /// Appends accumulation, clipping and the update of `parameters` by their `gradients`.
    fn push(&self, graph: &mut Graph, parameters: Vec<ParameterId>, gradients: &[ValueId]) -> Result<()> {
        let target = |&parameter: &ParameterId| {
            let [learning_rate, weight_decay] =
                self.factors.get(parameter.index()).copied().unwrap_or([1.0; 2]);
            Target { parameter, learning_rate, weight_decay }
        };
        let targets = parameters.iter().map(target).collect();
        if self.accumulate {
            graph.push(Op::Accumulate(parameters.clone()), gradients, "accumulate")?;
        }
        if let Some(clip) = self.clip {
            graph.push(Op::Clip(clip, parameters), gradients, "clip")?;
        }
        graph.push(Op::Update(self.rule, targets), gradients, "update")?;
        Ok(())
    }
}
