//! Shapes, and the geometry of sliding windows, in checked arithmetic.

use crate::error::{Error, Result};
use std::fmt;

/// The extents of a tensor, outermost first. Images are `[n, h, w, c]`, convolution kernels
/// `[kernel_h, kernel_w, c_in / groups, c_out]`, dense kernels `[in, out]`; memory is row-major.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Shape(Vec<usize>);

/// Element counts and extents stay below this, so that indices fit a shader's `u32` with room for padding.
pub const MAX_ELEMENTS: usize = (1 << 31) - 1;

impl Shape {
    /// A shape of these extents. An empty list is a scalar of one element.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if an extent is 0 or the product passes [`MAX_ELEMENTS`].
    pub fn new(extents: impl Into<Vec<usize>>) -> Result<Self> {
        let shape = Shape(extents.into());
        let product = shape.0.iter().try_fold(1usize, |a, &b| a.checked_mul(b));
        match product {
            Some(n) if n > 0 && n <= MAX_ELEMENTS => Ok(shape),
            _ => Err(Error::argument(
                "shape",
                format!("extents of 1 or more, at most {MAX_ELEMENTS} elements"),
                &shape,
            )),
        }
    }

    /// The extents.
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

    /// The last extent (the channels of an image); 1 for a scalar.
    pub fn last(&self) -> usize {
        self.0.last().copied().unwrap_or(1)
    }

    /// The extents as `[n, h, w, c]`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] unless there are four.
    pub fn nhwc(&self, at: &str) -> Result<[usize; 4]> {
        <[usize; 4]>::try_from(self.0.as_slice()).map_err(|_| Error::shape(at, "[n, h, w, c]", self))
    }

    /// The extents as `[rows, columns]`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] unless there are two.
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

/// How a window may hang over the edge of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Padding {
    /// TensorFlow's rule: `ceil(n / stride)` outputs, the odd unit of padding at the end.
    Same,
    /// No padding.
    #[default]
    Valid,
    /// So many rows and columns of padding on each side.
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

/// A sliding window over rows and columns; pairs are `[rows, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Taps.
    pub kernel: [usize; 2],
    /// Step between outputs.
    pub stride: [usize; 2],
    /// Step between taps.
    pub dilation: [usize; 2],
    /// The rule for the edges.
    pub padding: Padding,
}

impl Window {
    /// A window of `kernel` taps, stride 1, dilation 1, no padding.
    pub fn new(kernel: [usize; 2]) -> Self {
        Window { kernel, stride: [1, 1], dilation: [1, 1], padding: Padding::Valid }
    }

    /// Places the window on an input of `input` rows and columns.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a zero kernel, stride or dilation; [`Error::ShapeMismatch`] if no output is left.
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
            let (begin, output) = self.axis(axis, n, at)?;
            geometry.pad_begin[axis] = begin;
            geometry.output[axis] = output;
        }
        Ok(geometry)
    }

    /// Padding before, and number of outputs, on one axis.
    fn axis(&self, axis: usize, n: usize, at: &str) -> Result<(usize, usize)> {
        let (k, s, d) = (self.kernel[axis], self.stride[axis], self.dilation[axis]);
        let small = |x: usize| x > 0 && x <= 1 << 20;
        if !small(n) || !small(k) || !small(s) || !small(d) || (k - 1) * d >= 1 << 24 {
            let got = format!("input {n}, kernel {k}, stride {s}, dilation {d}");
            return Err(Error::argument(at, "input, kernel, stride and dilation from 1 to 1,048,576", got));
        }
        let reach = (k - 1) * d + 1;
        let (begin, total) = match self.padding {
            Padding::Same => {
                let outputs = n.div_ceil(s);
                let total = ((outputs - 1) * s + reach).saturating_sub(n);
                (total / 2, total)
            }
            Padding::Valid => (0, 0),
            Padding::Explicit { top, bottom, left, right } => {
                let (begin, end) = if axis == 0 { (top, bottom) } else { (left, right) };
                if begin > 1 << 20 || end > 1 << 20 {
                    return Err(Error::argument(at, "padding up to 1,048,576", format!("{begin} and {end}")));
                }
                (begin, begin + end)
            }
        };
        if n + total < reach {
            let name = ["rows", "columns"][axis];
            let expected = format!("at least {reach} {name} (kernel {k}, dilation {d}), padding included");
            return Err(Error::shape(at, expected, n + total));
        }
        Ok((begin, (n + total - reach) / s + 1))
    }
}

/// A [`Window`] placed on an input: everything resolved to numbers. Pairs are `[rows, columns]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowGeometry {
    /// Rows and columns of the input.
    pub input: [usize; 2],
    /// Taps.
    pub kernel: [usize; 2],
    /// Step between outputs.
    pub stride: [usize; 2],
    /// Step between taps.
    pub dilation: [usize; 2],
    /// Padding above and at the left.
    pub pad_begin: [usize; 2],
    /// Rows and columns of the output.
    pub output: [usize; 2],
}

impl WindowGeometry {
    /// The input row (axis 0) or column (axis 1) under tap `tap` of output `output`; `None` in the padding.
    pub fn source(&self, axis: usize, output: usize, tap: usize) -> Option<usize> {
        let padded = output * self.stride[axis] + tap * self.dilation[axis];
        padded.checked_sub(self.pad_begin[axis]).filter(|&i| i < self.input[axis])
    }

    /// Taps in the window.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Outputs per channel of one image.
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
    fn same_puts_the_odd_unit_at_the_end() {
        assert_eq!(same(8, 3, 2, 1), (0, 4));
        assert_eq!(same(7, 3, 2, 1), (1, 4));
        assert_eq!(same(5, 2, 1, 1), (0, 5));
        assert_eq!(same(8, 2, 3, 1), (0, 3)); // stride beyond the kernel: no padding
        assert_eq!(same(9, 3, 1, 3), (3, 9));
        assert_eq!(same(1, 7, 2, 1), (3, 1)); // smaller than the kernel
    }

    #[test]
    fn refuses_what_leaves_no_output() {
        assert!(matches!(Window::new([3, 3]).on([2, 5], "conv"), Err(Error::ShapeMismatch { .. })));
        let zero = Window { stride: [0, 1], ..Window::new([3, 3]) };
        assert!(matches!(zero.on([8, 8], "conv"), Err(Error::InvalidArgument { .. })));
    }

    #[test]
    fn shapes_are_checked() {
        assert!(Shape::new([0, 3]).is_err());
        assert!(Shape::new([1 << 20, 1 << 20]).is_err());
        assert!(Shape::new([usize::MAX, 2]).is_err());
        assert_eq!(Shape::new([2, 3]).unwrap().elements(), 6);
    }
}
