//! Activations and softmax.

use super::{Operands, ResultInfo, result};
use crate::error::{Error, Result};
use crate::graph::Activation;

/// `operands`: x, or x and dy of one shape.
pub(super) fn activation(o: &Operands, activation: Activation, operands: usize) -> Result<Vec<ResultInfo>> {
    o.count(operands)?;
    let x = o.float(0)?;
    if operands == 2 {
        o.float(1)?;
        o.same_shape(0, 1)?;
    }
    match activation {
        Activation::LeakyRelu { slope } if !slope.is_finite() || slope.abs() > f64::from(f32::MAX) => {
            Err(Error::argument(o.label, "a finite slope", slope))
        }
        Activation::Clamp { limit } if !(limit > 0.0 && limit <= f64::from(f32::MAX)) => {
            Err(Error::argument(o.label, "a finite limit above 0", limit))
        }
        _ => Ok(vec![result(x.shape.extents(), x.batched)?]),
    }
}

/// `operands`: x `[n, c]`, or y and dy of that shape.
pub(super) fn softmax(o: &Operands, operands: usize) -> Result<Vec<ResultInfo>> {
    o.count(operands)?;
    let x = o.float(0)?;
    o.batched(0)?;
    x.shape.matrix(o.label)?;
    if operands == 2 {
        o.float(1)?;
        o.same_shape(0, 1)?;
    }
    Ok(vec![result(x.shape.extents(), x.batched)?])
}
