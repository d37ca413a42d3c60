//! Dropout, down to the bits of its mask.

use crate::rng::threefry;

/// Dropout (Srivastava et al. 2014), scaled in training so that evaluation needs none.
///
/// The element of flat index `i` is kept where the first word of `threefry(seed, [i, draw + layer * 0x9e3779b9])` (modulo
/// 2^32; seed and draw of [`crate::graph::StepScalars`]) is at least [`Dropout::threshold`]. For a layer every draw has a
/// counter of its own; two layers of one draw never share one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The share of elements that become 0, in `[0, 1)`.
    pub rate: f64,
    /// Sets the masks of one graph's layers apart.
    pub layer: u32,
}

impl Dropout {
    /// Words below this drop their element: `rate * 2^32`, rounded.
    pub fn threshold(&self) -> u32 {
        // The conversion saturates: a rate within 2^-33 of 1 still keeps one word of 2^32.
        (self.rate * 4_294_967_296.0).round() as u32
    }

    /// What kept elements are multiplied by.
    pub fn scale(&self) -> f64 {
        1.0 / (1.0 - self.rate)
    }

    /// What the layer adds to the draw in the counter's second word: an odd factor, so that no two layers add the same.
    pub fn offset(&self) -> u32 {
        self.layer.wrapping_mul(0x9e37_79b9)
    }

    /// Whether the element of this flat index is kept.
    pub fn keeps(&self, seed: [u32; 2], draw: u32, element: u32) -> bool {
        threefry(seed, [element, draw.wrapping_add(self.offset())])[0] >= self.threshold()
    }
}
