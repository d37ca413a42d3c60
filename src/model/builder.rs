//! The model builder.

use super::Model;
use crate::error::Result;
use crate::graph::Activation;
use crate::layer::{
    BatchNormLayer, Conv2dLayer, ConvTranspose2dLayer, DenseLayer, GroupNormLayer, Layer, LayerNormLayer,
    LocalResponseNormLayer, Pool2dLayer, UpsampleLayer, Upsampling,
};
use std::sync::Arc;

/// A value of a model under construction: an input, or the output of a layer.
#[derive(Debug)]
pub(super) struct Value {
    pub kind: Kind,
    /// Names of the scopes around it, joined by `.`.
    pub scope: String,
    pub operands: Vec<Arc<Value>>,
}

/// What computes a value.
#[derive(Debug)]
pub(super) enum Kind {
    /// An input of the model: its name and the shape of one example.
    Input(String, Vec<usize>),
    /// A layer; without a name it is numbered.
    Layer(Option<String>, Layer),
    /// The layer that computes the last operand, with the same parameters.
    Shared(String),
}

impl Drop for Value {
    /// Drops operands in a loop: the recursion of a derived drop would overflow the stack for long models.
    fn drop(&mut self) {
        let mut pending = std::mem::take(&mut self.operands);
        while let Some(value) = pending.pop() {
            if let Some(mut value) = Arc::into_inner(value) {
                pending.append(&mut value.operands);
            }
        }
    }
}

/// Builder of a [`Model`]: a value of the network, an input or the output of the last layer that was appended.
/// Layers are validated by [`ModelBuilder::build`].
///
/// Clones are the same value. They begin branches, which [`ModelBuilder::add`] and others join again:
///
/// ```
/// use frazil::{Model, Padding::Same};
///
/// let image = Model::input([16, 16, 3]).conv2d("stem", 8, [3, 3], |c| c.padding(Same)).relu();
/// let wide = image.clone().conv2d("wide", 8, [5, 5], |c| c.padding(Same));
/// let deep = image.clone().conv2d("deep1", 8, [3, 3], |c| c.padding(Same)).relu();
/// let deep = deep.conv2d("deep2", 8, [3, 3], |c| c.padding(Same));
/// let model = wide.add("sum", [deep, image]).relu().global_avg_pool().dense("fc", 10).build()?;
/// assert_eq!(model.layers()[2].name(), "wide");
/// assert_eq!(model.output(), [10]);
/// # Ok::<(), frazil::Error>(())
/// ```
#[derive(Clone)]
pub struct ModelBuilder {
    value: Arc<Value>,
    scope: String,
}

impl std::fmt::Debug for ModelBuilder {
    /// The last layer alone: operands may be very many.
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("ModelBuilder").field("value", &self.value.kind).field("scope", &self.scope).finish()
    }
}

impl ModelBuilder {
    /// Starts with an input of a model.
    pub(super) fn input(name: String, shape: Vec<usize>) -> Self {
        let scope = String::new();
        let value = Value { kind: Kind::Input(name, shape), scope: scope.clone(), operands: Vec::new() };
        ModelBuilder { value: Arc::new(value), scope }
    }

    /// Returns the value that `kind` computes from this one and `others`.
    fn push(self, kind: Kind, others: impl IntoIterator<Item = Arc<Value>>) -> Self {
        let scope = self.scope;
        let operands = [self.value].into_iter().chain(others).collect();
        ModelBuilder { value: Arc::new(Value { kind, scope: scope.clone(), operands }), scope }
    }

    /// Appends a layer with the given name.
    pub fn layer(self, name: impl Into<String>, layer: Layer) -> Self {
        self.push(Kind::Layer(Some(name.into()), layer), [])
    }

    /// Appends a layer that joins this value and `others`, in this order.
    pub fn join(
        self,
        name: impl Into<String>,
        layer: Layer,
        others: impl IntoIterator<Item = ModelBuilder>,
    ) -> Self {
        self.push(Kind::Layer(Some(name.into()), layer), others.into_iter().map(|other| other.value))
    }

    /// Appends a layer without parameters, named after its kind and position.
    fn unnamed(self, layer: Layer) -> Self {
        self.push(Kind::Layer(None, layer), [])
    }

    /// Appends the elementwise sum of this value and `others`, which have the same shape.
    pub fn add(self, name: &str, others: impl IntoIterator<Item = ModelBuilder>) -> Self {
        self.join(name, Layer::Add, others)
    }

    /// Appends the elementwise product of this value and `other`. They have the same shape, or one of them has a factor
    /// for each channel of the other, `[c]` or `[1, 1, c]` for images `[h, w, c]`.
    ///
    /// ```
    /// use frazil::Model;
    ///
    /// // Squeeze and excitation (Hu et al. 2018).
    /// let x = Model::input([8, 8, 1]).conv2d("conv", 16, [3, 3], |c| c);
    /// let gate = x.clone().global_avg_pool().dense("squeeze", 4).relu().dense("excite", 16).sigmoid();
    /// let model = x.mul("scaled", gate).global_avg_pool().dense("fc", 2).build()?;
    /// # Ok::<(), frazil::Error>(())
    /// ```
    pub fn mul(self, name: &str, other: ModelBuilder) -> Self {
        self.join(name, Layer::Mul, [other])
    }

    /// Appends this value and `others` side by side along the last axis, the channels of images.
    pub fn concat(self, name: &str, others: impl IntoIterator<Item = ModelBuilder>) -> Self {
        self.join(name, Layer::Concat, others)
    }

    /// Appends the layer whose output is `layer` once more, with the same parameters (a shared layer). Its gradient
    /// is the sum over both.
    ///
    /// ```
    /// use frazil::Model;
    ///
    /// let left = Model::named_input("left", [8, 8, 1]).conv2d("conv", 4, [3, 3], |c| c);
    /// let right = Model::named_input("right", [8, 8, 1]).repeat("conv_right", &left);
    /// let model = left.add("sum", [right]).flatten().dense("fc", 2).build()?;
    /// assert_eq!(model.parameters().len(), 4);
    /// # Ok::<(), frazil::Error>(())
    /// ```
    pub fn repeat(self, name: &str, layer: &ModelBuilder) -> Self {
        self.push(Kind::Shared(name.to_owned()), [Arc::clone(&layer.value)])
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

    /// Appends a transposed convolution with `c_out` output channels and a kernel of `[rows, columns]`; `configure`
    /// sets stride, padding and other options. With a stride of 2 it doubles the size of images.
    pub fn conv_transpose2d(
        self,
        name: &str,
        c_out: usize,
        kernel: [usize; 2],
        configure: impl FnOnce(ConvTranspose2dLayer) -> ConvTranspose2dLayer,
    ) -> Self {
        self.layer(name, Layer::ConvTranspose2d(configure(ConvTranspose2dLayer::new(c_out, kernel))))
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

    /// Appends a group norm with this number of groups of channels; as many groups as channels are an instance norm.
    pub fn group_norm(self, name: &str, groups: usize) -> Self {
        self.group_norm_with(name, groups, |n| n)
    }

    /// Appends a group norm with options set by `configure`.
    pub fn group_norm_with(
        self,
        name: &str,
        groups: usize,
        configure: impl FnOnce(GroupNormLayer) -> GroupNormLayer,
    ) -> Self {
        self.layer(name, Layer::GroupNorm(configure(GroupNormLayer::new(groups))))
    }

    /// Appends a layer norm over the channels.
    pub fn layer_norm(self, name: &str) -> Self {
        self.layer_norm_with(name, |n| n)
    }

    /// Appends a layer norm with options set by `configure`, such as to normalize all elements of an example together.
    pub fn layer_norm_with(
        self,
        name: &str,
        configure: impl FnOnce(LayerNormLayer) -> LayerNormLayer,
    ) -> Self {
        self.layer(name, Layer::LayerNorm(configure(LayerNormLayer::new())))
    }

    /// Appends a residual layer, `main(x) + shortcut(x)` (He et al. 2015): the sum of two branches of this value.
    /// A shortcut without layers is the identity. The names of the layers inside begin with that of the residual
    /// layer: `block1.conv1`.
    pub fn residual(
        self,
        name: &str,
        main: impl FnOnce(ModelBuilder) -> ModelBuilder,
        shortcut: impl FnOnce(ModelBuilder) -> ModelBuilder,
    ) -> Self {
        let scope = self.scope.clone();
        let inner = self.inside(name);
        let (main, shortcut) = (main(inner.clone()), shortcut(inner));
        ModelBuilder { value: main.value, scope }.add(name, [shortcut])
    }

    /// Appends layers whose names begin with that of the scope: `block1.conv1`.
    ///
    /// ```
    /// use frazil::Model;
    ///
    /// let model = Model::input([8]).scope("head", |b| b.dense("fc1", 4).relu().dense("fc2", 2)).build()?;
    /// assert_eq!(model.parameters()[0].path, "head.fc1.kernel");
    /// # Ok::<(), frazil::Error>(())
    /// ```
    pub fn scope(self, name: &str, layers: impl FnOnce(ModelBuilder) -> ModelBuilder) -> Self {
        let scope = self.scope.clone();
        ModelBuilder { value: layers(self.inside(name)).value, scope }
    }

    /// Returns the value in the scope of this name.
    fn inside(self, name: &str) -> Self {
        let scope = if self.scope.is_empty() { name.to_owned() } else { format!("{}.{name}", self.scope) };
        ModelBuilder { value: self.value, scope }
    }

    /// Appends a local response norm over `size` channels (Krizhevsky et al. 2012) with options set by `configure`.
    pub fn local_response_norm(
        self,
        size: usize,
        configure: impl FnOnce(LocalResponseNormLayer) -> LocalResponseNormLayer,
    ) -> Self {
        self.unnamed(Layer::LocalResponseNorm(configure(LocalResponseNormLayer::new(size))))
    }

    /// Appends a channel shuffle (Zhang et al. 2018): the channels of `groups` groups by turns.
    pub fn channel_shuffle(self, groups: usize) -> Self {
        self.unnamed(Layer::ChannelShuffle { groups })
    }

    /// Appends a ReLU.
    pub fn relu(self) -> Self {
        self.unnamed(Layer::Relu)
    }

    /// Appends a leaky ReLU, `slope * x` for `x <= 0`.
    pub fn leaky_relu(self, slope: f64) -> Self {
        self.unnamed(Layer::Activation(Activation::LeakyRelu { slope }))
    }

    /// Appends a GELU, exact (error function).
    pub fn gelu(self) -> Self {
        self.unnamed(Layer::Activation(Activation::Gelu))
    }

    /// Appends a GELU, tanh approximation.
    pub fn gelu_tanh(self) -> Self {
        self.unnamed(Layer::Activation(Activation::GeluTanh))
    }

    /// Appends a sigmoid (logistic function).
    pub fn sigmoid(self) -> Self {
        self.unnamed(Layer::Activation(Activation::Sigmoid))
    }

    /// Appends a ReLU6, `min(max(x, 0), 6)`.
    pub fn relu6(self) -> Self {
        self.unnamed(Layer::Activation(Activation::Relu6))
    }

    /// Appends a clamp, `min(max(x, min), max)`, of finite limits; [`f32::MAX`] and -[`f32::MAX`] where there is none.
    pub fn clamp(self, min: f64, max: f64) -> Self {
        self.unnamed(Layer::Activation(Activation::Clamp { min, max }))
    }

    /// Appends a SiLU (swish), `x / (1 + exp(-x))`.
    pub fn silu(self) -> Self {
        self.unnamed(Layer::Activation(Activation::Silu))
    }

    /// Appends a hard sigmoid, `min(max(x + 3, 0), 6) / 6`.
    pub fn hard_sigmoid(self) -> Self {
        self.unnamed(Layer::Activation(Activation::HardSigmoid))
    }

    /// Appends a hard swish, `x * min(max(x + 3, 0), 6) / 6`.
    pub fn hard_swish(self) -> Self {
        self.unnamed(Layer::Activation(Activation::HardSwish))
    }

    /// Appends a hyperbolic tangent.
    pub fn tanh(self) -> Self {
        self.unnamed(Layer::Activation(Activation::Tanh))
    }

    /// Appends a softmax over the classes. For inference only: losses take logits.
    pub fn softmax(self) -> Self {
        self.unnamed(Layer::Softmax)
    }

    /// Appends the logarithm of the softmax over the classes.
    pub fn log_softmax(self) -> Self {
        self.unnamed(Layer::LogSoftmax)
    }

    /// Appends dropout: in training each element becomes 0 with probability `rate`, in `[0, 1)`, and the
    /// others are divided by `1 - rate`. Identity in evaluation.
    pub fn dropout(self, rate: f64) -> Self {
        self.unnamed(Layer::Dropout { rate })
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
        self.unnamed(Layer::MaxPool2d(configure(Pool2dLayer::new(kernel))))
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
        self.unnamed(Layer::AvgPool2d(configure(Pool2dLayer::new(kernel))))
    }

    /// Appends max pooling to `[rows, columns]`, which must divide the size of the images: the windows of max
    /// pooling have one size.
    pub fn adaptive_max_pool2d(self, size: [usize; 2]) -> Self {
        self.unnamed(Layer::AdaptiveMaxPool2d(size))
    }

    /// Appends average pooling to `[rows, columns]`, as PyTorch's `AdaptiveAvgPool2d`: the windows overlap if the
    /// size does not divide that of the images, which may be smaller.
    pub fn adaptive_avg_pool2d(self, size: [usize; 2]) -> Self {
        self.unnamed(Layer::AdaptiveAvgPool2d(size))
    }

    /// Appends upsampling by factors for rows and columns, as PyTorch's `nn.Upsample(scale_factor=..)`.
    pub fn upsample(self, upsampling: Upsampling, scale: [f64; 2]) -> Self {
        self.unnamed(Layer::Upsample(UpsampleLayer::by(upsampling, scale)))
    }

    /// Appends upsampling to `[rows, columns]`, as PyTorch's `nn.Upsample(size=..)`.
    pub fn upsample_to(self, upsampling: Upsampling, size: [usize; 2]) -> Self {
        self.unnamed(Layer::Upsample(UpsampleLayer::to(upsampling, size)))
    }

    /// Appends global average pooling, `[h, w, c]` to `[c]`.
    pub fn global_avg_pool(self) -> Self {
        self.unnamed(Layer::GlobalAvgPool)
    }

    /// Appends a reshape of `[h, w, c]` to `[h*w*c]`.
    pub fn flatten(self) -> Self {
        self.unnamed(Layer::Flatten)
    }

    /// Appends a reshape of each example to a shape with the same number of elements, row-major.
    pub fn reshape(self, example: impl Into<Vec<usize>>) -> Self {
        self.unnamed(Layer::Reshape(example.into()))
    }

    /// Validates all layers and builds the model, with this value as its output.
    ///
    /// # Errors
    /// - [`Error::ShapeMismatch`](crate::Error::ShapeMismatch), naming the layer, if a layer does not accept the
    ///   shapes of its operands.
    /// - [`Error::InvalidArgument`](crate::Error::InvalidArgument), naming the layer, for an invalid option, and
    ///   for an empty, repeated or invalid name, such as one that begins with `mask.`.
    pub fn build(self) -> Result<Model> {
        Model::with_outputs([self])
    }

    /// Returns the value, whose layers are collected by `Layers::new`.
    pub(super) fn into_value(self) -> Arc<Value> {
        self.value
    }
}
