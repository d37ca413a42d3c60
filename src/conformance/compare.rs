//! Compares results with the reference, each element within its own bound.

/// Half a unit in the last place (ulp) of an f32, which is the relative error of one correctly rounded
/// operation.
pub(super) const HALF_ULP: f64 = 1.0 / (1 << 24) as f64;

/// The smallest normal f32: drivers may flush smaller results to 0.
pub(super) const MIN_NORMAL: f64 = f32::MIN_POSITIVE as f64;

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
    let fraction = |i: usize| {
        let (g, w) = (got[i], want[i]);
        if g == w || (g.is_nan() && w.is_nan()) {
            return 0.0;
        }
        let error = (g - w).abs();
        if error.is_finite() && bound[i].is_finite() && bound[i] > 0.0 {
            error / bound[i]
        } else {
            f64::INFINITY
        }
    };
    let mut worst = (0.0, 0);
    let mut wrong = 0usize;
    for i in 0..got.len() {
        let f = fraction(i);
        wrong += usize::from(f > 1.0);
        if f > worst.0 {
            worst = (f, i);
        }
    }
    if wrong == 0 {
        return Ok(worst.0);
    }
    let (fraction, index) = worst;
    Err(format!(
        "{what}: {wrong} of {} elements are wrong; worst at {index}: expected {:e}, got {:e}, {fraction:.3} times the bound {:.1e}",
        got.len(),
        want[index],
        got[index],
        bound[index]
    ))
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
