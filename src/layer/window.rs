//! Layers with a sliding window: 2-D convolution and pooling.

use super::{Init, ParameterSpec, add_bias, example, kernel_and_bias};
use crate::error::Result;
use crate::graph::{Conv2d, Graph, Op, Pool2d, ValueId};
use crate::shape::{Padding, Shape, Window};
use serde::{Deserialize, Serialize};

/// 2-D convolution (cross-correlation) of `[h, w, c_in]` images with an optional bias per output channel.
///
/// Parameters: `NAME.kernel [kernel_h, kernel_w, c_in / groups, c_out]` and `NAME.bias [c_out]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conv2dLayer {
    c_out: usize,
    window: Window,
    groups: usize,
    bias: bool,
    /// `None` until it is set or chosen by what follows the layer.
    #[serde(skip)]
    init: Option<Init>,
}

impl Conv2dLayer {
    /// A convolution with `c_out` output channels and a kernel of `[rows, columns]`. Defaults: stride 1,
    /// dilation 1, no padding, one group, with bias, [`Init`] by what follows the
    /// layer.
    pub fn new(c_out: usize, kernel: [usize; 2]) -> Self {
        Conv2dLayer { c_out, window: Window::new(kernel), groups: 1, bias: true, init: None }
    }

    /// Sets the padding.
    pub fn padding(mut self, padding: Padding) -> Self {
        self.window.padding = padding;
        self
    }

    /// Sets the stride, `[rows, columns]`.
    pub fn stride(mut self, stride: [usize; 2]) -> Self {
        self.window.stride = stride;
        self
    }

    /// Sets the dilation of the kernel, `[rows, columns]`.
    pub fn dilation(mut self, dilation: [usize; 2]) -> Self {
        self.window.dilation = dilation;
        self
    }

    /// Sets the number of channel groups; `c_in` groups give a depthwise convolution.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Sets whether a bias is added.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Sets the initializer of the kernel, instead of the [default](Init#default); the bias is initialized to 0.
    pub fn init(mut self, init: Init) -> Self {
        self.init = Some(init);
        self
    }

    /// Sets the initializer of the kernel unless there is one.
    pub(super) fn default_init(&mut self, init: Init) {
        self.init.get_or_insert(init);
    }

    /// Returns the convolution operation for examples of shape `input`.
    pub(crate) fn resolve(&self, name: &str, input: &[usize]) -> Result<Conv2d> {
        let image = <[usize; 3]>::try_from(input).map_err(|_| super::not_images(name, input))?;
        Conv2d::new(image, self.c_out, self.window, self.groups, name)
    }

    pub(super) fn parameters(&self, name: &str, input: &[usize]) -> Result<Vec<ParameterSpec>> {
        let conv = self.resolve(name, input)?;
        let fan = [conv.depth(), conv.window.taps().saturating_mul(conv.c_out_per_group())];
        kernel_and_bias(
            name,
            Shape::new(conv.kernel_shape())?,
            self.init.clone().unwrap_or(Init::GlorotUniform),
            fan,
            self.bias.then_some(self.c_out),
        )
    }

    pub(super) fn forward(
        &self,
        graph: &mut Graph,
        name: &str,
        x: ValueId,
        parameters: &[ValueId],
    ) -> Result<ValueId> {
        let conv = self.resolve(name, example(graph, x))?;
        let y = graph.push_one(Op::Conv2d(conv), &[x, parameters[0]], name)?;
        add_bias(graph, name, y, parameters)
    }
}

/// Window of a pooling layer over `[h, w, c]` images. Padding counts as minus infinity in a maximum and is
/// excluded from an average.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool2dLayer {
    window: Window,
}

impl Pool2dLayer {
    /// A window of `[rows, columns]`. Defaults: stride equal to the window, dilation 1, no padding.
    pub fn new(kernel: [usize; 2]) -> Self {
        Pool2dLayer { window: Window { stride: kernel, ..Window::new(kernel) } }
    }

    /// Sets the stride, `[rows, columns]`.
    pub fn stride(mut self, stride: [usize; 2]) -> Self {
        self.window.stride = stride;
        self
    }

    /// Sets the dilation of the window, `[rows, columns]`.
    pub fn dilation(mut self, dilation: [usize; 2]) -> Self {
        self.window.dilation = dilation;
        self
    }

    /// Sets the padding.
    pub fn padding(mut self, padding: Padding) -> Self {
        self.window.padding = padding;
        self
    }

    /// Returns the pooling operation for examples of shape `input`.
    pub(crate) fn resolve(&self, name: &str, input: &[usize]) -> Result<Pool2d> {
        match *input {
            [h, w, channels] => Ok(Pool2d { window: self.window.on([h, w], name)?, channels }),
            _ => Err(super::not_images(name, input)),
        }
    }
}
