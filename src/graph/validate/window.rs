//! Convolution and pooling.

use super::{Operands, ResultInfo, result};
use crate::error::{Error, Result};
use crate::graph::{Conv2d, DType, Pool2d, Resample2d};
use crate::shape::WindowGeometry;

/// Validates the geometry of a window. [`crate::shape::Window::on`] returns only valid geometries, but the
/// fields are public, so a caller may construct an invalid one.
fn window(o: &Operands, w: &WindowGeometry) -> Result<()> {
    let in_range = |n: &usize| *n > 0 && *n <= 1 << 20;
    let sizes = [w.kernel, w.stride, w.dilation, w.input].iter().flatten().all(in_range);
    if !sizes || w.pad_begin.iter().any(|&pad| pad > 1 << 20) {
        let got = format!(
            "input {:?}, kernel {:?}, stride {:?}, dilation {:?}, padding {:?}",
            w.input, w.kernel, w.stride, w.dilation, w.pad_begin
        );
        return Err(Error::argument(o.label, "extents from 1 to 1,048,576 and padding up to that", got));
    }
    // The last window may extend into the padding at the end, whose size is not stored in the geometry but is
    // at most 2^20.
    let last_begin = |axis: usize| w.output[axis].saturating_sub(1).saturating_mul(w.stride[axis]);
    let fits =
        |axis: usize| w.output[axis] > 0 && last_begin(axis) <= w.pad_begin[axis] + w.input[axis] + (1 << 20);
    if fits(0) && fits(1) {
        return Ok(());
    }
    let expected = "outputs whose windows begin inside the padded input";
    Err(Error::argument(o.label, expected, format!("{:?}", w.output)))
}

fn conv(o: &Operands, c: &Conv2d) -> Result<()> {
    window(o, &c.window)?;
    if c.groups == 0 || !c.c_in.is_multiple_of(c.groups) || !c.c_out.is_multiple_of(c.groups) {
        let got = format!("{} groups for {} input and {} output channels", c.groups, c.c_in, c.c_out);
        return Err(Error::argument(o.label, "groups that divide the input and the output channels", got));
    }
    Ok(())
}

fn conv_input(o: &Operands, index: usize, c: &Conv2d) -> Result<()> {
    o.float(index)?;
    o.batched(index)?;
    o.shape(index, &[None, Some(c.window.input[0]), Some(c.window.input[1]), Some(c.c_in)])
}

fn conv_output_grad(o: &Operands, index: usize, c: &Conv2d) -> Result<()> {
    o.float(index)?;
    o.batched(index)?;
    o.shape(index, &[None, Some(c.window.output[0]), Some(c.window.output[1]), Some(c.c_out)])
}

fn conv_kernel(o: &Operands, index: usize, c: &Conv2d) -> Result<()> {
    o.float(index)?;
    o.unbatched(index)?;
    o.shape(index, &c.kernel_shape().map(Some))
}

/// Validates the operands `x [n, h, w, c_in], kernel` of a convolution.
pub(super) fn conv2d(o: &Operands, c: &Conv2d) -> Result<Vec<ResultInfo>> {
    o.count(2)?;
    conv(o, c)?;
    conv_input(o, 0, c)?;
    conv_kernel(o, 1, c)?;
    let (x, [oh, ow]) = (o.values[0], c.window.output);
    Ok(vec![result([x.shape.extents()[0], oh, ow, c.c_out], x.batched)?])
}

/// Validates the operands `dy [n, oh, ow, c_out], kernel` of an input gradient.
pub(super) fn conv2d_grad_input(o: &Operands, c: &Conv2d) -> Result<Vec<ResultInfo>> {
    o.count(2)?;
    conv(o, c)?;
    conv_output_grad(o, 0, c)?;
    conv_kernel(o, 1, c)?;
    let (dy, [h, w]) = (o.values[0], c.window.input);
    Ok(vec![result([dy.shape.extents()[0], h, w, c.c_in], dy.batched)?])
}

/// Validates the operands `x [n, h, w, c_in], dy [n, oh, ow, c_out]` of a kernel gradient.
pub(super) fn conv2d_grad_kernel(o: &Operands, c: &Conv2d) -> Result<Vec<ResultInfo>> {
    o.count(2)?;
    conv(o, c)?;
    conv_input(o, 0, c)?;
    conv_output_grad(o, 1, c)?;
    o.same_rows(0, 1)?;
    Ok(vec![result(c.kernel_shape(), false)?])
}

/// Validates the operand `x [n, h, w, c]` of a max-pool.
pub(super) fn max_pool2d(o: &Operands, p: &Pool2d) -> Result<Vec<ResultInfo>> {
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

/// Validates the operands `position, dy` (both `[n, oh, ow, c]`) of the gradient of a max-pool.
pub(super) fn max_pool2d_grad(o: &Operands, p: &Pool2d) -> Result<Vec<ResultInfo>> {
    o.count(2)?;
    window(o, &p.window)?;
    o.of(0, DType::U32)?;
    o.batched(0)?;
    let dy = o.float(1)?;
    let ([h, w], [oh, ow]) = (p.window.input, p.window.output);
    o.shape(0, &[None, Some(oh), Some(ow), Some(p.channels)])?;
    o.same_shape(0, 1)?;
    Ok(vec![result([dy.shape.extents()[0], h, w, p.channels], dy.batched)?])
}

pub(super) fn avg_pool2d(o: &Operands, p: &Pool2d) -> Result<Vec<ResultInfo>> {
    avg_pool_linear(o, p, p.window.input, p.window.output)
}

pub(super) fn avg_pool2d_grad(o: &Operands, p: &Pool2d) -> Result<Vec<ResultInfo>> {
    avg_pool_linear(o, p, p.window.output, p.window.input)
}

/// Validates average pooling or its gradient, from `[n, from.., c]` to `[n, to.., c]`.
fn avg_pool_linear(o: &Operands, p: &Pool2d, from: [usize; 2], to: [usize; 2]) -> Result<Vec<ResultInfo>> {
    o.count(1)?;
    window(o, &p.window)?;
    let x = o.float(0)?;
    o.batched(0)?;
    o.shape(0, &[None, Some(from[0]), Some(from[1]), Some(p.channels)])?;
    Ok(vec![result([x.shape.extents()[0], to[0], to[1], p.channels], x.batched)?])
}

/// Validates the operand `x [n, h, w, c]` of a resampling.
pub(super) fn resample2d(o: &Operands, r: &Resample2d) -> Result<Vec<ResultInfo>> {
    o.count(1)?;
    for axis in &r.axes {
        axis.check(o.label)?;
    }
    let x = o.float(0)?;
    o.batched(0)?;
    let ([h, w], [oh, ow]) = (r.from(), r.to());
    o.shape(0, &[None, Some(h), Some(w), Some(r.channels)])?;
    Ok(vec![result([x.shape.extents()[0], oh, ow, r.channels], x.batched)?])
}

/// Validates `x [n, h, w, c]`; the result is `[n, c]`.
pub(super) fn global_avg_pool(o: &Operands) -> Result<Vec<ResultInfo>> {
    o.count(1)?;
    let x = o.float(0)?;
    o.batched(0)?;
    let [n, _, _, channels] = x.shape.nhwc(&o.operand(0))?;
    Ok(vec![result([n, channels], true)?])
}

/// Validates `dy [n, c]`; the result is `[n, h, w, c]`.
pub(super) fn global_avg_pool_grad(o: &Operands, [h, w]: [usize; 2]) -> Result<Vec<ResultInfo>> {
    o.count(1)?;
    let dy = o.float(0)?;
    o.batched(0)?;
    let [n, channels] = dy.shape.matrix(o.label)?;
    Ok(vec![result([n, h, w, channels], true)?])
}
