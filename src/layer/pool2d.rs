//! Pooling over windows, by maximum or by mean.

use crate::error::{Error, Result};
use crate::graph::Pool2d;
use crate::shape::{Padding, Window};

/// The windows of a pooling layer on `[h, w, c]` images. Padding is never a maximum, and no mean counts it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool2dLayer {
    window: Window,
}

impl Pool2dLayer {
    /// Windows of `[rows, columns]` that do not overlap, no padding.
    pub fn new(kernel: [usize; 2]) -> Self {
        Pool2dLayer { window: Window { stride: kernel, ..Window::new(kernel) } }
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

    /// Padding at the edges.
    pub fn padding(mut self, padding: Padding) -> Self {
        self.window.padding = padding;
        self
    }

    pub(super) fn place(&self, name: &str, input: &[usize]) -> Result<Pool2d> {
        match *input {
            [h, w, channels] => Ok(Pool2d { window: self.window.on([h, w], name)?, channels }),
            _ => Err(Error::shape(name, "examples of shape [h, w, c]", format!("{input:?}"))),
        }
    }
}
