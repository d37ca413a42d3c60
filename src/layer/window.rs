//! Layers with a sliding window: 2-D convolution and pooling.

use super::{Init, ParameterSpec, add_bias, example, kernel_and_bias};
use crate::error::{Error, Result};
use crate::graph::{Conv2d, Graph, Op, Pool2d, Resample2d, Resampling, ResamplingRule, ValueId};
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

    /// Sets the number of output channels.
    pub(super) fn with_outputs(mut self, c_out: usize) -> Self {
        self.c_out = c_out;
        self
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
/// excluded from an average, unless [`Pool2dLayer::count_padding`] is set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool2dLayer {
    window: Window,
    #[serde(default)]
    round_up: bool,
    #[serde(default)]
    count_padding: bool,
}

impl Pool2dLayer {
    /// A window of `[rows, columns]`. Defaults: stride equal to the window, dilation 1, no padding.
    pub fn new(kernel: [usize; 2]) -> Self {
        let window = Window { stride: kernel, ..Window::new(kernel) };
        Pool2dLayer { window, round_up: false, count_padding: false }
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

    /// Sets whether the number of outputs is rounded up: a last window may extend beyond the image and its padding
    /// (PyTorch's and ONNX's `ceil_mode`). Default: no.
    pub fn round_up(mut self, round_up: bool) -> Self {
        self.round_up = round_up;
        self
    }

    /// Sets whether zeros of the padding count in an average (PyTorch's and ONNX's `count_include_pad`; PyTorch's
    /// default). Not for max pooling. Default: no.
    pub fn count_padding(mut self, count: bool) -> Self {
        self.count_padding = count;
        self
    }

    /// Returns the geometry of the windows for examples of shape `input`.
    pub(crate) fn resolve(&self, name: &str, input: &[usize]) -> Result<Pool2d> {
        match *input {
            [h, w, channels] if self.round_up => {
                Ok(Pool2d { window: self.window.on_rounded_up([h, w], name)?, channels })
            }
            [h, w, channels] => Ok(Pool2d { window: self.window.on([h, w], name)?, channels }),
            _ => Err(super::not_images(name, input)),
        }
    }

    /// Returns the output shape for examples of shape `input`.
    pub(super) fn output(&self, name: &str, input: &[usize]) -> Result<Vec<usize>> {
        let pool = self.resolve(name, input)?;
        Ok(vec![pool.window.output[0], pool.window.output[1], pool.channels])
    }

    /// Returns rows and columns of zeros at the bottom and at the right, for images of `[rows, columns]`.
    pub(crate) fn pad_end(&self, input: [usize; 2]) -> [usize; 2] {
        [0, 1].map(|axis| self.window.pad_end(axis, input[axis]))
    }

    /// Returns the operation of max pooling.
    pub(super) fn max(&self, name: &str, input: &[usize]) -> Result<Op> {
        if self.count_padding {
            let expected = "a padding that is not counted: it is never the largest";
            return Err(Error::argument(name, expected, "count_padding"));
        }
        Ok(Op::MaxPool2d(self.resolve(name, input)?))
    }

    /// Whether the number of outputs is rounded up.
    pub(crate) fn rounds_up(&self) -> bool {
        self.round_up
    }

    /// Whether zeros of the padding count in an average.
    pub(crate) fn counts_padding(&self) -> bool {
        self.count_padding
    }

    /// Returns the operation of average pooling.
    pub(super) fn average(&self, name: &str, input: &[usize]) -> Result<Op> {
        let Pool2d { window, channels } = self.resolve(name, input)?;
        let pad_end = self.pad_end(window.input);
        if !self.count_padding || [window.pad_begin, pad_end] == [[0; 2]; 2] {
            return Ok(Op::AvgPool2d(Pool2d { window, channels }));
        }
        if window.dilation != [1, 1] {
            let got = format!("{:?}", window.dilation);
            return Err(Error::argument(name, "dilation 1 if the padding is counted", got));
        }
        let axis = |axis: usize| Resampling {
            input: window.input[axis],
            output: window.output[axis],
            rule: ResamplingRule::WindowMean {
                kernel: window.kernel[axis],
                stride: window.stride[axis],
                pad_begin: window.pad_begin[axis],
                pad_end: pad_end[axis],
            },
        };
        resampling(name, Resample2d { axes: [axis(0), axis(1)], channels, adjoint: false })
    }
}

/// Returns the operation of a valid resampling.
fn resampling(name: &str, resample: Resample2d) -> Result<Op> {
    resample.axes.iter().try_for_each(|axis| axis.check(name))?;
    Ok(Op::Resample2d(resample))
}

/// Returns the windows of adaptive pooling to `size` outputs if all have one size and distance.
fn equal_windows(name: &str, input: &[usize], size: [usize; 2]) -> Result<Option<Pool2d>> {
    let [h, w, channels] = *input else { return Err(super::not_images(name, input)) };
    if size.contains(&0) {
        return Err(Error::argument(name, "1 or more rows and columns", format!("{size:?}")));
    }
    let divides = h.is_multiple_of(size[0]) && w.is_multiple_of(size[1]);
    let kernel = [h / size[0], w / size[1]];
    let window = Window { stride: kernel, ..Window::new(kernel) };
    Ok(if divides { Some(Pool2d { window: window.on([h, w], name)?, channels }) } else { None })
}

/// Returns the operation of adaptive average pooling.
pub(super) fn adaptive_average(name: &str, input: &[usize], size: [usize; 2]) -> Result<Op> {
    if let Some(pool) = equal_windows(name, input, size)? {
        return Ok(Op::AvgPool2d(pool));
    }
    let axis = |axis: usize| Resampling {
        input: input[axis],
        output: size[axis],
        rule: ResamplingRule::AdaptiveMean,
    };
    resampling(name, Resample2d { axes: [axis(0), axis(1)], channels: input[2], adjoint: false })
}

/// Appends adaptive average pooling. That to one pixel is global average pooling, which has faster kernels.
pub(super) fn adaptive_average_of(
    graph: &mut Graph,
    name: &str,
    x: ValueId,
    size: [usize; 2],
) -> Result<ValueId> {
    let op = adaptive_average(name, example(graph, x), size)?;
    if size != [1, 1] {
        return graph.push_one(op, &[x], name);
    }
    let features = graph.push_one(Op::GlobalAvgPool, &[x], name)?;
    let shape = [graph.batch(), 1, 1, graph.at(x).shape.last()];
    graph.push_one(Op::Reshape(shape.to_vec()), &[features], name)
}

/// Returns the operation of adaptive max pooling.
pub(super) fn adaptive_max(name: &str, input: &[usize], size: [usize; 2]) -> Result<Op> {
    match equal_windows(name, input, size)? {
        Some(pool) => Ok(Op::MaxPool2d(pool)),
        None => {
            let expected = format!(
                "a number of rows and columns that divides {:?}, because the windows of max pooling have one size",
                &input[..2]
            );
            Err(Error::argument(name, expected, format!("{size:?}")))
        }
    }
}
