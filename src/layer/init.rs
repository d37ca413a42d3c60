//! How parameters begin.

use crate::rng::Stream;

/// The distribution of a parameter's first values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in `±sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010).
    GlorotUniform,
    /// Uniform in `±sqrt(6 / fan_in)` (He et al. 2015).
    HeUniform,
    /// 0.
    Zeros,
    /// 1.
    Ones,
}

impl Init {
    /// The first values of `count` elements; `fan` is `[fan_in, fan_out]`.
    pub fn values(self, count: usize, fan: [usize; 2], stream: &mut Stream) -> Vec<f32> {
        let bound = match self {
            Init::GlorotUniform => (6.0 / fan[0].saturating_add(fan[1]) as f64).sqrt() as f32,
            Init::HeUniform => (6.0 / fan[0] as f64).sqrt() as f32,
            Init::Zeros => return vec![0.0; count],
            Init::Ones => return vec![1.0; count],
        };
        (0..count).map(|_| stream.uniform(-bound, bound)).collect()
    }
}
