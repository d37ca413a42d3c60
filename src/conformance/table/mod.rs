//! The op table: all cases, one file per operation family.

mod build;
mod conv;
mod elementwise;
mod large;
mod loss;
mod matmul;
mod norm;
mod pool;
mod random;
mod update;

pub use large::large_cases;
pub use random::{network_cases, random_cases};

use super::case::Case;
use crate::error::Result;

/// All cases of the op table. They contain every operation of [`Op`](crate::graph::Op) except for the running
/// statistics.
///
/// # Errors
/// Those of window geometries; none occurs, because the table is fixed.
pub fn cases() -> Result<Vec<Case>> {
    let mut all = conv::cases()?;
    all.extend(matmul::cases());
    all.extend(elementwise::cases());
    all.extend(pool::cases()?);
    all.extend(norm::cases());
    all.extend(loss::cases());
    all.extend(update::cases());
    Ok(all)
}
