//! Convolutions and pooling.

use super::{Operands, ResultInfo, result};
use crate::error::{Error, Result};
use crate::graph::{Conv2d, DType, Pool2d, Value};
use crate::shape::WindowGeometry;

/// The fields of a geometry are public, so one may come that no [`crate::shape::Window`] made.
/// A geometry made by hand may be anything; what [`crate::shape::Window::on`] makes passes.
pub(super) fn window(o: &Operands, w: &WindowGeometry) -> Result<()> {
    let small = |n: &usize| *n > 0 && *n <= 1 << 20;
    let sizes = [w.kernel, w.stride, w.dilation, w.input].iter().flatten().all(small);
    if !sizes || w.pad_begin.iter().any(|&pad| pad > 1 << 20) {
        let got = format!(
            "input {:?}, kernel {:?}, stride {:?}, dilation {:?}, padding {:?}",
            w.input, w.kernel, w.stride, w.dilation, w.pad_begin
        );
        return Err(Error::argument(o.label, "extents from 1 to 1,048,576 and padding up to that", got));
    }
    // The last window may hang over the end by the padding there, which is not known here, but is bounded.
    let begins = |axis: usize| w.output[axis].saturating_sub(1).saturating_mul(w.stride[axis]);
    let fits =
        |axis: usize| w.output[axis] > 0 && begins(axis) <= w.pad_begin[axis] + w.input[axis] + (1 << 20);
    if fits(0) && fits(1) {
        return Ok(());
    }
    Err(Error::argument(
        o.label,
        "outputs whose windows begin on the padded input",
        format!("{:?}", w.output),
    ))
}

pub(super) fn conv(o: &Operands, c: &Conv2d) -> Result<()> {
    window(o, &c.window)?;
    if c.groups == 0 || !c.c_in.is_multiple_of(c.groups) || !c.c_out.is_multiple_of(c.groups) {
        let got = format!("{} groups for {} input and {} output channels", c.groups, c.c_in, c.c_out);
        return Err(Error::argument(o.label, "groups that divide the input and the output channels", got));
    }
    Ok(())
}

pub(super) fn conv_input(o: &Operands, index: usize, c: &Conv2d) -> Result<()> {
    o.float(index)?;
    o.batched(index)?;
    o.shape(index, &[None, Some(c.window.input[0]), Some(c.window.input[1]), Some(c.c_in)])
}

pub(super) fn conv_gradient(o: &Operands, index: usize, c: &Conv2d) -> Result<()> {
    o.float(index)?;
    o.batched(index)?;
    o.shape(index, &[None, Some(c.window.output[0]), Some(c.window.output[1]), Some(c.c_out)])
}

pub(super) fn conv_kernel(o: &Operands, index: usize, c: &Conv2d) -> Result<()> {
    o.float(index)?;
    if o.values[index].batched {
        return Err(Error::argument(o.label, "a kernel without a batch axis", &o.values[index].name));
    }
    o.shape(index, &c.kernel_shape().map(Some))
}

pub(super) fn conv_output(c: &Conv2d, x: &Value) -> [usize; 4] {
    [x.shape.extents()[0], c.window.output[0], c.window.output[1], c.c_out]
}

pub(super) fn max_pool(o: &Operands, p: &Pool2d) -> Result<Vec<ResultInfo>> {
    o.count(1)?;
    window(o, &p.window)?;
    let x = o.float(0)?;
    o.batched(0)?;
    let [h, w] = p.window.input;
    o.shape(0, &[None, Some(h), Some(w), Some(p.channels)])?;
    let extents = [x.shape.extents()[0], p.window.output[0], p.window.output[1], p.channels];
    let mut position = result(extents, x.batched)?;
    position.dtype = DType::U32;
    position.suffix = "position";
    Ok(vec![result(extents, x.batched)?, position])
}

pub(super) fn avg_pool(o: &Operands, p: &Pool2d) -> Result<Vec<ResultInfo>> {
    pooled(o, p, p.window.input, p.window.output)
}

pub(super) fn avg_pool_gradient(o: &Operands, p: &Pool2d) -> Result<Vec<ResultInfo>> {
    pooled(o, p, p.window.output, p.window.input)
}

/// From maps of one size to maps of another.
fn pooled(o: &Operands, p: &Pool2d, from: [usize; 2], to: [usize; 2]) -> Result<Vec<ResultInfo>> {
    o.count(1)?;
    window(o, &p.window)?;
    let x = o.float(0)?;
    o.batched(0)?;
    o.shape(0, &[None, Some(from[0]), Some(from[1]), Some(p.channels)])?;
    Ok(vec![result([x.shape.extents()[0], to[0], to[1], p.channels], x.batched)?])
}
