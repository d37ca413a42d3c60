//! What a rule may look at.

use super::Mask;

/// One tensor, as a [`super::FreezeRule`] sees it.
#[derive(Clone, Copy, Debug)]
pub struct TensorView<'a> {
    /// The parameter's path.
    pub path: &'a str,
    /// Its extents, row-major: HWIO for a convolution kernel, `[in, out]` for a dense one.
    pub shape: &'a [usize],
    /// The bits of its f32 elements; `None` where no rule asked for them ([`super::FreezeRule::needs_weights`]).
    pub bits: Option<&'a [u32]>,
    /// What is frozen already.
    pub frozen: &'a Mask,
}

impl TensorView<'_> {
    /// Elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}
