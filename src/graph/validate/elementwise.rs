//! Elementwise operations, activations, softmax and dropout: results of the shape of operand 0.

use super::{Operands, ResultInfo, result};
use crate::error::{Error, Result};
use crate::graph::{Activation, Dropout};

/// Validates that there are `operands` operands, all of type F32 and of the same shape.
pub(super) fn elementwise(o: &Operands, operands: usize) -> Result<Vec<ResultInfo>> {
    o.count(operands)?;
    let x = o.float(0)?;
    for index in 1..operands {
        o.float(index)?;
        o.same_shape(0, index)?;
    }
    Ok(vec![result(x.shape.extents(), x.batched)?])
}

pub(super) fn scale(o: &Operands, factor: f64) -> Result<Vec<ResultInfo>> {
    if factor.is_nan() || factor.abs() > f64::from(f32::MAX) {
        return Err(Error::argument(o.label, "a factor that is finite in f32", factor));
    }
    elementwise(o, 1)
}

/// Validates the operands of an activation (`x`) or of its gradient (`x, dy`).
pub(super) fn activation(o: &Operands, activation: Activation, operands: usize) -> Result<Vec<ResultInfo>> {
    let results = elementwise(o, operands)?;
    match activation {
        Activation::LeakyRelu { slope } if !slope.is_finite() || slope.abs() > f64::from(f32::MAX) => {
            Err(Error::argument(o.label, "a slope that is finite in f32", slope))
        }
        // As f32, because two limits can be equal in f32 alone.
        Activation::Clamp { min, max }
            if !((min as f32) < max as f32 && (min as f32).is_finite() && (max as f32).is_finite()) =>
        {
            let expected = "limits that are finite in f32, the second above the first";
            Err(Error::argument(o.label, expected, format!("{min} and {max}")))
        }
        Activation::InversePower { exponent } if !(exponent > 0.0 && exponent <= 16.0) => {
            Err(Error::argument(o.label, "an exponent above 0 and up to 16", exponent))
        }
        _ => Ok(results),
    }
}

/// Validates the operands of softmax (`x [n, c]`) or of its gradient (`y, dy`).
pub(super) fn softmax(o: &Operands, operands: usize) -> Result<Vec<ResultInfo>> {
    let results = elementwise(o, operands)?;
    o.batched(0)?;
    o.values[0].shape.matrix(o.label)?;
    Ok(results)
}

pub(super) fn dropout(o: &Operands, dropout: &Dropout) -> Result<Vec<ResultInfo>> {
    if !(0.0..1.0).contains(&dropout.rate) {
        return Err(Error::argument(o.label, "a rate from 0 to below 1", dropout.rate));
    }
    elementwise(o, 1)
}
