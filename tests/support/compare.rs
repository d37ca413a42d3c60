//! Functions that compare tensors. A test at the end shows that each fails on one wrong element.

/// Converts f32 to f64.
pub fn widen(data: &[f32]) -> Vec<f64> {
    data.iter().copied().map(f64::from).collect()
}

/// Returns the largest of some errors, 0 without any; NaN if one is NaN, which `f64::max` would leave out.
pub fn largest(errors: impl IntoIterator<Item = f64>) -> f64 {
    errors.into_iter().fold(0.0, |most: f64, error| if error.is_nan() || error > most { error } else { most })
}

/// Returns the largest difference as a fraction of the largest magnitude of `want`; NaN if an element is NaN.
pub fn share_of_largest(got: &[f32], want: &[f32]) -> f64 {
    assert_eq!(got.len(), want.len(), "number of elements");
    let difference = |(got, want): (&f32, &f32)| (f64::from(*got) - f64::from(*want)).abs();
    largest(got.iter().zip(want).map(difference)) / largest(want.iter().map(|x| f64::from(x.abs())))
}

/// Returns the relative L2 error `||got - want|| / ||want||` of a tensor; `||got||` if `want` is all zero.
pub fn relative_l2(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len(), "number of elements");
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    let scale = norm(&mut want.iter().copied());
    let difference = norm(&mut got.iter().zip(want).map(|(g, w)| g - w));
    if scale == 0.0 { difference } else { difference / scale }
}

/// Checks that the relative L2 error is at most `tolerance`, and returns it.
///
/// # Errors
/// Names the error and the element with the largest difference; NaN fails.
pub fn check_relative(what: &str, got: &[f64], want: &[f64], tolerance: f64) -> Result<f64, String> {
    if got.len() != want.len() {
        return Err(format!("{what}: expected {} elements, got {}", want.len(), got.len()));
    }
    let error = relative_l2(got, want);
    // A comparison with NaN is false, so NaN fails.
    if error <= tolerance {
        return Ok(error);
    }
    // Equal infinities count as no difference, and NaN as the largest difference.
    let difference = |i: usize| if got[i] == want[i] { 0.0 } else { (got[i] - want[i]).abs() };
    let rank = |i: usize| if difference(i).is_nan() { f64::INFINITY } else { difference(i) };
    let worst = (0..got.len()).max_by(|&a, &b| rank(a).total_cmp(&rank(b))).unwrap_or(0);
    Err(format!(
        "{what}: relative L2 error {error:.3e}, expected at most {tolerance:.0e}; worst at element {worst} of {}: \
         got {:e}, expected {:e}",
        got.len(),
        got[worst],
        want[worst]
    ))
}

/// Panics if [`check_relative`] fails.
pub fn assert_relative(what: &str, got: &[f64], want: &[f64], tolerance: f64) -> f64 {
    check_relative(what, got, want, tolerance).unwrap_or_else(|message| panic!("{message}"))
}

/// Checks that all elements are equal.
///
/// # Errors
/// Names the first element that differs; NaN differs from everything.
pub fn check_equal(what: &str, got: &[f64], want: &[f64]) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{what}: expected {} elements, got {}", want.len(), got.len()));
    }
    match got.iter().zip(want).position(|(g, w)| g != w) {
        None => Ok(()),
        Some(i) => Err(format!("{what}: element {i}: expected {:e}, got {:e}", want[i], got[i])),
    }
}

/// Panics if [`check_equal`] fails.
pub fn assert_equal(what: &str, got: &[f64], want: &[f64]) {
    check_equal(what, got, want).unwrap_or_else(|message| panic!("{message}"));
}

#[test]
fn comparators_fail_on_one_wrong_element() {
    let want: Vec<f64> = (0..1000).map(|i| f64::from(i).sin()).collect();
    assert_eq!(check_relative("same", &want, &want, 0.0), Ok(0.0));
    for (i, wrong) in [(0, 1e-3), (499, want[499] + 1e-3), (999, f64::NAN), (7, f64::INFINITY)] {
        let mut got = want.clone();
        got[i] = wrong;
        let message = check_relative("altered", &got, &want, 1e-5).unwrap_err();
        assert!(message.contains(&format!("worst at element {i} of")), "{message}");
        assert!(check_equal("altered", &got, &want).unwrap_err().contains(&format!("element {i}:")));
    }
    // A tensor with a missing element fails, whatever the tolerance.
    assert!(check_relative("short", &want[1..], &want, 1.0).is_err());
    assert!(check_equal("short", &want[1..], &want).is_err());
    let want = [1.0, -4.0, 2.0];
    assert_eq!(share_of_largest(&want, &want), 0.0);
    assert_eq!(share_of_largest(&[1.0, -4.0, 1.0], &want), 0.25);
    for at in 0..3 {
        let mut got = want;
        got[at] = f32::NAN;
        assert!(share_of_largest(&got, &want).is_nan() && share_of_largest(&want, &got).is_nan());
    }
    assert!(largest([1.0, f64::NAN, 2.0]).is_nan() && largest([1.0, 3.0, 2.0]) == 3.0);
    // If all expected elements are 0, the error is absolute.
    assert!(check_relative("zeros", &[0.0, 1e-5], &[0.0, 0.0], 1e-6).is_err());
    assert!(check_relative("zeros", &[0.0, 1e-7], &[0.0, 0.0], 1e-6).is_ok());
}
