//! Transposed convolution.

use super::{Init, ParameterSpec, add_bias, example, kernel_and_bias};
use crate::error::{Error, Result};
use crate::graph::{Conv2d, Graph, Op, ValueId};
use crate::shape::{MAX_ELEMENTS, Padding, Shape, Window, WindowGeometry};
use serde::{Deserialize, Serialize};

/// Transposed 2-D convolution of `[h, w, c_in]` images: the input gradient of a convolution with this kernel, with
/// an optional bias per output channel. As PyTorch's `nn.ConvTranspose2d`.
///
/// Output size: `(n - 1) * stride + dilation * (kernel - 1) + 1 - padding + output_padding`, where `padding` is the sum of
/// both sides; with [`Padding::Same`] `n * stride`.
///
/// Parameters: `NAME.kernel [kernel_h, kernel_w, c_out / groups, c_in]` (the input channels last, as in that
/// convolution) and `NAME.bias [c_out]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConvTranspose2dLayer {
    c_out: usize,
    window: Window,
    output_padding: [usize; 2],
    groups: usize,
    bias: bool,
    /// `None` until it is set or chosen by what follows the layer.
    #[serde(skip)]
    init: Option<Init>,
}

impl ConvTranspose2dLayer {
    /// A transposed convolution with `c_out` output channels and a kernel of `[rows, columns]`. Defaults: stride 1,
    /// dilation 1, no padding, one group, with bias, [`Init`] by what follows the layer.
    pub fn new(c_out: usize, kernel: [usize; 2]) -> Self {
        let window = Window::new(kernel);
        ConvTranspose2dLayer { c_out, window, output_padding: [0, 0], groups: 1, bias: true, init: None }
    }

    /// Sets the padding, rows and columns that are removed from the result.
    pub fn padding(mut self, padding: Padding) -> Self {
        self.window.padding = padding;
        self
    }

    /// Sets the stride, `[rows, columns]`: the distance in the result of adjacent input pixels.
    pub fn stride(mut self, stride: [usize; 2]) -> Self {
        self.window.stride = stride;
        self
    }

    /// Sets rows and columns that are added at the bottom and at the right of the result, below the stride or the
    /// dilation.
    pub fn output_padding(mut self, output_padding: [usize; 2]) -> Self {
        self.output_padding = output_padding;
        self
    }

    /// Sets the dilation of the kernel, `[rows, columns]`.
    pub fn dilation(mut self, dilation: [usize; 2]) -> Self {
        self.window.dilation = dilation;
        self
    }

    /// Sets the number of channel groups.
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

    /// Returns rows and columns that ONNX and PyTorch count as output padding, if the padding at the beginning and
    /// the output size are those of the layer.
    pub(crate) fn onnx_output_padding(&self) -> [usize; 2] {
        let Window { kernel, stride, dilation, padding } = self.window;
        [0, 1].map(|axis| match padding {
            Padding::Same => stride[axis].saturating_sub((kernel[axis] - 1) * dilation[axis] + 1),
            _ => self.output_padding[axis],
        })
    }

    /// Returns the convolution whose input gradient the layer is, for examples of shape `input`.
    pub(crate) fn resolve(&self, name: &str, input: &[usize]) -> Result<Conv2d> {
        let [h, w, c_in] = *input else { return Err(super::not_images(name, input)) };
        let (groups, c_out) = (self.groups, self.c_out);
        if c_out == 0 {
            return Err(Error::argument(name, "1 output channel or more", c_out));
        }
        if groups == 0 || !c_in.is_multiple_of(groups) || !c_out.is_multiple_of(groups) {
            let got = format!("{groups} groups for {c_in} input and {c_out} output channels");
            return Err(Error::argument(name, "groups that divide the input and the output channels", got));
        }
        let mut window = WindowGeometry {
            input: [0, 0],
            kernel: self.window.kernel,
            stride: self.window.stride,
            dilation: self.window.dilation,
            pad_begin: [0, 0],
            output: [h, w],
        };
        for axis in 0..2 {
            (window.input[axis], window.pad_begin[axis]) = self.axis(axis, window.output[axis], name)?;
        }
        let conv = Conv2d { window, c_in: c_out, c_out: c_in, groups };
        Shape::new(conv.kernel_shape()).map_err(|_| {
            let expected = format!("a kernel of at most {MAX_ELEMENTS} elements");
            Error::argument(name, expected, format!("{:?}", conv.kernel_shape()))
        })?;
        Ok(conv)
    }

    /// Returns the size of the result and the padding at its beginning on one axis.
    fn axis(&self, axis: usize, n: usize, name: &str) -> Result<(usize, usize)> {
        let Window { kernel, stride, dilation, padding } = self.window;
        let (k, s, d, extra) = (kernel[axis], stride[axis], dilation[axis], self.output_padding[axis]);
        let in_range = |x: usize| x > 0 && x <= 1 << 20;
        if ![n, k, s, d].into_iter().all(in_range) || (k - 1) * d >= 1 << 20 {
            let got = format!("input {n}, kernel {k}, stride {s}, dilation {d}");
            let expected =
                "input, kernel, stride and dilation from 1 to 2^20, (kernel - 1) * dilation below 2^20";
            return Err(Error::argument(name, expected, got));
        }
        if extra >= s.max(d) {
            let expected = format!("an output padding below the stride {s} or the dilation {d}");
            return Err(Error::argument(name, expected, extra));
        }
        let full = (n - 1) * s + (k - 1) * d + 1 + extra;
        let (begin, total) = match padding {
            Padding::Valid => (0, 0),
            Padding::Same if extra > 0 => {
                return Err(Error::argument(name, "no output padding with Same, which has one size", extra));
            }
            // The padding of the convolution from n * stride pixels to n.
            Padding::Same => {
                let total = ((k - 1) * d + 1).saturating_sub(s);
                (total / 2, total)
            }
            Padding::Explicit { top, bottom, left, right } => {
                let (begin, end) = if axis == 0 { (top, bottom) } else { (left, right) };
                if begin > 1 << 20 || end > 1 << 20 {
                    return Err(Error::argument(name, "padding up to 2^20", format!("{begin} and {end}")));
                }
                (begin, begin + end)
            }
        };
        let output = if padding == Padding::Same { n * s } else { full.saturating_sub(total) };
        if !in_range(output) {
            let axis = ["rows", "columns"][axis];
            let expected = format!("1 to 1,048,576 {axis} after {total} of padding are removed");
            return Err(Error::argument(name, expected, format!("{full} before")));
        }
        Ok((output, begin))
    }

    pub(super) fn parameters(&self, name: &str, input: &[usize]) -> Result<Vec<ParameterSpec>> {
        let conv = self.resolve(name, input)?;
        // An output pixel sums every `stride`-th kernel position.
        let [rows, columns] = [0, 1].map(|axis| conv.window.kernel[axis].div_ceil(conv.window.stride[axis]));
        let fan_in = (rows * columns).saturating_mul(conv.c_out_per_group());
        let fan = [fan_in, conv.window.taps().saturating_mul(conv.c_in_per_group())];
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
        let y = graph.push_one(Op::Conv2dGradInput(conv), &[x, parameters[0]], name)?;
        add_bias(graph, name, y, parameters)
    }
}
