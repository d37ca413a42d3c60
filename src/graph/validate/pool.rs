//! Pooling over whole images.

use super::{Operands, ResultInfo, result};
use crate::error::{Error, Result};

pub(super) fn global_avg_pool(o: &Operands) -> Result<Vec<ResultInfo>> {
    o.count(1)?;
    let x = o.float(0)?;
    o.batched(0)?;
    let &[n, _, _, channels] = x.shape.extents() else {
        return Err(Error::shape(format!("{}: {}", o.label, x.name), "[n, h, w, channels]", &x.shape));
    };
    Ok(vec![result([n, channels], true)?])
}

pub(super) fn global_avg_pool_grad(o: &Operands, [h, w]: [usize; 2]) -> Result<Vec<ResultInfo>> {
    o.count(1)?;
    let dy = o.float(0)?;
    o.batched(0)?;
    let [n, channels] = dy.shape.matrix(o.label)?;
    Ok(vec![result([n, h, w, channels], true)?])
}
