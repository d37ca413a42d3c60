//! Table of the ranges of an arena (one buffer that contains many tensors) that one dispatch covers: the part of
//! its parameters that `shaders/shared/ranges.wgsl` searches.

use super::to_u32;

/// Maximum number of ranges of a dispatch.
pub(crate) const MAX_RANGES: usize = 128;

/// Two vectors for each range: `[first workgroup, a, b, c]` and `[d, e, f, g]`, where the kernel defines the
/// meaning of `a` to `g`.
pub(super) type Rows = [[u32; 4]; 2 * MAX_RANGES];

/// A table under construction.
pub(super) struct RangeTable {
    pub rows: Rows,
    /// Number of ranges.
    pub ranges: usize,
    /// Number of workgroups of all ranges.
    pub workgroups: usize,
}

impl RangeTable {
    pub fn new() -> Self {
        RangeTable { rows: [[0; 4]; 2 * MAX_RANGES], ranges: 0, workgroups: 0 }
    }

    /// Adds a range that is processed by this many invocations, if there are fewer than [`MAX_RANGES`].
    pub fn push(&mut self, invocations: usize, workgroup: u32, [a, b, c]: [u32; 3], rest: [u32; 4]) {
        if let Some(rows) = self.rows.as_chunks_mut::<2>().0.get_mut(self.ranges) {
            *rows = [[to_u32(self.workgroups), a, b, c], rest];
            self.ranges += 1;
            self.workgroups += invocations.div_ceil(workgroup as usize);
        }
    }
}
