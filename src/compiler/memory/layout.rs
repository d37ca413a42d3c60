//! Offsets of the parameters in the arenas, the buffers that contain one tensor of every parameter. All
//! arenas (weights, gradients, state, mask bits) have the same layout.

use crate::error::{Error, Result};
use crate::graph::{Parameter, ParameterKind};
use crate::kernels::{SEGMENT_ELEMENTS, Segment};

/// Alignment of tensors, in elements: 256 bytes, the largest offset alignment that WebGPU lets a device
/// require for a storage buffer binding.
const ALIGN_ELEMENTS: usize = 64;

/// Range of a tensor's elements in an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaRange {
    /// Index of the arena's buffer.
    pub chunk: usize,
    /// First element in that buffer.
    pub first: usize,
    /// Number of elements.
    pub len: usize,
}

/// Layout of the parameters in the arenas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    ranges: Vec<ArenaRange>,
    chunks: Vec<usize>,
}

impl Layout {
    /// Assigns the parameters to buffers of at most `max_bytes`: first the trained ones in order, then the
    /// running statistics in order, so that few ranges cover all parameters of an update.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] if one tensor is larger than `max_bytes`.
    pub fn new(parameters: &[Parameter], max_bytes: u64) -> Result<Self> {
        let max_elements =
            usize::try_from(max_bytes / 4).unwrap_or(usize::MAX) / ALIGN_ELEMENTS * ALIGN_ELEMENTS;
        let empty = ArenaRange { chunk: 0, first: 0, len: 0 };
        let mut layout = Layout { ranges: vec![empty; parameters.len()], chunks: Vec::new() };
        let trained = |index: &usize| parameters[*index].kind == ParameterKind::Trained;
        let (trained, statistics): (Vec<_>, Vec<_>) = (0..parameters.len()).partition(trained);
        for index in trained.into_iter().chain(statistics) {
            let parameter = &parameters[index];
            let len = parameter.shape.elements();
            let padded = len.next_multiple_of(ALIGN_ELEMENTS);
            if padded > max_elements {
                let what = format!("{} (one binding)", parameter.path);
                let advice = "use fewer channels or features, or divide the layer into several".to_owned();
                return Err(Error::LimitExceeded {
                    what,
                    needed: 4 * padded as u64,
                    available: max_bytes,
                    advice,
                });
            }
            if layout.chunks.last().is_none_or(|used| used + padded > max_elements) {
                layout.chunks.push(0);
            }
            let chunk = layout.chunks.len() - 1;
            layout.ranges[index] = ArenaRange { chunk, first: layout.chunks[chunk], len };
            layout.chunks[chunk] += padded;
        }
        Ok(layout)
    }

    /// Returns the range of each parameter, in order.
    pub fn ranges(&self) -> &[ArenaRange] {
        &self.ranges
    }

    /// Returns the number of elements of each buffer of an arena, padding included.
    pub fn chunks(&self) -> &[usize] {
        &self.chunks
    }

    /// Returns the number of the first group of four elements of a chunk, counted over all chunks.
    pub(crate) fn first_group(&self, chunk: usize) -> usize {
        self.chunks[..chunk].iter().sum::<usize>() / 4
    }

    /// Returns the index of the parameter that contains a group of four elements, counted over all chunks.
    pub(crate) fn parameter_of_group(&self, group: usize) -> Option<usize> {
        self.ranges.iter().position(|range| {
            let first = self.first_group(range.chunk) + range.first / 4;
            (first..first + Layout::padded_len(range) / 4).contains(&group)
        })
    }

    /// Returns the number of elements of a tensor and the padding after it.
    pub fn padded_len(range: &ArenaRange) -> usize {
        range.len.next_multiple_of(ALIGN_ELEMENTS)
    }
}

/// Divides the parameters into segments of at most [`SEGMENT_ELEMENTS`] elements, for digests. Returns the
/// segments of each chunk, each with the index of its parameter.
pub(crate) fn segments(layout: &Layout) -> Vec<Vec<(Segment, usize)>> {
    let mut all = vec![Vec::new(); layout.chunks().len()];
    for (parameter, range) in layout.ranges().iter().enumerate() {
        for index in (0..range.len).step_by(SEGMENT_ELEMENTS) {
            let segment = Segment {
                first: (range.first + index) as u32,
                index: index as u32,
                count: SEGMENT_ELEMENTS.min(range.len - index) as u32,
            };
            all[range.chunk].push((segment, parameter));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Shape;

    fn parameter(path: &str, len: usize) -> Parameter {
        Parameter { path: path.into(), shape: Shape::new([len]).unwrap(), kind: ParameterKind::Trained }
    }

    #[test]
    fn running_statistics_follow_the_trained_parameters() {
        let statistic = |path| Parameter { kind: ParameterKind::Statistic, ..parameter(path, 64) };
        let all = [parameter("a", 64), statistic("mean"), parameter("b", 64), statistic("variance")];
        let firsts =
            |layout: &Layout| -> Vec<_> { layout.ranges().iter().map(|r| (r.chunk, r.first)).collect() };
        assert_eq!(firsts(&Layout::new(&all, 1024).unwrap()), [(0, 0), (0, 128), (0, 64), (0, 192)]);
        let split = Layout::new(&all, 512).unwrap();
        assert_eq!(firsts(&split), [(0, 0), (1, 0), (0, 64), (1, 64)]);
        assert_eq!([0, 16, 32, 48].map(|group| split.parameter_of_group(group)), [0, 2, 1, 3].map(Some));
    }

    #[test]
    fn tensors_are_aligned_and_split_over_buffers_at_the_limit() {
        let all = [parameter("a", 10), parameter("b", 64), parameter("c", 100)];
        let layout = Layout::new(&all, 1024).unwrap();
        let ranges: Vec<_> = layout.ranges().iter().map(|s| (s.chunk, s.first)).collect();
        assert_eq!(ranges, [(0, 0), (0, 64), (0, 128)]);
        assert_eq!(layout.chunks(), [256]);
        let split = Layout::new(&all, 512).unwrap();
        let ranges: Vec<_> = split.ranges().iter().map(|s| (s.chunk, s.first)).collect();
        assert_eq!(ranges, [(0, 0), (0, 64), (1, 0)]);
        for layout in [layout, split] {
            let parameters: Vec<_> =
                [0, 15, 16, 31, 32, 63, 64].map(|group| layout.parameter_of_group(group)).into();
            assert_eq!(parameters, [Some(0), Some(0), Some(1), Some(1), Some(2), Some(2), None]);
        }
        assert!(matches!(
            Layout::new(&all, 256),
            Err(Error::LimitExceeded { needed: 512, available: 256, .. })
        ));
    }
}
