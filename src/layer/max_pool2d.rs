//! Max-pooling.

use crate::error::{Error, Result};
use crate::graph::MaxPool2d;
use crate::shape::{Padding, Window};

/// The largest element under each window of `[h, w, c]` images. Padding is never chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct MaxPool2dLayer {
    window: Window,
}

impl MaxPool2dLayer {
    /// Windows of `[rows, columns]` that do not overlap, no padding.
    pub fn new(kernel: [usize; 2]) -> Self {
        MaxPool2dLayer { window: Window { stride: kernel, ..Window::new(kernel) } }
    }

    /// Rows and columns from one output to the next.
    pub fn stride(mut self, stride: [usize; 2]) -> Self {
        self.window.stride = stride;
        self
    }

    /// Padding at the edges.
    pub fn padding(mut self, padding: Padding) -> Self {
        self.window.padding = padding;
        self
    }

    pub(super) fn place(&self, name: &str, input: &[usize]) -> Result<MaxPool2d> {
        match *input {
            [h, w, channels] => Ok(MaxPool2d { window: self.window.on([h, w], name)?, channels }),
            _ => Err(Error::shape(name, "examples of shape [h, w, c]", format!("{input:?}"))),
        }
    }
}
