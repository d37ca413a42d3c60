//! Losses, their gradients and their mean.

use super::{Operands, ResultInfo, result};
use crate::error::{Error, Result};
use crate::graph::{DType, ElementLoss};

/// Validates logits `[n, classes]` (operand `first`), labels `[n]` and optional class weights `[classes]`;
/// returns `[n, classes]`.
fn labelled(o: &Operands, first: usize) -> Result<[usize; 2]> {
    if o.values.len() != first + 3 {
        o.count(first + 2)?;
    }
    let logits = o.float(first)?;
    o.batched(first)?;
    let [n, classes] = logits.shape.matrix(o.label)?;
    o.of(first + 1, DType::U32)?;
    o.shape(first + 1, &[Some(n)])?;
    o.same_rows(first, first + 1)?;
    if o.values.len() == first + 3 {
        o.float(first + 2)?;
        o.shape(first + 2, &[Some(classes)])?;
        o.unbatched(first + 2)?;
    }
    Ok([n, classes])
}

pub(super) fn cross_entropy(o: &Operands, smoothing: f64, gradient: bool) -> Result<Vec<ResultInfo>> {
    if !(0.0..=1.0).contains(&smoothing) {
        return Err(Error::argument(o.label, "a label smoothing from 0 to 1", smoothing));
    }
    let [n, classes] = labelled(o, 0)?;
    Ok(vec![result(if gradient { vec![n, classes] } else { vec![n] }, true)?])
}

pub(super) fn squared_error(o: &Operands, gradient: bool) -> Result<Vec<ResultInfo>> {
    o.count(2)?;
    let y = o.float(0)?;
    o.batched(0)?;
    o.float(1)?;
    o.same_shape(0, 1)?;
    let extents = y.shape.extents();
    Ok(vec![result(if gradient { extents } else { &extents[..1] }, true)?])
}

pub(super) fn element_loss(o: &Operands, of: &ElementLoss, gradient: bool) -> Result<Vec<ResultInfo>> {
    let positive = |what: &str, value: f64| {
        let normal = value >= f64::from(f32::MIN_POSITIVE) && value <= f64::from(f32::MAX);
        if normal {
            Ok(())
        } else {
            Err(Error::argument(o.label, format!("a positive normal {what}"), value))
        }
    };
    match *of {
        ElementLoss::Huber { threshold, slope } => {
            positive("slope", slope)?;
            if threshold != 0.0 {
                positive("threshold, or 0", threshold)?;
                positive("quotient of slope and threshold", slope / threshold)?;
            }
        }
        ElementLoss::BinaryCrossEntropy { positive_weight } => positive("positive weight", positive_weight)?,
    }
    squared_error(o, gradient)
}

pub(super) fn soft_cross_entropy(o: &Operands, gradient: bool) -> Result<Vec<ResultInfo>> {
    o.values.first().map_or(Ok([0; 2]), |logits| logits.shape.matrix(o.label))?;
    squared_error(o, gradient)
}

pub(super) fn metrics(o: &Operands) -> Result<Vec<ResultInfo>> {
    if o.values.len() != 1 {
        labelled(o, 1)?;
        o.same_rows(0, 1)?;
    }
    o.float(0)?;
    o.batched(0)?;
    o.shape(0, &[None])?;
    Ok(vec![result([1], false)?])
}
