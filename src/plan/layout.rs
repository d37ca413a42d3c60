//! Where each parameter lies in the arenas. All roles (weights, gradients, state, mask bits) have the same layout.

use crate::error::{Error, Result};
use crate::graph::Parameter;

/// Tensors begin at multiples of 256 bytes, the widest alignment that devices ask of a binding.
const ALIGN_ELEMENTS: usize = 64;

/// A tensor's place in an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Which of the arena's buffers.
    pub chunk: usize,
    /// Its first element there.
    pub first: usize,
    /// Its elements.
    pub len: usize,
}

/// The arenas' layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    spots: Vec<Spot>,
    chunks: Vec<usize>,
}

impl Layout {
    /// Lays the parameters out in order, in buffers of at most `max_bytes`.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] if one tensor is larger than that.
    pub fn new(parameters: &[Parameter], max_bytes: u64) -> Result<Self> {
        let most = usize::try_from(max_bytes / 4).unwrap_or(usize::MAX) / ALIGN_ELEMENTS * ALIGN_ELEMENTS;
        let mut layout = Layout { spots: Vec::new(), chunks: Vec::new() };
        for parameter in parameters {
            let len = parameter.shape.elements();
            let room = len.next_multiple_of(ALIGN_ELEMENTS);
            if room > most {
                let what = format!("{} (one binding)", parameter.path);
                return Err(Error::LimitExceeded { what, needed: 4 * room as u64, available: max_bytes });
            }
            if layout.chunks.last().is_none_or(|used| used + room > most) {
                layout.chunks.push(0);
            }
            let chunk = layout.chunks.len() - 1;
            layout.spots.push(Spot { chunk, first: layout.chunks[chunk], len });
            layout.chunks[chunk] += room;
        }
        Ok(layout)
    }

    /// Where each parameter lies, in order.
    pub fn spots(&self) -> &[Spot] {
        &self.spots
    }

    /// Elements of each buffer of an arena, gaps included.
    pub fn chunks(&self) -> &[usize] {
        &self.chunks
    }

    /// Elements of a tensor's spot with the gap behind it.
    pub fn room(spot: &Spot) -> usize {
        spot.len.next_multiple_of(ALIGN_ELEMENTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ParameterKind;
    use crate::shape::Shape;

    fn parameter(path: &str, len: usize) -> Parameter {
        Parameter { path: path.into(), shape: Shape::new([len]).unwrap(), kind: ParameterKind::Trained }
    }

    #[test]
    fn tensors_are_aligned_and_cut_at_the_limit() {
        let all = [parameter("a", 10), parameter("b", 64), parameter("c", 100)];
        let layout = Layout::new(&all, 1024).unwrap();
        let spots: Vec<_> = layout.spots().iter().map(|s| (s.chunk, s.first)).collect();
        assert_eq!(spots, [(0, 0), (0, 64), (0, 128)]);
        assert_eq!(layout.chunks(), [256]);
        let cut = Layout::new(&all, 512).unwrap();
        let spots: Vec<_> = cut.spots().iter().map(|s| (s.chunk, s.first)).collect();
        assert_eq!(spots, [(0, 0), (0, 64), (1, 0)]);
        assert!(matches!(
            Layout::new(&all, 256),
            Err(Error::LimitExceeded { needed: 512, available: 256, .. })
        ));
    }
}
