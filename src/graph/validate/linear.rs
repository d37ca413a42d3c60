//! Matrix products and bias.

use super::{Operands, ResultInfo, result};
use crate::error::{Error, Result};
use crate::graph::Value;

/// `x` of bias operations must have a last axis that is not the batch.
pub(super) fn channels(o: &Operands, x: &Value) -> Result<()> {
    if x.batched && x.shape.rank() < 2 {
        return Err(Error::shape(format!("{}: {}", o.label, x.name), "[n, .., channels]", &x.shape));
    }
    Ok(())
}

pub(super) fn matmul(o: &Operands, transpose_a: bool, transpose_b: bool) -> Result<Vec<ResultInfo>> {
    o.count(2)?;
    let (a, b) = (o.float(0)?, o.float(1)?);
    let [mut m, mut k] = a.shape.matrix(o.label)?;
    let [mut k_b, mut n] = b.shape.matrix(o.label)?;
    if transpose_a {
        (m, k) = (k, m);
    }
    if transpose_b {
        (k_b, n) = (n, k_b);
    }
    if k != k_b {
        return Err(Error::shape(
            format!("{}: {}", o.label, b.name),
            format!("{k} along the summed axis"),
            &b.shape,
        ));
    }
    // The batch may be the rows of the result, or the summed axis of both; nothing else has a meaning.
    let batched = a.batched && !transpose_a;
    let summed = a.batched && transpose_a;
    if b.batched != summed || (b.batched && transpose_b) {
        return Err(Error::argument(
            o.label,
            "the batch as rows of the result or summed over in both operands",
            "another mix",
        ));
    }
    Ok(vec![result([m, n], batched)?])
}
