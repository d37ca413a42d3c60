use crate::graph::Clip;

/// A range of an arena that one update covers, and how it is scaled and clipped there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UpdateRange {
    /// The first element, a multiple of 4.
    pub first: usize,
    /// Elements, a multiple of 4.
    pub elements: usize,
    /// Multiplies the learning rate.
    pub rate_scale: f64,
    /// How the gradient is clipped where it is read.
    pub clip: Option<Clip>,
}

impl UpdateRange {
    /// The largest size of a gradient's element, or 0 where elements are not clipped.
    pub(super) fn clip_value(&self) -> f32 {
        match self.clip {
            // A limit too small for an f32 is its least one, for 0 is none.
            Some(Clip::Value { limit }) => (limit as f32).max(f32::MIN_POSITIVE),
            _ => 0.0,
        }
    }

    /// 1 where gradients are multiplied by the clip's scale.
    pub(super) fn clip_by_norm(&self) -> u32 {
        matches!(self.clip, Some(Clip::Norm { .. })).into()
    }
}
