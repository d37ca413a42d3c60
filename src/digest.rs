//! Digests of tensors over the bits of their elements. The host computes the same digests as the device.

use crate::wgsl::params;

params! {
    /// Digest of a tensor: two sums, with different salts, over a hash of each element's (index, bits). The
    /// kernel `shaders/update/digest.wgsl` computes the same.
    #[derive(Default, Eq)]
    pub struct Digest {
        /// The first sum.
        pub low: u32,
        /// The second sum, with a different salt in the hash.
        pub high: u32,
    }
}

impl Digest {
    /// Adds the sums of further elements of the same tensor.
    pub(crate) fn add(&mut self, low: u32, high: u32) {
        self.low = self.low.wrapping_add(low);
        self.high = self.high.wrapping_add(high);
    }

    /// Computes the digest of these (index, bits) pairs on the host, with the same result as the kernel.
    pub fn of(elements: impl IntoIterator<Item = (usize, u32)>) -> Self {
        let mut digest = Digest::default();
        for (index, bits) in elements {
            let index = index as u32;
            digest.add(mix(index, bits, 0x68bc_21eb), mix(index, bits, 0x02e5_be93));
        }
        digest
    }

    /// Returns both sums as one number.
    pub fn value(&self) -> u64 {
        u64::from(self.high) << 32 | u64::from(self.low)
    }
}

/// Hashes an element's index and bits.
fn mix(index: u32, bits: u32, salt: u32) -> u32 {
    let mut x = bits ^ index.wrapping_mul(0x9e37_79b9).wrapping_add(salt);
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

/// FNV-1a hash that combines the names and digests of several tensors into one number.
pub(crate) struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Fnv1a(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv1a {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    /// Hashes the path of a parameter, the name `what` of one of its tensors, and the digest of that tensor.
    pub(crate) fn digest(&mut self, path: &str, what: &str, digest: &Digest) {
        self.bytes(path.as_bytes());
        self.bytes(what.as_bytes());
        self.bytes(&digest.value().to_le_bytes());
    }

    pub(crate) fn value(&self) -> u64 {
        self.0
    }
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
