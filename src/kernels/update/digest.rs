use crate::kernels::structs::Digest;
use crate::kernels::{Launch, files, grid, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

/// Maximum number of elements of a segment.
pub const SEGMENT_ELEMENTS: usize = 16_384;

params! {
    struct Params {
        segments: u32,
        all: u32,
    }
}

/// Computes the digest of every segment: over its frozen elements, or over all elements if `all`. Buffers:
/// segments, mask, elements, digests.
pub fn digest(segments: usize, all: bool) -> Launch {
    let params = Params { segments: to_u32(segments), all: all.into() };
    Launch::new(&files::DIGEST, &params, WORKGROUP, grid(segments, 1))
}

impl Digest {
    /// Adds the sums of further elements.
    pub(crate) fn add(&mut self, low: u32, high: u32) {
        self.low = self.low.wrapping_add(low);
        self.high = self.high.wrapping_add(high);
    }

    /// Computes on the host what the kernel computes for these (index, bits) pairs.
    pub fn of(elements: impl IntoIterator<Item = (usize, u32)>) -> Self {
        let mut digest = Digest::default();
        for (index, bits) in elements {
            let index = index as u32;
            digest.add(mix(index, bits, 0x68bc_21eb), mix(index, bits, 0x02e5_be93));
        }
        digest
    }

    /// Both sums as one number.
    pub fn value(&self) -> u64 {
        u64::from(self.high) << 32 | u64::from(self.low)
    }
}

fn mix(index: u32, bits: u32, salt: u32) -> u32 {
    let mut x = bits ^ index.wrapping_mul(0x9e37_79b9).wrapping_add(salt);
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_flipped_bit_changes_both_sums() {
        let elements: Vec<u32> = (0..50).map(|i: u32| i.wrapping_mul(0x0101_0101)).collect();
        let whole = Digest::of(elements.iter().copied().enumerate());
        for index in 0..50 {
            for bit in 0..32 {
                let mut changed = elements.clone();
                changed[index] ^= 1 << bit;
                let digest = Digest::of(changed.into_iter().enumerate());
                assert!(digest.low != whole.low && digest.high != whole.high);
            }
        }
        let mut swapped = elements.clone();
        swapped.swap(3, 4);
        assert_ne!(Digest::of(swapped.into_iter().enumerate()), whole);
    }
}
