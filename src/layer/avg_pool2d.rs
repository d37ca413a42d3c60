//! Average pooling.

use crate::error::{Error, Result};
use crate::graph::AvgPool2d;
use crate::shape::{Padding, Window};

/// The mean under each window of `[h, w, c]` images. Padding is not counted.
#[derive(Clone, Debug, PartialEq)]
pub struct AvgPool2dLayer {
    window: Window,
}

impl AvgPool2dLayer {
    /// Windows of `[rows, columns]` that do not overlap, no padding.
    pub fn new(kernel: [usize; 2]) -> Self {
        AvgPool2dLayer { window: Window { stride: kernel, ..Window::new(kernel) } }
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

    pub(super) fn place(&self, name: &str, input: &[usize]) -> Result<AvgPool2d> {
        match *input {
            [h, w, channels] => Ok(AvgPool2d { window: self.window.on([h, w], name)?, channels }),
            _ => Err(Error::shape(name, "examples of shape [h, w, c]", format!("{input:?}"))),
        }
    }
}
