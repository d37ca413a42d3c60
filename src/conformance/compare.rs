//! Compares results with the reference, each element within its own bound.

use std::fmt;

/// Half a unit in the last place (ulp) of an f32, which is the relative error of one correctly rounded
/// operation.
pub(super) const HALF_ULP: f64 = 1.0 / (1 << 24) as f64;

/// The smallest normal f32: drivers may flush smaller results to 0.
pub(super) const MIN_NORMAL: f64 = f32::MIN_POSITIVE as f64;

/// The elements of one result that are beyond their bounds, and the worst of them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Mismatch {
    /// The result, and the rows of the batch.
    pub what: String,
    /// The number of compared elements.
    pub elements: usize,
    /// The number of elements beyond their bounds.
    pub wrong: usize,
    /// The index of the worst element, row-major.
    pub index: usize,
    /// Its expected value.
    pub expected: f64,
    /// Its value on the device.
    pub got: f64,
    /// Its bound, as an absolute error.
    pub bound: f64,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { what, elements, wrong, index, expected, got, bound } = self;
        let times = fraction(*got, *expected, *bound);
        write!(
            f,
            "{what}: {wrong} of {elements} elements are wrong; worst at {index}: expected {expected:e}, got {got:e}, \
             {times:.3} times the bound {bound:.1e}"
        )
    }
}

/// The error of an element as a fraction of its bound: 0 if it is equal, infinity if it is NaN, infinite or the bound
/// is 0.
fn fraction(got: f64, want: f64, bound: f64) -> f64 {
    if got == want || (got.is_nan() && want.is_nan()) {
        return 0.0;
    }
    let error = (got - want).abs();
    if error.is_finite() && bound.is_finite() && bound > 0.0 { error / bound } else { f64::INFINITY }
}

/// Compares results with expected values and returns the largest error as a fraction of its element's bound,
/// 0 if all are equal. A NaN equals any NaN, and an infinity only itself.
///
/// # Errors
/// A message with the number of elements beyond their bounds and the worst of them, or with the lengths if
/// they differ.
pub fn compare(what: &str, got: &[f64], want: &[f64], bound: &[f64]) -> std::result::Result<f64, String> {
    if got.len() != want.len() || got.len() != bound.len() {
        return Err(format!(
            "{what}: expected {} elements and as many bounds, got {} elements and {} bounds",
            want.len(),
            got.len(),
            bound.len()
        ));
    }
    compare_elements(what, got, want, bound).map_err(|mismatch| mismatch.to_string())
}

/// [`compare`] for slices of equal lengths.
pub(super) fn compare_elements(
    what: &str,
    got: &[f64],
    want: &[f64],
    bound: &[f64],
) -> std::result::Result<f64, Mismatch> {
    let mut worst = (0.0, 0);
    let mut wrong = 0usize;
    for i in 0..got.len() {
        let f = fraction(got[i], want[i], bound[i]);
        wrong += usize::from(f > 1.0);
        if f > worst.0 {
            worst = (f, i);
        }
    }
    let (fraction, index) = worst;
    if wrong == 0 {
        return Ok(fraction);
    }
    Err(Mismatch {
        what: what.to_owned(),
        elements: got.len(),
        wrong,
        index,
        expected: want[index],
        got: got[index],
        bound: bound[index],
    })
}

/// Compares the signs of zeros, which [`compare`] ignores: if -0.0 is expected, the result must be -0.0.
pub(super) fn compare_negative_zeros(
    what: &str,
    got: &[f64],
    want: &[f64],
) -> std::result::Result<(), String> {
    let is_negative_zero = |x: f64| x == 0.0 && x.is_sign_negative();
    match (0..want.len()).find(|&i| is_negative_zero(want[i]) && !is_negative_zero(got[i])) {
        Some(i) => Err(format!("{what}: element {i}: expected -0.0, got {:?}", got[i])),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positive_zero_is_not_negative_zero() {
        assert!(compare_negative_zeros("x", &[0.0, -0.0, f64::NAN], &[0.0, -0.0, f64::NAN]).is_ok());
        let wrong = compare_negative_zeros("x", &[0.0, 0.0], &[0.0, -0.0]).unwrap_err();
        assert_eq!(wrong, "x: element 1: expected -0.0, got 0.0");
    }
}
