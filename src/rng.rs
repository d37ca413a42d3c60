//! Seeded random streams that give the same numbers on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream of random numbers is for; streams of one seed are independent of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Initial weights.
    Weights = 1,
    /// Random masks.
    Mask = 2,
    /// The order of examples.
    Shuffle = 3,
    /// Test data.
    Data = 4,
}

/// A seeded stream (ChaCha with 8 rounds). All mappings to other types are defined here, on the raw bits,
/// so that no other crate's version can change them.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of `seed` for one purpose; `part` sets parallel streams apart (a tensor's number, an epoch).
    pub fn new(seed: u64, purpose: Purpose, part: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(((purpose as u64) << 56) | (part & ((1 << 56) - 1)));
        Stream(rng)
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Uniform in `[0, 1)`, on a grid of 2^-24.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }

    /// Uniform in `[low, high)`.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Normal with mean 0 and variance 1 (Box and Muller's method, in f64).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - f64::from(self.unit())).ln()).sqrt();
        let angle = 2.0 * std::f64::consts::PI * f64::from(self.unit());
        (radius * angle.cos()) as f32
    }

    /// Uniform in `0..bound`, without bias; 0 for a bound of 0 or 1.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound < 2 {
            return 0;
        }
        let bound = bound as u64;
        let zone = u64::MAX - u64::MAX % bound;
        loop {
            let draw = self.0.next_u64();
            if draw < zone {
                return (draw % bound) as usize;
            }
        }
    }

    /// Shuffles in place (Fisher and Yates, from the end).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Threefry-2x32 with 20 rounds: two random words from a key and a counter alone (Salmon, Moraes, Dror, Shaw: Parallel
/// random numbers: as easy as 1, 2, 3, 2011).
pub fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const LEFT: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    let keys = [key[0], key[1], 0x1bd1_1bda ^ key[0] ^ key[1]];
    let mut a = counter[0].wrapping_add(keys[0]);
    let mut b = counter[1].wrapping_add(keys[1]);
    for block in 0..5 {
        for left in LEFT[block % 2] {
            a = a.wrapping_add(b);
            b = b.rotate_left(left) ^ a;
        }
        a = a.wrapping_add(keys[(block + 1) % 3]);
        b = b.wrapping_add(keys[(block + 2) % 3]).wrapping_add(block as u32 + 1);
    }
    [a, b]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threefry_has_its_known_values() {
        // The known answers that its authors publish.
        assert_eq!(threefry([0; 2], [0; 2]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry([u32::MAX; 2], [u32::MAX; 2]), [0x1cb9_96fc, 0xbb00_2be7]);
    }

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |seed, purpose, part| {
            let mut s = Stream::new(seed, purpose, part);
            (s.bits(), s.bits())
        };
        assert_eq!(draw(7, Purpose::Weights, 0), draw(7, Purpose::Weights, 0));
        assert_ne!(draw(7, Purpose::Weights, 0), draw(7, Purpose::Weights, 1));
        assert_ne!(draw(7, Purpose::Weights, 0), draw(7, Purpose::Mask, 0));
        assert_ne!(draw(7, Purpose::Weights, 0), draw(8, Purpose::Weights, 0));
    }

    #[test]
    fn shuffle_keeps_every_item() {
        let mut items: Vec<_> = (0..100).collect();
        Stream::new(1, Purpose::Shuffle, 0).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn normal_has_unit_variance() {
        let mut s = Stream::new(3, Purpose::Data, 0);
        let draws: Vec<f64> = (0..20_000).map(|_| f64::from(s.normal())).collect();
        let mean = draws.iter().sum::<f64>() / 20_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
    }
}
