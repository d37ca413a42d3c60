//! Tensor shapes and the geometry of sliding windows. Sizes are limited so that computations with them cannot
//! overflow.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The extents of a tensor, outermost axis first; memory is row-major.
///
/// Images are `[n, h, w, c]`, convolution kernels `[kernel_h, kernel_w, c_in / groups, c_out]`, dense kernels
/// `[in, out]`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shape(Vec<usize>);

/// Maximum number of elements of a tensor: indices fit in a shader's `u32` even if padded to a multiple of a
/// tile.
pub const MAX_ELEMENTS: usize = (1 << 31) - 1;

/// Returns the number of elements for extents that are not validated; `usize::MAX` if it is larger than that.
pub(crate) fn elements_of(extents: &[usize]) -> usize {
    // An extent of 0 gives 0, whatever the others are.
    if extents.contains(&0) { 0 } else { extents.iter().fold(1, |all, &n| all.saturating_mul(n)) }
}

impl Shape {
    /// A shape with these extents. An empty list is a scalar of one element.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if an extent is 0 or the product exceeds [`MAX_ELEMENTS`].
    pub fn new(extents: impl Into<Vec<usize>>) -> Result<Self> {
        let shape = Shape(extents.into());
        let elements = shape.0.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
        match elements {
            Some(n) if n > 0 && n <= MAX_ELEMENTS => Ok(shape),
            _ => Err(Error::argument(
                "shape",
                format!("extents of 1 or more, at most {MAX_ELEMENTS} elements"),
                &shape,
            )),
        }
    }

    /// Extents, outermost first.
    pub fn extents(&self) -> &[usize] {
        &self.0
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.0.iter().product()
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Last extent (the channels of an image); 1 for a scalar.
    pub fn last(&self) -> usize {
        self.0.last().copied().unwrap_or(1)
    }

    /// The extents as `[n, h, w, c]`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if there are not four; `at` names the value.
    pub fn nhwc(&self, at: &str) -> Result<[usize; 4]> {
        <[usize; 4]>::try_from(self.0.as_slice()).map_err(|_| Error::shape(at, "[n, h, w, c]", self))
    }

    /// The extents as `[rows, columns]`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if there are not two; `at` names the value.
    pub fn matrix(&self, at: &str) -> Result<[usize; 2]> {
        <[usize; 2]>::try_from(self.0.as_slice()).map_err(|_| Error::shape(at, "[rows, columns]", self))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Padding of a convolution or pooling window.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Padding {
    /// TensorFlow's `SAME`: `ceil(n / stride)` outputs; an odd amount of padding has its extra unit at the
    /// end.
    Same,
    /// No padding.
    #[default]
    Valid,
    /// Explicit rows and columns of padding on each side, at most 2^20.
    Explicit {
        /// Rows above.
        top: usize,
        /// Rows below.
        bottom: usize,
        /// Columns at the left.
        left: usize,
        /// Columns at the right.
        right: usize,
    },
}

/// A sliding 2-D window. A *tap* is one element of the window (of a convolution's kernel). Pairs are
/// `[rows, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Window size, in taps.
    pub kernel: [usize; 2],
    /// Input step between neighbouring outputs.
    pub stride: [usize; 2],
    /// Input step between neighbouring taps.
    pub dilation: [usize; 2],
    /// Padding.
    pub padding: Padding,
}

impl Window {
    /// A window of `kernel` taps with stride 1, dilation 1 and no padding.
    pub fn new(kernel: [usize; 2]) -> Self {
        Window { kernel, stride: [1, 1], dilation: [1, 1], padding: Padding::Valid }
    }

    /// Resolves padding and output size for an input of `input` rows and columns; `at` names the layer in
    /// errors.
    ///
    /// # Errors
    /// - [`Error::InvalidArgument`] if input, kernel, stride or dilation is 0 or above 2^20, or padding above
    ///   2^20.
    /// - [`Error::ShapeMismatch`] if the padded input is smaller than the window.
    pub fn on(&self, input: [usize; 2], at: &str) -> Result<WindowGeometry> {
        let mut geometry = WindowGeometry {
            input,
            kernel: self.kernel,
            stride: self.stride,
            dilation: self.dilation,
            pad_begin: [0, 0],
            output: [0, 0],
        };
        for (axis, n) in input.into_iter().enumerate() {
            let (begin, output) = self.resolve_axis(axis, n, at)?;
            geometry.pad_begin[axis] = begin;
            geometry.output[axis] = output;
        }
        Ok(geometry)
    }

    /// As [`Window::on`], with the number of outputs rounded up: the last window may extend beyond the padding at
    /// the end, but begins before it (PyTorch's `ceil_mode`).
    ///
    /// # Errors
    /// As [`Window::on`].
    pub(crate) fn on_rounded_up(&self, input: [usize; 2], at: &str) -> Result<WindowGeometry> {
        let mut geometry = self.on(input, at)?;
        for (axis, n) in input.into_iter().enumerate() {
            let (stride, extent) = (self.stride[axis], (self.kernel[axis] - 1) * self.dilation[axis] + 1);
            let begin = geometry.pad_begin[axis];
            let padded = begin + n + self.pad_end(axis, n);
            let outputs = (padded - extent).div_ceil(stride) + 1;
            let begins_inside = (outputs - 1) * stride < begin + n;
            geometry.output[axis] = if begins_inside { outputs } else { geometry.output[axis] };
        }
        Ok(geometry)
    }

    /// Padding after the input of `n` rows (`axis` 0) or columns (`axis` 1), for a valid window.
    pub(crate) fn pad_end(&self, axis: usize, n: usize) -> usize {
        match self.padding {
            Padding::Valid => 0,
            Padding::Explicit { bottom, right, .. } => [bottom, right][axis],
            Padding::Same => {
                let (stride, extent) = (self.stride[axis], (self.kernel[axis] - 1) * self.dilation[axis] + 1);
                let total = ((n.div_ceil(stride) - 1) * stride + extent).saturating_sub(n);
                total - total / 2
            }
        }
    }

    /// Returns the padding at the beginning and the number of outputs on one axis.
    fn resolve_axis(&self, axis: usize, n: usize, at: &str) -> Result<(usize, usize)> {
        let (k, s, d) = (self.kernel[axis], self.stride[axis], self.dilation[axis]);
        let in_range = |x: usize| x > 0 && x <= 1 << 20;
        if ![n, k, s, d].into_iter().all(in_range) || (k - 1) * d >= 1 << 24 {
            let got = format!("input {n}, kernel {k}, stride {s}, dilation {d}");
            let expected =
                "input, kernel, stride and dilation from 1 to 2^20, (kernel - 1) * dilation below 2^24";
            return Err(Error::argument(at, expected, got));
        }
        // Number of input rows (or columns) that the dilated window covers.
        let extent = (k - 1) * d + 1;
        let (begin, total) = match self.padding {
            Padding::Same => {
                let outputs = n.div_ceil(s);
                let total = ((outputs - 1) * s + extent).saturating_sub(n);
                (total / 2, total)
            }
            Padding::Valid => (0, 0),
            Padding::Explicit { top, bottom, left, right } => {
                let (begin, end) = if axis == 0 { (top, bottom) } else { (left, right) };
                if begin > 1 << 20 || end > 1 << 20 {
                    return Err(Error::argument(at, "padding up to 2^20", format!("{begin} and {end}")));
                }
                (begin, begin + end)
            }
        };
        if n + total < extent {
            let name = ["rows", "columns"][axis];
            let expected = format!("at least {extent} {name} (kernel {k}, dilation {d}), including padding");
            return Err(Error::shape(at, expected, n + total));
        }
        Ok((begin, (n + total - extent) / s + 1))
    }
}

/// A [`Window`] resolved for an input size. Pairs are `[rows, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowGeometry {
    /// Input size.
    pub input: [usize; 2],
    /// Window size, in taps.
    pub kernel: [usize; 2],
    /// Input step between neighbouring outputs.
    pub stride: [usize; 2],
    /// Input step between neighbouring taps.
    pub dilation: [usize; 2],
    /// Padding at the top and at the left.
    pub pad_begin: [usize; 2],
    /// Output size.
    pub output: [usize; 2],
}

impl WindowGeometry {
    /// Input row (`axis` 0) or column (`axis` 1) that tap `tap` of output `output` reads; `None` in the
    /// padding.
    pub fn source(&self, axis: usize, output: usize, tap: usize) -> Option<usize> {
        let padded = output * self.stride[axis] + tap * self.dilation[axis];
        padded.checked_sub(self.pad_begin[axis]).filter(|&i| i < self.input[axis])
    }

    /// Number of taps of the window.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Number of outputs per channel and image.
    pub fn outputs(&self) -> usize {
        self.output[0] * self.output[1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(n: usize, k: usize, s: usize, d: usize) -> (usize, usize) {
        let w = Window { kernel: [k, k], stride: [s, s], dilation: [d, d], padding: Padding::Same };
        let g = w.on([n, n], "t").unwrap();
        (g.pad_begin[0], g.output[0])
    }

    #[test]
    fn same_padding_puts_odd_unit_at_end() {
        assert_eq!(same(8, 3, 2, 1), (0, 4));
        assert_eq!(same(7, 3, 2, 1), (1, 4));
        assert_eq!(same(5, 2, 1, 1), (0, 5));
        assert_eq!(same(8, 2, 3, 1), (0, 3)); // stride larger than the kernel: no padding
        assert_eq!(same(9, 3, 1, 3), (3, 9));
        assert_eq!(same(1, 7, 2, 1), (3, 1)); // input smaller than the kernel
    }

    #[test]
    fn rounding_up_adds_a_window_that_begins_before_the_padding_at_the_end() {
        let outputs = |n: usize, kernel: usize, stride: usize, begin: usize, end: usize| {
            let padding = Padding::Explicit { top: begin, bottom: end, left: begin, right: end };
            let w = Window { stride: [stride; 2], padding, ..Window::new([kernel; 2]) };
            [w.on([n; 2], "t"), w.on_rounded_up([n; 2], "t")].map(|g| g.unwrap().output[0])
        };
        assert_eq!(outputs(8, 3, 2, 0, 0), [3, 4]);
        assert_eq!(outputs(7, 3, 2, 0, 0), [3, 3]);
        assert_eq!(outputs(6, 3, 2, 1, 1), [3, 4]);
        assert_eq!(outputs(7, 4, 3, 1, 1), [2, 3]);
        // The fourth window would begin in the padding.
        assert_eq!(outputs(6, 2, 2, 0, 1), [3, 3]);
        assert_eq!(outputs(4, 1, 3, 0, 1), [2, 2]);
        let same = Window { stride: [2, 2], padding: Padding::Same, ..Window::new([3, 3]) };
        assert_eq!(same.on_rounded_up([8, 7], "t").unwrap(), same.on([8, 7], "t").unwrap());
    }

    #[test]
    fn rejects_empty_output_and_zero_stride() {
        assert!(matches!(Window::new([3, 3]).on([2, 5], "conv"), Err(Error::ShapeMismatch { .. })));
        let zero = Window { stride: [0, 1], ..Window::new([3, 3]) };
        assert!(matches!(zero.on([8, 8], "conv"), Err(Error::InvalidArgument { .. })));
    }

    #[test]
    fn rejects_zero_extents_and_too_many_elements() {
        assert!(Shape::new([0, 3]).is_err());
        assert!(Shape::new([1 << 20, 1 << 20]).is_err());
        assert!(Shape::new([usize::MAX, 2]).is_err());
        assert_eq!(Shape::new([2, 3]).unwrap().elements(), 6);
    }
}
