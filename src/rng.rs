//! Seeded random number streams, bit-identical on every platform.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Purpose of a random stream. Streams of one seed with different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Initial weights.
    Weights = 1,
    /// Random masks.
    Mask = 2,
    /// Order of examples.
    Shuffle = 3,
    /// Test data.
    Data = 4,
    /// Division of a data set.
    Split = 5,
    /// Random changes of images.
    Augment = 6,
}

/// A seeded random stream (ChaCha8). Distributions are computed here from the raw bits, so that they do not
/// depend on the version of another crate.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The stream of `seed` for one purpose; `part` selects one of 2^56 parallel streams (a tensor index, an
    /// epoch).
    pub fn new(seed: u64, purpose: Purpose, part: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(((purpose as u64) << 56) | (part & ((1 << 56) - 1)));
        Stream(rng)
    }

    /// 32 random bits.
    pub fn bits(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Uniform in `[0, 1)`, a multiple of 2^-24.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 8) as f32 * (1.0 / (1 << 24) as f32)
    }

    /// Uniform in `[low, high)`.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Standard normal: the inverse cumulative distribution function of a uniform draw of 53 bits.
    pub fn normal(&mut self) -> f32 {
        let draw = (self.0.next_u64() >> 11) as f64 + 0.5;
        inverse_normal(draw * (1.0 / (1u64 << 53) as f64)) as f32
    }

    /// Uniform in `0..bound`, without modulo bias; 0 for a bound of 0 or 1.
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

    /// Shuffles in place (Fisher-Yates, from the end).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Threefry-2x32 with 20 rounds: a counter-based generator of two random words from key and counter (Salmon,
/// Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3, 2011).
pub fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [[u32; 4]; 2] = [[13, 15, 26, 6], [17, 29, 16, 24]];
    let keys = [key[0], key[1], 0x1bd1_1bda ^ key[0] ^ key[1]];
    let mut a = counter[0].wrapping_add(keys[0]);
    let mut b = counter[1].wrapping_add(keys[1]);
    for block in 0..5 {
        for rotation in ROTATIONS[block % 2] {
            a = a.wrapping_add(b);
            b = b.rotate_left(rotation) ^ a;
        }
        a = a.wrapping_add(keys[(block + 1) % 3]);
        b = b.wrapping_add(keys[(block + 2) % 3]).wrapping_add(block as u32 + 1);
    }
    [a, b]
}

/// Inverse of the standard normal cumulative distribution function for `0 < p < 1`: P. J. Acklam's rational
/// approximation (2003), relative error 1.2e-9. Uses only +, *, / and sqrt, which IEEE 754 rounds identically
/// on every platform.
fn inverse_normal(p: f64) -> f64 {
    const TAIL: f64 = 0.02425;
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 6] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 5] =
        [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1.0];
    let tail = |p: f64| {
        let q = (-2.0 * ln(p)).sqrt();
        polynomial(&C, q) / polynomial(&D, q)
    };
    if p < TAIL {
        tail(p)
    } else if p > 1.0 - TAIL {
        -tail(1.0 - p)
    } else {
        let q = p - 0.5;
        q * polynomial(&A, q * q) / polynomial(&B, q * q)
    }
}

/// Evaluates a polynomial by Horner's method; coefficients are ordered from the highest power down.
fn polynomial(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

/// Natural logarithm of a positive normal number; `f64::ln` may differ in the last bit between platforms.
///
/// `x = 2^e * m` and `ln m = 2 atanh(s)` as a power series in `s = (m - 1)/(m + 1)`, at most 0.172 in
/// magnitude.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut e = (bits >> 52) as i32 - 1023;
    let mut m = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        e += 1;
    }
    let s = (m - 1.0) / (m + 1.0);
    // The power series is truncated after 11 terms, because the next term is below 2^-60.
    let series = (0..11).rev().fold(0.0, |sum, k| sum * s * s + 2.0 / f64::from(2 * k + 1));
    f64::from(e) * std::f64::consts::LN_2 + s * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threefry_matches_published_test_vectors() {
        // Expected words from the known-answer tests of the Random123 library.
        assert_eq!(threefry([0; 2], [0; 2]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry([u32::MAX; 2], [u32::MAX; 2]), [0x1cb9_96fc, 0xbb00_2be7]);
    }

    #[test]
    fn logarithm_matches_platform() {
        let mut s = Stream::new(1, Purpose::Data, 0);
        for x in
            (0..2000).map(|i| (f64::from(s.unit()) + 1e-9) * 2f64.powi(i % 50 - 45)).chain([1.0, 0.5, 2.0])
        {
            assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(1.0), "{x}: {} {}", ln(x), x.ln());
        }
    }

    #[test]
    fn quantiles_match_tables() {
        let table = [
            (0.5, 0.0),
            (0.975, 1.959963984540054),
            (0.9, 1.2815515655446004),
            (0.99, 2.3263478740408408),
            (0.999, 3.090232306167813),
            (1e-5, -4.264890793922825),
            (1e-10, -6.361340902404056),
        ];
        for (p, x) in table {
            assert!((inverse_normal(p) - x).abs() <= 1.2e-9 * x.abs(), "{p}: {}", inverse_normal(p));
        }
        assert_eq!(inverse_normal(0.25), -inverse_normal(0.75));
    }

    #[test]
    fn streams_are_reproducible_and_distinct() {
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
    fn shuffle_is_a_permutation() {
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
