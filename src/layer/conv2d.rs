//! 2-D convolution with bias.

use super::{Init, ParameterSpec, add_bias, example, kernel_and_bias};
use crate::error::{Error, Result};
use crate::graph::{Conv2d, Graph, Op, ValueId};
use crate::shape::{Padding, Shape, Window};

/// A 2-D convolution (cross-correlation) of `[h, w, c_in]` images, then a bias for each output channel. Parameters:
/// `NAME.kernel [kernel_h, kernel_w, c_in / groups, c_out]` and `NAME.bias [c_out]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2dLayer {
    c_out: usize,
    window: Window,
    groups: usize,
    bias: bool,
    init: Init,
}

impl Conv2dLayer {
    /// `c_out` output channels, a kernel of `[rows, columns]`; stride 1, no padding, one group, with bias, Glorot's
    /// uniform initialiser.
    pub fn new(c_out: usize, kernel: [usize; 2]) -> Self {
        Conv2dLayer { c_out, window: Window::new(kernel), groups: 1, bias: true, init: Init::GlorotUniform }
    }

    /// Padding at the edges.
    pub fn padding(mut self, padding: Padding) -> Self {
        self.window.padding = padding;
        self
    }

    /// Rows and columns from one output to the next.
    pub fn stride(mut self, stride: [usize; 2]) -> Self {
        self.window.stride = stride;
        self
    }

    /// Rows and columns from one tap to the next.
    pub fn dilation(mut self, dilation: [usize; 2]) -> Self {
        self.window.dilation = dilation;
        self
    }

    /// Groups of channels; as many as input channels make it depthwise.
    pub fn groups(mut self, groups: usize) -> Self {
        self.groups = groups;
        self
    }

    /// Whether a bias is added.
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// How the kernel begins; the bias begins at 0.
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    pub(super) fn place(&self, name: &str, input: &[usize]) -> Result<Conv2d> {
        let image = <[usize; 3]>::try_from(input)
            .map_err(|_| Error::shape(name, "examples of shape [h, w, c]", format!("{input:?}")))?;
        Conv2d::new(image, self.c_out, self.window, self.groups, name)
    }

    pub(super) fn parameters(&self, name: &str, input: &[usize]) -> Result<Vec<ParameterSpec>> {
        let conv = self.place(name, input)?;
        let taps = conv.window.taps();
        let fan = [conv.depth(), taps.saturating_mul(conv.c_out_per_group())];
        kernel_and_bias(
            name,
            Shape::new(conv.kernel_shape())?,
            self.init.clone(),
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
        let conv = self.place(name, example(graph, x))?;
        let y = graph.push_one(Op::Conv2d(conv), &[x, parameters[0]], name)?;
        add_bias(graph, name, y, parameters)
    }
}
