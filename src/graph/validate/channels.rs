//! Operations along the last axis: products, joined and taken out parts.

use super::{Operands, ResultInfo, result};
use crate::error::{Error, Result};

/// Validates `a [.., c]` and factors `b`, `[c]` or with a batch axis `[n, c]`.
pub(super) fn mul(o: &Operands) -> Result<Vec<ResultInfo>> {
    o.count(2)?;
    let (a, b) = (o.float(0)?, o.float(1)?);
    let c = a.shape.last();
    if b.batched {
        o.batched(0)?;
        o.shape(1, &[None, Some(c)])?;
    } else {
        o.shape(1, &[Some(c)])?;
    }
    if !in_rows(o, 0) {
        return Err(Error::shape(o.operand(0), "[n, .., channels]", &a.shape));
    }
    Ok(vec![result(a.shape.extents(), a.batched)?])
}

/// Validates `a, b` of the same extents except for the last.
pub(super) fn concat(o: &Operands) -> Result<Vec<ResultInfo>> {
    o.count(2)?;
    let (a, b) = (o.float(0)?, o.float(1)?);
    let [left, right] = [a, b].map(|value| value.shape.extents().split_last());
    match (left, right) {
        (Some((c, left)), Some((d, right))) if left == right && a.batched == b.batched && in_rows(o, 0) => {
            let channels = c.saturating_add(*d);
            Ok(vec![result([left, &[channels]].concat(), a.batched)?])
        }
        _ => {
            let expected = format!("the extents of {} {} before the last", a.name, a.shape);
            Err(Error::shape(o.operand(1), expected, &b.shape))
        }
    }
}

/// Validates `x` with the channels from `begin` to `begin + channels`.
pub(super) fn slice(o: &Operands, begin: usize, channels: usize) -> Result<Vec<ResultInfo>> {
    o.count(1)?;
    let x = o.float(0)?;
    let (end, available) = (begin.saturating_add(channels), x.shape.last());
    if channels == 0 || end > available || !in_rows(o, 0) {
        let expected = format!("1 or more of {available} channels in an axis that is not the batch");
        return Err(Error::argument(o.label, expected, format!("{begin} to {end}")));
    }
    Ok(vec![result(with_channels(x.shape.extents(), channels), x.batched)?])
}

/// Validates `x`, which fits from `begin` on into `channels`.
pub(super) fn pad(o: &Operands, begin: usize, channels: usize) -> Result<Vec<ResultInfo>> {
    o.count(1)?;
    let x = o.float(0)?;
    let end = begin.saturating_add(x.shape.last());
    if end > channels || !in_rows(o, 0) {
        let expected = format!("{end} channels or more, in an axis that is not the batch");
        return Err(Error::argument(o.label, expected, channels));
    }
    Ok(vec![result(with_channels(x.shape.extents(), channels), x.batched)?])
}

/// Whether the last axis of the operand is not the batch.
fn in_rows(o: &Operands, index: usize) -> bool {
    let value = o.values[index];
    !value.batched || value.shape.extents().len() > 1
}

fn with_channels(extents: &[usize], channels: usize) -> Vec<usize> {
    let mut extents = extents.to_vec();
    if let Some(last) = extents.last_mut() {
        *last = channels;
    }
    extents
}
