//! Allocations of host memory whose size is given by a file or by a caller: too little memory is an error, not
//! an abort.

use crate::error::{Error, Result, printable};
use std::fmt::Display;

/// Returns an empty vector with capacity for this many elements; `what` names it in the error.
///
/// # Errors
/// [`Error::HostMemory`] if there is not enough host memory.
pub(crate) fn reserve<T>(elements: usize, what: impl Display) -> Result<Vec<T>> {
    let mut vector = Vec::new();
    extend(&mut vector, elements, what)?;
    Ok(vector)
}

/// Reserves capacity for this many more elements, as [`reserve`] does.
///
/// # Errors
/// As [`reserve`].
pub(crate) fn extend<T>(vector: &mut Vec<T>, elements: usize, what: impl Display) -> Result<()> {
    vector.try_reserve_exact(elements).map_err(|_| {
        let bytes = (elements as u64).saturating_mul(size_of::<T>() as u64);
        Error::HostMemory { what: printable(&what.to_string()), bytes }
    })
}
