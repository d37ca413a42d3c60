//! Models: layers in order, their parameters by path, and the graphs made from them.

mod prefix;
mod updates;
mod zoo;

pub use prefix::FeaturesGraph;
pub use updates::Updates;

use crate::error::{Error, Result};
use crate::graph::{Activation, DType, Graph, ParameterId, ParameterKind, ValueId};
use crate::layer::{
    BatchNormLayer, Conv2dLayer, DenseLayer, Layer, Mode, ParameterSpec, Pool2dLayer, ResidualLayer, Sequence,
};
use crate::loss::Loss;

/// Layers in order, checked. Made by [`Model::input`].
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
    input: Vec<usize>,
    output: Vec<usize>,
    layers: Vec<(String, Layer)>,
    parameters: Vec<ParameterSpec>,
}

/// Collects layers; errors wait for [`ModelBuilder::build`].
#[derive(Clone, Debug)]
pub struct ModelBuilder {
    input: Vec<usize>,
    layers: Vec<(String, Layer)>,
}

/// A model's graph, with the values that a trainer reads and writes.
#[derive(Clone, Debug)]
pub struct ModelGraph {
    /// The graph.
    pub graph: Graph,
    /// Examples, `[batch, ..input]`.
    pub input: ValueId,
    /// Labels, `[batch]`; for a mean squared error targets, `[batch, ..output]`.
    pub labels: ValueId,
    /// Weights of the classes with the input that they are to be written to, once; `None` if the loss has none.
    pub class_weights: Option<(ValueId, Vec<f32>)>,
    /// Outputs, `[batch, classes]`; for a mean squared error `[batch, ..output]`.
    pub logits: ValueId,
    /// The batch's mean loss, `[1]`.
    pub mean_loss: ValueId,
}

impl ModelBuilder {
    /// Appends a layer under a name.
    pub fn layer(mut self, name: impl Into<String>, layer: Layer) -> Self {
        self.layers.push((name.into(), layer));
        self
    }

    /// Appends a layer without parameters, named by its kind and position.
    fn unnamed(self, kind: &str, layer: Layer) -> Self {
        let name = format!("{kind}{}", self.layers.len());
        self.layer(name, layer)
    }

    /// A convolution with `c_out` output channels and a kernel of `[rows, columns]`; `configure` sets the rest.
    pub fn conv2d(
        self,
        name: &str,
        c_out: usize,
        kernel: [usize; 2],
        configure: impl FnOnce(Conv2dLayer) -> Conv2dLayer,
    ) -> Self {
        self.layer(name, Layer::Conv2d(configure(Conv2dLayer::new(c_out, kernel))))
    }

    /// A fully connected layer.
    pub fn dense(self, name: &str, outputs: usize) -> Self {
        self.dense_with(name, outputs, |d| d)
    }

    /// A fully connected layer; `configure` sets the rest.
    pub fn dense_with(
        self,
        name: &str,
        outputs: usize,
        configure: impl FnOnce(DenseLayer) -> DenseLayer,
    ) -> Self {
        self.layer(name, Layer::Dense(configure(DenseLayer::new(outputs))))
    }

    /// Batch norm over all axes but the last.
    pub fn batch_norm(self, name: &str) -> Self {
        self.batch_norm_with(name, |n| n)
    }

    /// Batch norm over all axes but the last; `configure` sets the rest.
    pub fn batch_norm_with(
        self,
        name: &str,
        configure: impl FnOnce(BatchNormLayer) -> BatchNormLayer,
    ) -> Self {
        self.layer(name, Layer::BatchNorm(configure(BatchNormLayer::new())))
    }

    /// Two branches of the same input, added; each is built like a model, and a shortcut left as it is passes its input on.
    pub fn residual(
        self,
        name: &str,
        main: impl FnOnce(ModelBuilder) -> ModelBuilder,
        shortcut: impl FnOnce(ModelBuilder) -> ModelBuilder,
    ) -> Self {
        // The input's shape is known, and checked, when the whole is built.
        let empty = || ModelBuilder { input: Vec::new(), layers: Vec::new() };
        let (main, shortcut) = (main(empty()).layers, shortcut(empty()).layers);
        self.layer(name, Layer::Residual(ResidualLayer::new(main, shortcut)))
    }

    /// ReLU.
    pub fn relu(self) -> Self {
        self.unnamed("relu", Layer::Relu)
    }

    /// Leaky ReLU: `slope * x` below 0.
    pub fn leaky_relu(self, slope: f64) -> Self {
        self.unnamed("leaky_relu", Layer::Activation(Activation::LeakyRelu { slope }))
    }

    /// GELU, by the error function.
    pub fn gelu(self) -> Self {
        self.unnamed("gelu", Layer::Activation(Activation::Gelu))
    }

    /// GELU, approximated by tanh.
    pub fn gelu_tanh(self) -> Self {
        self.unnamed("gelu_tanh", Layer::Activation(Activation::GeluTanh))
    }

    /// The logistic function.
    pub fn sigmoid(self) -> Self {
        self.unnamed("sigmoid", Layer::Activation(Activation::Sigmoid))
    }

    /// The hyperbolic tangent.
    pub fn tanh(self) -> Self {
        self.unnamed("tanh", Layer::Activation(Activation::Tanh))
    }

    /// Softmax over the classes, for inference; losses take logits.
    pub fn softmax(self) -> Self {
        self.unnamed("softmax", Layer::Softmax)
    }

    /// Dropout: in training every element becomes 0 with probability `rate`, in `[0, 1)`; the others are divided by
    /// `1 - rate`. Nothing in evaluation.
    pub fn dropout(self, rate: f64) -> Self {
        self.unnamed("dropout", Layer::Dropout { rate })
    }

    /// Max-pooling in windows of `[rows, columns]` that do not overlap.
    pub fn max_pool2d(self, kernel: [usize; 2]) -> Self {
        self.max_pool2d_with(kernel, |p| p)
    }

    /// Max-pooling in windows of `[rows, columns]`; `configure` sets the rest.
    pub fn max_pool2d_with(
        self,
        kernel: [usize; 2],
        configure: impl FnOnce(Pool2dLayer) -> Pool2dLayer,
    ) -> Self {
        self.unnamed("max_pool", Layer::MaxPool2d(configure(Pool2dLayer::new(kernel))))
    }

    /// Average pooling in windows of `[rows, columns]` that do not overlap.
    pub fn avg_pool2d(self, kernel: [usize; 2]) -> Self {
        self.avg_pool2d_with(kernel, |p| p)
    }

    /// Average pooling in windows of `[rows, columns]`; `configure` sets the rest.
    pub fn avg_pool2d_with(
        self,
        kernel: [usize; 2],
        configure: impl FnOnce(Pool2dLayer) -> Pool2dLayer,
    ) -> Self {
        self.unnamed("avg_pool", Layer::AvgPool2d(configure(Pool2dLayer::new(kernel))))
    }

    /// The mean over the pixels of each image: `[h, w, c]` to `[c]`.
    pub fn global_avg_pool(self) -> Self {
        self.unnamed("global_avg_pool", Layer::GlobalAvgPool)
    }

    /// `[h, w, c]` to `[h*w*c]`.
    pub fn flatten(self) -> Self {
        self.unnamed("flatten", Layer::Flatten)
    }

    /// Checks every layer.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] or [`Error::InvalidArgument`], naming the layer; so for a name that is taken or empty.
    pub fn build(self) -> Result<Model> {
        crate::shape::Shape::new(self.input.as_slice())?;
        let (output, parameters) = Sequence { within: "", layers: &self.layers }.place(&self.input)?;
        let parameters: Vec<_> = parameters.into_iter().flatten().collect();
        for (index, ParameterSpec { path, .. }) in parameters.iter().enumerate() {
            if parameters[..index].iter().any(|other| other.path == *path) {
                return Err(Error::argument(path, "a path that no other parameter has", "a second one"));
            }
        }
        Ok(Model { input: self.input, output, layers: self.layers, parameters })
    }
}

impl Model {
    /// Begins a model of examples of this shape, `[h, w, c]` for images.
    pub fn input(example: impl Into<Vec<usize>>) -> ModelBuilder {
        ModelBuilder { input: example.into(), layers: Vec::new() }
    }

    /// The shape of one example.
    pub fn example_shape(&self) -> &[usize] {
        &self.input
    }

    /// The shape of one output.
    pub fn output(&self) -> &[usize] {
        &self.output
    }

    /// Layers with their names.
    pub fn layers(&self) -> &[(String, Layer)] {
        &self.layers
    }

    /// All parameters, in order.
    pub fn parameters(&self) -> &[ParameterSpec] {
        &self.parameters
    }

    /// Forward, loss, backward and the masked update, for batches of up to `batch` examples.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the output is not `[classes]` where the loss has labels; [`Error::EmptyBatch`];
    /// [`Error::InvalidArgument`] for a model without parameters or options of the loss out of range.
    pub fn training_graph(
        &self,
        batch: usize,
        loss: Loss,
        updates: impl Into<Updates>,
    ) -> Result<ModelGraph> {
        self.training_graph_from(0, batch, loss, updates)
    }

    /// [`Model::training_graph`] of the layers from number `first` on: its examples are what the layers before give. Parameters of
    /// those are declared, and nothing reads or updates them.
    ///
    /// # Errors
    /// As [`Model::training_graph`]; [`Error::InvalidArgument`] if there are not so many layers.
    pub fn training_graph_from(
        &self,
        first: usize,
        batch: usize,
        loss: Loss,
        updates: impl Into<Updates>,
    ) -> Result<ModelGraph> {
        let updates = updates.into();
        let (_, below) = self.below(first)?;
        let mut whole = self.forward(first, batch, &loss, Mode::Training)?;
        let graph = &mut whole.graph;
        let trained = |&index: &usize| self.parameters[index].kind == ParameterKind::Trained;
        let targets: Vec<_> = (below..self.parameters.len()).filter(trained).map(ParameterId::of).collect();
        if targets.is_empty() {
            return Err(Error::argument("model", "at least one layer with parameters", "none"));
        }
        let wanted: Vec<_> = targets.iter().map(|&id| graph.at_parameter(id)).collect();
        let gradients = graph.backward(whole.mean_loss, &wanted)?;
        // After the loss: a step whose loss is not finite moves no statistic either.
        Sequence { within: "", layers: &self.layers[first..] }.update_statistics(graph)?;
        updates.push(graph, targets, &gradients)?;
        Ok(whole)
    }

    /// Forward and loss, for batches of up to `batch` examples.
    ///
    /// # Errors
    /// As [`Model::training_graph`].
    pub fn evaluation_graph(&self, batch: usize, loss: Loss) -> Result<ModelGraph> {
        let mut whole = self.forward(0, batch, &loss, Mode::Evaluation)?;
        whole.graph.mark_output(whole.logits)?;
        Ok(whole)
    }

    fn forward(&self, first: usize, batch: usize, loss: &Loss, mode: Mode) -> Result<ModelGraph> {
        let (example, before) = self.below(first)?;
        let mut graph = Graph::new(batch)?;
        let input = graph.batch_input("input", &example, DType::F32)?;
        let declared = self.declare(&mut graph)?;
        let layers = Sequence { within: "", layers: &self.layers[first..] };
        let x = layers.forward(&mut graph, input, &declared[before..], mode)?;
        let placed = loss.forward(&mut graph, x)?;
        Ok(ModelGraph {
            graph,
            input,
            labels: placed.wanted,
            class_weights: placed.weights,
            logits: x,
            mean_loss: placed.mean,
        })
    }

    /// All parameters, as values of a graph.
    fn declare(&self, graph: &mut Graph) -> Result<Vec<ValueId>> {
        self.parameters.iter().map(|p| graph.declare(&p.path, p.shape.clone(), p.kind)).collect()
    }
}
