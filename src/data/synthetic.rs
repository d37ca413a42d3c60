//! Random data sets of any size, for benchmarks and tests.

use super::Dataset;
use crate::error::Result;
use crate::host_memory;
use crate::rng::{Purpose, Stream};
use crate::shape::Shape;

/// Generates `rows` random examples. Equal arguments give equal data.
///
/// Features are normal with mean 0 and variance 1. Labels are uniform in `0..classes` and independent of the
/// features, so that a network can only memorize them. `example_shape` is the shape of one example, `[h, w,
/// c]` for images.
///
/// # Errors
/// [`Error::InvalidArgument`](crate::error::Error::InvalidArgument) if `rows`, `classes` or an extent is 0,
/// or if all features together exceed [`MAX_ELEMENTS`](crate::shape::MAX_ELEMENTS);
/// [`Error::HostMemory`](crate::error::Error::HostMemory) if there is not enough host memory.
pub fn synthetic(
    name: impl Into<String>,
    example_shape: impl Into<Vec<usize>>,
    classes: usize,
    rows: usize,
    seed: u64,
) -> Result<Dataset> {
    let example_shape = example_shape.into();
    // The total size is validated before allocation, so that invalid arguments cannot exhaust memory.
    let all = Shape::new([&[rows], example_shape.as_slice()].concat())?;
    let mut draw = Stream::new(seed, Purpose::Data, 0);
    let name = name.into();
    let mut features = host_memory::reserve(all.elements(), &name)?;
    features.extend((0..all.elements()).map(|_| draw.normal()));
    let mut draw = Stream::new(seed, Purpose::Data, 1);
    let bound = classes.min(u32::MAX as usize);
    let labels = (0..rows).map(|_| draw.below(bound) as u32).collect();
    Dataset::new(name, example_shape, features, labels, classes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn equal_seeds_generate_equal_data() {
        let make = |seed| synthetic("noise", [4, 4, 3], 5, 20, seed).unwrap();
        assert_eq!(make(1), make(1));
        assert_ne!(make(1).features(), make(2).features());
        assert_ne!(make(1).labels(), make(2).labels());
        assert_eq!(make(1).example_shape(), [4, 4, 3]);
    }

    #[test]
    fn labels_are_uniform_and_features_have_mean_zero() {
        let data = synthetic("noise", [16], 10, 1_000, 7).unwrap();
        let mut counts = [0; 10];
        data.labels().iter().for_each(|&label| counts[label as usize] += 1);
        assert!(counts.iter().all(|&n| (60..150).contains(&n)), "{counts:?}");
        let mean = data.features().iter().sum::<f32>() / 16_000.0;
        assert!(mean.abs() < 0.03, "{mean}");
    }

    #[test]
    fn invalid_sizes_are_errors() {
        let make = |shape: &[usize], classes, rows| synthetic("noise", shape, classes, rows, 0);
        assert!(matches!(make(&[2], 2, 0), Err(Error::InvalidArgument { .. })));
        assert!(matches!(make(&[2], 0, 2), Err(Error::InvalidArgument { .. })));
        assert!(matches!(make(&[0], 2, 2), Err(Error::InvalidArgument { .. })));
        assert!(matches!(make(&[usize::MAX, 2], 2, 2), Err(Error::InvalidArgument { .. })));
        assert!(matches!(make(&[1 << 20], 2, usize::MAX), Err(Error::InvalidArgument { .. })));
        assert!(make(&[1], usize::MAX, 3).is_ok());
    }
}
