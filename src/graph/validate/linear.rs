//! Matrix multiplication and bias.

use super::{Operands, ResultInfo, result};
use crate::error::{Error, Result};
use crate::graph::Value;

/// Validates the operands `a, b` of `[m, k] x [k, n]`; each may be stored transposed.
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
            o.operand(1),
            format!("{k} along the reduction axis, as in {} {}", a.name, a.shape),
            &b.shape,
        ));
    }
    // The batch axis may be the rows `m` of `a` and of the result, or the reduction axis `k` of both
    // operands.
    let batched = a.batched && !transpose_a;
    let summed = a.batched && transpose_a;
    if b.batched != summed || (b.batched && transpose_b) {
        let axis = |value: &Value, transposed: bool| match (value.batched, transposed) {
            (false, _) => "unbatched",
            (true, false) => "batched",
            (true, true) => "batched and transposed",
        };
        return Err(Error::argument(
            o.label,
            "the batch as the rows of the result, or as the reduction axis of both operands",
            format!("{} {}, {} {}", a.name, axis(a, transpose_a), b.name, axis(b, transpose_b)),
        ));
    }
    Ok(vec![result([m, n], batched)?])
}

/// Checks that the last axis of `x` is a channel axis, not the batch.
pub(super) fn channels(o: &Operands, x: &Value) -> Result<()> {
    if x.batched && x.shape.rank() < 2 {
        return Err(Error::shape(format!("{}: {}", o.label, x.name), "[n, .., channels]", &x.shape));
    }
    Ok(())
}

/// Validates `x [.., c], bias [c]`.
pub(super) fn bias_add(o: &Operands) -> Result<Vec<ResultInfo>> {
    o.count(2)?;
    let x = o.float(0)?;
    o.float(1)?;
    o.shape(1, &[Some(x.shape.last())])?;
    channels(o, x)?;
    o.unbatched(1)?;
    Ok(vec![result(x.shape.extents(), x.batched)?])
}

/// Validates `dy [.., c]`; the result is `[c]`.
pub(super) fn bias_grad(o: &Operands) -> Result<Vec<ResultInfo>> {
    o.count(1)?;
    let dy = o.float(0)?;
    channels(o, dy)?;
    Ok(vec![result([dy.shape.last()], false)?])
}
