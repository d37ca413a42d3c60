//! Parameter initializers.

use crate::error::{Error, Result};
use crate::host_memory;
use crate::rng::Stream;

/// Initializer of a parameter.
///
/// # Default
/// Kernels for which none is set are initialized by [`Init::HeUniform`] if a rectifier follows their layer
/// (ReLU, leaky ReLU, ReLU6, GELU, SiLU or hard swish; directly or after batch norm, pooling, dropout, a flatten or the sum of a residual
/// layer), otherwise by [`Init::GlorotUniform`]. A rectifier halves the mean square of its input, which He's
/// variance compensates: with Glorot's, the outputs of a deep network shrink from layer to layer.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub enum Init {
    /// Uniform in `±sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010).
    GlorotUniform,
    /// Normal with variance `2 / (fan_in + fan_out)` (Glorot and Bengio 2010).
    GlorotNormal,
    /// Uniform in `±sqrt(6 / fan_in)` (He et al. 2015).
    HeUniform,
    /// Normal with variance `2 / fan_in` (He et al. 2015).
    HeNormal,
    /// All 0.
    Zeros,
    /// All 1.
    Ones,
    /// All equal to this number.
    Constant(f32),
    /// Explicit elements, row-major.
    Given(Vec<f32>),
}

impl Init {
    /// Draws the `count` initial elements of the parameter `path` from `stream`; `fan` is
    /// `[fan_in, fan_out]`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if [`Init::Given`] has another number of elements; [`Error::HostMemory`] if
    /// there is not enough host memory.
    pub fn values(&self, path: &str, count: usize, fan: [usize; 2], stream: &mut Stream) -> Result<Vec<f32>> {
        let fan_sum = fan[0].saturating_add(fan[1]) as f64;
        let fan_in = fan[0] as f64;
        let mut values = host_memory::reserve(count, path)?;
        match self {
            Init::GlorotUniform => uniform(6.0 / fan_sum, count, stream, &mut values),
            Init::HeUniform => uniform(6.0 / fan_in, count, stream, &mut values),
            Init::GlorotNormal => normal(2.0 / fan_sum, count, stream, &mut values),
            Init::HeNormal => normal(2.0 / fan_in, count, stream, &mut values),
            Init::Zeros => values.resize(count, 0.0),
            Init::Ones => values.resize(count, 1.0),
            Init::Constant(value) => values.resize(count, *value),
            Init::Given(given) if given.len() == count => values.extend_from_slice(given),
            Init::Given(given) => {
                let expected = format!("{count} initial values");
                return Err(Error::shape(path, expected, given.len()));
            }
        }
        Ok(values)
    }
}

/// Uniform in `±sqrt(bound_squared)`.
fn uniform(bound_squared: f64, count: usize, stream: &mut Stream, values: &mut Vec<f32>) {
    let bound = bound_squared.sqrt() as f32;
    values.extend((0..count).map(|_| stream.uniform(-bound, bound)));
}

fn normal(variance: f64, count: usize, stream: &mut Stream, values: &mut Vec<f32>) {
    let deviation = variance.sqrt() as f32;
    values.extend((0..count).map(|_| stream.normal() * deviation));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    fn draw(init: &Init) -> Vec<f64> {
        let mut stream = Stream::new(9, Purpose::Weights, 0);
        let values = init.values("w", 40_000, [30, 70], &mut stream).unwrap();
        values.into_iter().map(f64::from).collect()
    }

    #[test]
    fn distributions_have_expected_mean_variance_and_range() {
        let cases = [
            (Init::GlorotUniform, 2.0f64 / 100.0, true),
            (Init::GlorotNormal, 2.0 / 100.0, false),
            (Init::HeUniform, 2.0 / 30.0, true),
            (Init::HeNormal, 2.0 / 30.0, false),
        ];
        for (init, variance, bounded) in cases {
            let values = draw(&init);
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let got = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64;
            let largest = values.iter().fold(0.0f64, |most, x| most.max(x.abs()));
            assert!(mean.abs() < 4.0 * f64::sqrt(variance / 40_000.0), "{init:?}: mean {mean}");
            assert!((got / variance - 1.0).abs() < 0.03, "{init:?}: variance {got}");
            assert_eq!(largest <= (3.0 * variance).sqrt() * 1.000_001, bounded, "{init:?}: {largest}");
        }
    }

    #[test]
    fn constant_and_given_values_are_used_and_their_number_is_checked() {
        let mut stream = Stream::new(9, Purpose::Weights, 0);
        let mut values = |init: Init| init.values("fc.bias", 2, [1, 1], &mut stream);
        assert_eq!(values(Init::Zeros).unwrap(), [0.0; 2]);
        assert_eq!(values(Init::Ones).unwrap(), [1.0; 2]);
        assert_eq!(values(Init::Constant(0.25)).unwrap(), [0.25; 2]);
        assert_eq!(values(Init::Given(vec![3.0, -4.0])).unwrap(), [3.0, -4.0]);
        let error = values(Init::Given(vec![3.0])).unwrap_err();
        assert!(matches!(error, Error::ShapeMismatch { .. }) && error.to_string().contains("fc.bias"));
    }
}
