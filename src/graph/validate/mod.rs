//! Checks an operation's operands and works out its results.

mod activation;
mod dropout;
mod linear;
mod loss;
mod norm;
mod operands;
mod pool;
mod update;
mod window;

use super::{DType, Graph, Op, ValueId};
use crate::error::{Error, Result};
use crate::shape::Shape;
use linear::{channels, matmul};
use operands::Operands;
use update::{accumulate, clip_gradients, update};
use window::{
    avg_pool, avg_pool_gradient, conv, conv_gradient, conv_input, conv_kernel, conv_output, max_pool, window,
};

pub(super) struct ResultInfo {
    pub shape: Shape,
    pub dtype: DType,
    pub batched: bool,
    pub suffix: &'static str,
}

fn result(extents: impl Into<Vec<usize>>, batched: bool) -> Result<ResultInfo> {
    Ok(ResultInfo { shape: Shape::new(extents)?, dtype: DType::F32, batched, suffix: "" })
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
        Op::Scale(factor) if factor.is_nan() || factor.abs() > f64::from(f32::MAX) => {
            Err(Error::argument(label, "a finite factor", factor))
        }
        Op::Relu | Op::Scale(_) | Op::MeanGrad => {
            o.count(1)?;
            let x = o.float(0)?;
            Ok(vec![result(x.shape.extents(), x.batched)?])
        }
        Op::Add | Op::Mul | Op::ReluGrad => {
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
        Op::GlobalAvgPool => pool::global_avg_pool(&o),
        Op::GlobalAvgPoolGrad(pixels) => pool::global_avg_pool_grad(&o, *pixels),
        Op::SoftmaxCrossEntropy { smoothing } => loss::cross_entropy(&o, *smoothing, false),
        Op::SoftmaxCrossEntropyGrad { smoothing } => loss::cross_entropy(&o, *smoothing, true),
        Op::MeanSquaredError => loss::squared_error(&o, false),
        Op::MeanSquaredErrorGrad => loss::squared_error(&o, true),
        Op::Activation(a) => activation::activation(&o, *a, 1),
        Op::ActivationGrad(a) => activation::activation(&o, *a, 2),
        Op::Softmax => activation::softmax(&o, 1),
        Op::SoftmaxGrad => activation::softmax(&o, 2),
        Op::AvgPool2d(p) => avg_pool(&o, p),
        Op::AvgPool2dGrad(p) => avg_pool_gradient(&o, p),
        Op::Dropout(d) => dropout::dropout(&o, d),
        Op::BatchStatistics { epsilon } => norm::statistics(&o, *epsilon),
        Op::BatchNorm { epsilon } => norm::normalise(&o, *epsilon),
        Op::BatchNormGradScale => norm::grad_scale(&o),
        Op::BatchNormGradInput => norm::grad_input(&o),
        Op::UpdateStatistics(rule, targets) => norm::update_statistics(graph, &o, rule, targets),
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
        Op::Metrics => loss::metrics(&o),
        Op::Accumulate(targets) => accumulate(graph, &o, targets),
        Op::Clip(clip, targets) => clip_gradients(graph, &o, *clip, targets),
        Op::Update(_, targets) => update(graph, &o, targets),
    }
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
        let update = Op::Update(rule, vec![crate::graph::ParameterId(0).into()]);
        assert!(graph.push(update.clone(), &[gradient], "update").is_ok());
        assert!(graph.push(update, &[gradient], "update").is_err());
    }
}
