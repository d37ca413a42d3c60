//! The model builder.

use super::Model;
use crate::error::{Error, Result};
use crate::graph::Activation;
use crate::layer::{
    BatchNormLayer, Conv2dLayer, DenseLayer, Layer, ParameterSpec, Pool2dLayer, ResidualLayer, Sequence,
    choose_initializers,
};
use crate::shape::Shape;
use std::collections::BTreeSet;

/// First components of the names of tensors in a checkpoint that are not parameters.
const RESERVED: [&str; 3] = ["mask", "state", "steps"];

/// Builder of a [`Model`]: collects layers, which [`ModelBuilder::build`] validates.
#[derive(Clone, Debug)]
pub struct ModelBuilder {
    pub(super) input: Vec<usize>,
    pub(super) layers: Vec<(String, Layer)>,
}

impl ModelBuilder {
    /// Appends a layer with the given name.
    pub fn layer(mut self, name: impl Into<String>, layer: Layer) -> Self {
        self.layers.push((name.into(), layer));
        self
    }

    /// Appends a layer without parameters, named after its kind and position.
    fn unnamed(self, kind: &str, layer: Layer) -> Self {
        let name = format!("{kind}{}", self.layers.len());
        self.layer(name, layer)
    }

    /// Appends a 2-D convolution with `c_out` output channels and a kernel of `[rows, columns]`; `configure`
    /// sets stride, padding and other options.
    pub fn conv2d(
        self,
        name: &str,
        c_out: usize,
        kernel: [usize; 2],
        configure: impl FnOnce(Conv2dLayer) -> Conv2dLayer,
    ) -> Self {
        self.layer(name, Layer::Conv2d(configure(Conv2dLayer::new(c_out, kernel))))
    }

    /// Appends a fully connected layer.
    pub fn dense(self, name: &str, outputs: usize) -> Self {
        self.dense_with(name, outputs, |d| d)
    }

    /// Appends a fully connected layer with options set by `configure`.
    pub fn dense_with(
        self,
        name: &str,
        outputs: usize,
        configure: impl FnOnce(DenseLayer) -> DenseLayer,
    ) -> Self {
        self.layer(name, Layer::Dense(configure(DenseLayer::new(outputs))))
    }

    /// Appends a batch norm over all axes but the last.
    pub fn batch_norm(self, name: &str) -> Self {
        self.batch_norm_with(name, |n| n)
    }

    /// Appends a batch norm over all axes but the last with options set by `configure`.
    pub fn batch_norm_with(
        self,
        name: &str,
        configure: impl FnOnce(BatchNormLayer) -> BatchNormLayer,
    ) -> Self {
        self.layer(name, Layer::BatchNorm(configure(BatchNormLayer::new())))
    }

    /// Appends a residual layer, the sum of two branches of the same input. Each branch is built like a
    /// model; a shortcut without layers is the identity.
    pub fn residual(
        self,
        name: &str,
        main: impl FnOnce(ModelBuilder) -> ModelBuilder,
        shortcut: impl FnOnce(ModelBuilder) -> ModelBuilder,
    ) -> Self {
        // The branches start with an empty input shape: `ModelBuilder::build` infers and validates their
        // shapes.
        let empty = || ModelBuilder { input: Vec::new(), layers: Vec::new() };
        let (main, shortcut) = (main(empty()).layers, shortcut(empty()).layers);
        self.layer(name, Layer::Residual(ResidualLayer::new(main, shortcut)))
    }

    /// Appends a ReLU.
    pub fn relu(self) -> Self {
        self.unnamed("relu", Layer::Relu)
    }

    /// Appends a leaky ReLU, `slope * x` for `x <= 0`.
    pub fn leaky_relu(self, slope: f64) -> Self {
        self.unnamed("leaky_relu", Layer::Activation(Activation::LeakyRelu { slope }))
    }

    /// Appends a GELU, exact (error function).
    pub fn gelu(self) -> Self {
        self.unnamed("gelu", Layer::Activation(Activation::Gelu))
    }

    /// Appends a GELU, tanh approximation.
    pub fn gelu_tanh(self) -> Self {
        self.unnamed("gelu_tanh", Layer::Activation(Activation::GeluTanh))
    }

    /// Appends a sigmoid (logistic function).
    pub fn sigmoid(self) -> Self {
        self.unnamed("sigmoid", Layer::Activation(Activation::Sigmoid))
    }

    /// Appends a hyperbolic tangent.
    pub fn tanh(self) -> Self {
        self.unnamed("tanh", Layer::Activation(Activation::Tanh))
    }

    /// Appends a softmax over the classes. For inference only: losses take logits.
    pub fn softmax(self) -> Self {
        self.unnamed("softmax", Layer::Softmax)
    }

    /// Appends dropout: in training each element becomes 0 with probability `rate`, in `[0, 1)`, and the
    /// others are divided by `1 - rate`. Identity in evaluation.
    pub fn dropout(self, rate: f64) -> Self {
        self.unnamed("dropout", Layer::Dropout { rate })
    }

    /// Appends max pooling with non-overlapping windows of `[rows, columns]`.
    pub fn max_pool2d(self, kernel: [usize; 2]) -> Self {
        self.max_pool2d_with(kernel, |p| p)
    }

    /// Appends max pooling with windows of `[rows, columns]`; `configure` sets stride, padding and dilation.
    pub fn max_pool2d_with(
        self,
        kernel: [usize; 2],
        configure: impl FnOnce(Pool2dLayer) -> Pool2dLayer,
    ) -> Self {
        self.unnamed("max_pool", Layer::MaxPool2d(configure(Pool2dLayer::new(kernel))))
    }

    /// Appends average pooling with non-overlapping windows of `[rows, columns]`.
    pub fn avg_pool2d(self, kernel: [usize; 2]) -> Self {
        self.avg_pool2d_with(kernel, |p| p)
    }

    /// Appends average pooling with windows of `[rows, columns]`; `configure` sets stride, padding and
    /// dilation.
    pub fn avg_pool2d_with(
        self,
        kernel: [usize; 2],
        configure: impl FnOnce(Pool2dLayer) -> Pool2dLayer,
    ) -> Self {
        self.unnamed("avg_pool", Layer::AvgPool2d(configure(Pool2dLayer::new(kernel))))
    }

    /// Appends global average pooling, `[h, w, c]` to `[c]`.
    pub fn global_avg_pool(self) -> Self {
        self.unnamed("global_avg_pool", Layer::GlobalAvgPool)
    }

    /// Appends a reshape of `[h, w, c]` to `[h*w*c]`.
    pub fn flatten(self) -> Self {
        self.unnamed("flatten", Layer::Flatten)
    }

    /// Validates all layers and builds the model.
    ///
    /// # Errors
    /// - [`Error::ShapeMismatch`], naming the layer, if a layer does not accept its input shape.
    /// - [`Error::InvalidArgument`], naming the layer, for an invalid option, and for an empty, repeated or
    ///   invalid name, such as one that begins with `mask.`.
    pub fn build(mut self) -> Result<Model> {
        choose_initializers(&mut self.layers, false);
        Shape::new(self.input.as_slice())?;
        let (output, parameters) = Sequence { prefix: "", layers: &self.layers }.infer(&self.input)?;
        let parameters: Vec<_> = parameters.into_iter().flatten().collect();
        let mut paths = BTreeSet::new();
        for ParameterSpec { path, .. } in &parameters {
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
        Ok(Model { input: self.input, output, layers: self.layers, parameters })
    }
}
