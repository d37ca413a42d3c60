//! Division of examples into two parts, class by class.

use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};
use std::collections::BTreeMap;

/// Returns the indices of the examples that stay and of those that are held out, each in ascending order: of each
/// class the nearest number to `fraction`, at least 1 and not all, at random by `seed`. A class with one example stays.
///
/// # Errors
/// [`Error::InvalidArgument`] unless `fraction` is between 0 and 1; [`Error::Data`] if no class has two examples.
pub(super) fn rows(name: &str, labels: &[u32], fraction: f64, seed: u64) -> Result<[Vec<usize>; 2]> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(Error::argument(format!("split of {name}"), "a fraction between 0 and 1", fraction));
    }
    let mut classes: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (row, &label) in labels.iter().enumerate() {
        classes.entry(label).or_default().push(row);
    }
    let (mut kept, mut held) = (Vec::new(), Vec::new());
    for (class, mut rows) in classes {
        Stream::new(seed, Purpose::Split, class.into()).shuffle(&mut rows);
        let most = rows.len().saturating_sub(1);
        let count = ((rows.len() as f64 * fraction).round() as usize).max(1).min(most);
        held.extend(rows.drain(..count));
        kept.extend(rows);
    }
    if held.is_empty() {
        let why = "expected a class with 2 examples or more to divide, got none".to_owned();
        return Err(Error::Data { path: name.into(), place: "split".to_owned(), why, source: None });
    }
    kept.sort_unstable();
    held.sort_unstable();
    Ok([kept, held])
}
