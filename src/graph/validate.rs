//! Checks an operation's operands and works out its results.

use super::{Conv2d, DType, Graph, MaxPool2d, Op, Role, Value, ValueId};
use crate::error::{Error, Result};
use crate::shape::{Shape, WindowGeometry};

pub(super) struct ResultInfo {
    pub shape: Shape,
    pub dtype: DType,
    pub batched: bool,
    pub suffix: &'static str,
}

fn result(extents: impl Into<Vec<usize>>, batched: bool) -> Result<ResultInfo> {
    Ok(ResultInfo { shape: Shape::new(extents)?, dtype: DType::F32, batched, suffix: "" })
}

struct Operands<'a> {
    label: &'a str,
    values: Vec<&'a Value>,
}

impl<'a> Operands<'a> {
    fn count(&self, n: usize) -> Result<()> {
        if self.values.len() == n {
            return Ok(());
        }
        Err(Error::argument(self.label, format!("{n} operands"), self.values.len()))
    }

    fn float(&self, index: usize) -> Result<&'a Value> {
        self.of(index, DType::F32)
    }

    fn of(&self, index: usize, dtype: DType) -> Result<&'a Value> {
        let value = self.values[index];
        if value.dtype == dtype {
            return Ok(value);
        }
        Err(Error::argument(
            format!("{}: {}", self.label, value.name),
            format!("{dtype:?}"),
            format!("{:?}", value.dtype),
        ))
    }

    /// Operand `index` must have the batch as its first axis: its kernels work example by example.
    fn batched(&self, index: usize) -> Result<()> {
        if self.values[index].batched {
            return Ok(());
        }
        let name = &self.values[index].name;
        Err(Error::argument(
            format!("{}: {name}", self.label),
            "a value with a batch axis (Graph::batch_input)",
            "one without",
        ))
    }

    /// Operand `index` must have these extents; a leading `None` stands for any batch.
    fn shape(&self, index: usize, expected: &[Option<usize>]) -> Result<()> {
        let value = self.values[index];
        let extents = value.shape.extents();
        let fits = extents.len() == expected.len()
            && extents.iter().zip(expected).all(|(a, e)| e.is_none_or(|e| e == *a));
        if fits {
            return Ok(());
        }
        let words: Vec<_> = expected.iter().map(|e| e.map_or("n".to_owned(), |e| e.to_string())).collect();
        Err(Error::shape(
            format!("{}: {}", self.label, value.name),
            format!("[{}]", words.join(", ")),
            &value.shape,
        ))
    }

    /// Two operands must have the same first extent and agree on whether it is the batch.
    fn same_rows(&self, a: usize, b: usize) -> Result<()> {
        let (va, vb) = (self.values[a], self.values[b]);
        if va.shape.extents().first() == vb.shape.extents().first() && va.batched == vb.batched {
            return Ok(());
        }
        Err(Error::shape(self.label, format!("as many rows as {} {}", va.name, va.shape), &vb.shape))
    }

    fn same_shape(&self, a: usize, b: usize) -> Result<()> {
        if self.values[a].shape == self.values[b].shape && self.values[a].batched == self.values[b].batched {
            return Ok(());
        }
        Err(Error::shape(
            format!("{}: {}", self.label, self.values[b].name),
            self.values[a].shape.to_string(),
            &self.values[b].shape,
        ))
    }
}

pub(super) fn results(graph: &Graph, op: &Op, inputs: &[ValueId], label: &str) -> Result<Vec<ResultInfo>> {
    let o = Operands { label, values: inputs.iter().map(|&i| graph.at(i)).collect() };
    match op {
        Op::Conv2d(c) => {
            o.count(2)?;
            conv(&o, c)?;
            conv_input(&o, 0, c)?;
            conv_kernel(&o, 1, c)?;
            Ok(vec![result(conv_output(c, o.values[0]), o.values[0].batched)?])
        }
        Op::Conv2dGradInput(c) => {
            o.count(2)?;
            conv(&o, c)?;
            conv_gradient(&o, 0, c)?;
            conv_kernel(&o, 1, c)?;
            let dy = o.values[0];
            let [h, w] = c.window.input;
            Ok(vec![result([dy.shape.extents()[0], h, w, c.c_in], dy.batched)?])
        }
        Op::Conv2dGradKernel(c) => {
            o.count(2)?;
            conv(&o, c)?;
            conv_input(&o, 0, c)?;
            conv_gradient(&o, 1, c)?;
            o.same_rows(0, 1)?;
            Ok(vec![result(c.kernel_shape(), false)?])
        }
        Op::MatMul { transpose_a, transpose_b } => matmul(&o, *transpose_a, *transpose_b),
        Op::BiasAdd => {
            o.count(2)?;
            let x = o.float(0)?;
            o.float(1)?;
            o.shape(1, &[Some(x.shape.last())])?;
            channels(&o, x)?;
            if o.values[1].batched {
                return Err(Error::argument(label, "a bias without a batch axis", &o.values[1].name));
            }
            Ok(vec![result(x.shape.extents(), x.batched)?])
        }
        Op::BiasGrad => {
            o.count(1)?;
            let dy = o.float(0)?;
            channels(&o, dy)?;
            Ok(vec![result([dy.shape.last()], false)?])
        }
        Op::Relu => {
            o.count(1)?;
            let x = o.float(0)?;
            Ok(vec![result(x.shape.extents(), x.batched)?])
        }
        Op::ReluGrad => {
            o.count(2)?;
            let y = o.float(0)?;
            o.float(1)?;
            o.same_shape(0, 1)?;
            Ok(vec![result(y.shape.extents(), y.batched)?])
        }
        Op::MaxPool2d(p) => max_pool(&o, p),
        Op::MaxPool2dGrad(p) => {
            o.count(2)?;
            window(&o, &p.window)?;
            o.of(0, DType::U32)?;
            o.batched(0)?;
            let dy = o.float(1)?;
            let [oh, ow] = p.window.output;
            o.shape(0, &[None, Some(oh), Some(ow), Some(p.channels)])?;
            o.same_shape(0, 1)?;
            let [h, w] = p.window.input;
            Ok(vec![result([dy.shape.extents()[0], h, w, p.channels], dy.batched)?])
        }
        Op::SoftmaxCrossEntropy | Op::SoftmaxCrossEntropyGrad => {
            o.count(2)?;
            let logits = o.float(0)?;
            o.batched(0)?;
            let [n, classes] = logits.shape.matrix(label)?;
            o.of(1, DType::U32)?;
            o.shape(1, &[Some(n)])?;
            o.same_rows(0, 1)?;
            let gradient = matches!(op, Op::SoftmaxCrossEntropyGrad);
            let extents = if gradient { vec![n, classes] } else { vec![n] };
            Ok(vec![result(extents, logits.batched)?])
        }
        Op::Reshape(extents) => {
            o.count(1)?;
            let x = o.values[0];
            let info = ResultInfo {
                shape: Shape::new(extents.as_slice())?,
                dtype: x.dtype,
                batched: x.batched,
                suffix: "",
            };
            let batch_kept = !x.batched || info.shape.extents().first() == x.shape.extents().first();
            if info.shape.elements() != x.shape.elements() || !batch_kept {
                return Err(Error::shape(
                    label,
                    format!("{} elements, the batch first", x.shape.elements()),
                    &info.shape,
                ));
            }
            Ok(vec![info])
        }
        Op::Metrics => {
            o.count(3)?;
            let loss = o.float(0)?;
            o.batched(0)?;
            let [n, _] = o.float(1)?.shape.matrix(label)?;
            o.of(2, DType::U32)?;
            o.shape(0, &[Some(n)])?;
            o.shape(2, &[Some(n)])?;
            o.same_rows(0, 1)?;
            o.same_rows(0, 2)?;
            debug_assert_eq!(loss.dtype, DType::F32);
            Ok(vec![result([1], false)?])
        }
        Op::Update(_, targets) => update(graph, &o, targets),
    }
}

/// `x` of bias operations must have a last axis that is not the batch.
fn channels(o: &Operands, x: &Value) -> Result<()> {
    if x.batched && x.shape.rank() < 2 {
        return Err(Error::shape(format!("{}: {}", o.label, x.name), "[n, .., channels]", &x.shape));
    }
    Ok(())
}

/// The fields of a geometry are public, so one may come that no [`crate::shape::Window`] made.
/// A geometry made by hand may be anything; what [`crate::shape::Window::on`] makes passes.
fn window(o: &Operands, w: &WindowGeometry) -> Result<()> {
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

fn conv_gradient(o: &Operands, index: usize, c: &Conv2d) -> Result<()> {
    o.float(index)?;
    o.batched(index)?;
    o.shape(index, &[None, Some(c.window.output[0]), Some(c.window.output[1]), Some(c.c_out)])
}

fn conv_kernel(o: &Operands, index: usize, c: &Conv2d) -> Result<()> {
    o.float(index)?;
    if o.values[index].batched {
        return Err(Error::argument(o.label, "a kernel without a batch axis", &o.values[index].name));
    }
    o.shape(index, &c.kernel_shape().map(Some))
}

fn conv_output(c: &Conv2d, x: &Value) -> [usize; 4] {
    [x.shape.extents()[0], c.window.output[0], c.window.output[1], c.c_out]
}

fn matmul(o: &Operands, transpose_a: bool, transpose_b: bool) -> Result<Vec<ResultInfo>> {
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

fn max_pool(o: &Operands, p: &MaxPool2d) -> Result<Vec<ResultInfo>> {
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

fn update(graph: &Graph, o: &Operands, targets: &[super::ParameterId]) -> Result<Vec<ResultInfo>> {
    o.count(targets.len())?;
    let mut seen = vec![false; graph.parameters().len()];
    for (index, target) in targets.iter().enumerate() {
        let Some(parameter) = graph.parameters().get(target.0) else {
            return Err(Error::argument(o.label, "parameters of this graph", format!("number {}", target.0)));
        };
        if std::mem::replace(&mut seen[target.0], true) {
            return Err(Error::argument(o.label, "each parameter once", &parameter.path));
        }
        let taken = |node: &super::Node| matches!(&node.op, Op::Update(_, others) if others.contains(target));
        if graph.nodes().iter().any(taken) {
            let got = format!("a second one for {}", parameter.path);
            return Err(Error::argument(o.label, "one update of each parameter", got));
        }
        let gradient = o.float(index)?;
        if gradient.batched || gradient.shape != parameter.shape {
            return Err(Error::shape(
                format!("gradient of {}", parameter.path),
                parameter.shape.to_string(),
                &gradient.shape,
            ));
        }
        if matches!(gradient.role, Role::Parameter(_)) {
            return Err(Error::argument(o.label, "gradients that are not parameters", &gradient.name));
        }
    }
    Ok(Vec::new())
}

#[cfg(test)]
mod tests {
    use crate::graph::{Conv2d, DType, Graph, Op, UpdateRule};
    use crate::shape::{Shape, Window};

    #[test]
    fn refuses_a_convolution_with_groups_that_do_not_divide() {
        let mut graph = Graph::new(1).unwrap();
        let x = graph.batch_input("x", &[3, 3, 4], DType::F32).unwrap();
        let kernel = graph.input("kernel", Shape::new([2, 2, 4, 6]).unwrap(), DType::F32);
        let good = Conv2d::new([3, 3, 4], 6, Window::new([2, 2]), 1, "conv").unwrap();
        for groups in [0, 4] {
            assert!(graph.push(Op::Conv2d(Conv2d { groups, ..good }), &[x, kernel], "conv").is_err());
        }
        let mut flat = good;
        flat.window.stride = [0, 1];
        assert!(graph.push(Op::Conv2d(flat), &[x, kernel], "conv").is_err());
    }

    #[test]
    fn refuses_a_bias_along_the_batch() {
        let mut graph = Graph::new(3).unwrap();
        let x = graph.batch_input("x", &[3], DType::F32).unwrap();
        let row = graph.batch_input("row", &[], DType::F32).unwrap();
        let bias = graph.input("bias", Shape::new([3]).unwrap(), DType::F32);
        assert!(graph.push(Op::BiasAdd, &[x, row], "bias").is_err());
        assert!(graph.push(Op::BiasAdd, &[row, bias], "bias").is_err());
        assert!(graph.push(Op::BiasGrad, &[row], "bias").is_err());
        assert!(graph.push(Op::BiasAdd, &[x, bias], "bias").is_ok());
    }

    #[test]
    fn refuses_a_second_update_of_a_parameter() {
        let mut graph = Graph::new(1).unwrap();
        let w = graph.parameter("w", Shape::new([3]).unwrap()).unwrap();
        let gradient = graph.push_one(Op::Relu, &[w], "gradient").unwrap();
        let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
        let update = Op::Update(rule, vec![super::super::ParameterId(0)]);
        assert!(graph.push(update.clone(), &[gradient], "update").is_ok());
        assert!(graph.push(update, &[gradient], "update").is_err());
    }
}
