//! Dropout.

use super::{Operands, ResultInfo, result};
use crate::error::{Error, Result};
use crate::graph::Dropout;

pub(super) fn dropout(o: &Operands, dropout: &Dropout) -> Result<Vec<ResultInfo>> {
    o.count(1)?;
    let x = o.float(0)?;
    if !(0.0..1.0).contains(&dropout.rate) {
        return Err(Error::argument(o.label, "a rate from 0 to below 1", dropout.rate));
    }
    Ok(vec![result(x.shape.extents(), x.batched)?])
}
