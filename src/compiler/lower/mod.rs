//! Lowers operations to dispatches: kernels with their parameters and the memory that they bind.

mod builder;
mod gemm;
mod loss;
mod norm;
mod pool;
mod update;

pub(super) use builder::{Builder, GemmBuffers, Lowered, LoweredDispatch, Partial, Resource};

use super::conv;
use super::ir::Operation;
use crate::error::{Error, Result};
use crate::graph::{Activation, Normalization, Op, Value};
use crate::kernels::{
    Curve, ElementSets, Extent, Launch, MAX_ITERATIONS, activation, activation_grad, add, bias_add, concat,
    dropout, log_softmax, log_softmax_grad, mean_grad, mul, mul_channels, normalize, normalize_grad,
    pad_channels, relu, relu_grad, scale, slice_channels, softmax, softmax_grad,
};

/// Lowers operations in order.
///
/// # Errors
/// [`Error::InvalidArgument`] for loops with more iterations than software adapters execute: all sums are
/// divided into parts, except those over more than 4 million classes or rows. [`Error::LimitExceeded`] for
/// column matrices or groups that exceed a limit.
pub(super) fn lower(mut builder: Builder, operations: &[Operation]) -> Result<Lowered> {
    let is_statistics = |operation: &Operation| matches!(operation.node.op, Op::UpdateStatistics(..));
    for group in operations.chunk_by(|left, right| is_statistics(left) && is_statistics(right)) {
        let operation = &group[0];
        if is_statistics(operation) {
            norm::update_statistics(&mut builder, group);
            continue;
        }
        let first = builder.lowered.dispatches.len();
        lower_one(&mut builder, operation)?;
        // Operations without results update parameters or gradients in place.
        if operation.node.outputs.is_empty() {
            builder.forget_rounded();
        }
        if let Some(bias_grad) = &operation.bias_grad {
            let result = Resource::Value(bias_grad.outputs[0]);
            let fused = builder.lowered.dispatches[first..]
                .iter()
                .any(|dispatch| dispatch.resources.contains(&result));
            if !fused {
                gemm::bias_grad_of(&mut builder, bias_grad);
            }
        }
    }
    let Builder { settings, lowered, .. } = builder;
    // A GEMM divides its sums at a fixed length, whatever limit the options set.
    let available = |launch: &Launch| {
        if launch.kernel.folder == "gemm" { MAX_ITERATIONS } else { settings.max_iterations }
    };
    match lowered.dispatches.iter().find(|dispatch| dispatch.launch.iterations > available(&dispatch.launch))
    {
        None => Ok(lowered),
        Some(LoweredDispatch { label, launch, .. }) => {
            let expected = format!(
                "at most {} loop iterations of {} (use fewer classes, smaller examples, or fewer rows in a batch)",
                available(launch),
                launch.kernel.name
            );
            Err(Error::argument(label, expected, launch.iterations))
        }
    }
}

fn lower_one(b: &mut Builder, op: &Operation) -> Result<()> {
    let node = &op.node;
    let graph = b.graph;
    let first = node.inputs.first().map(|&id| graph.at(id));
    let launch = match (&node.op, first) {
        (Op::Conv2d(conv), _) => return conv::forward(b, op, conv),
        (Op::Conv2dGradInput(conv), _) => return conv::grad_input(b, op, conv),
        (Op::Conv2dGradKernel(conv), _) => return conv::grad_kernel(b, op, conv),
        (Op::MatMul { transpose_a, transpose_b }, _) => {
            return gemm::matmul(b, op, [*transpose_a, *transpose_b]);
        }
        (Op::BiasGrad, Some(_)) => {
            gemm::bias_grad_of(b, node);
            return Ok(());
        }
        // A reshape has no dispatch: its result shares the memory of its operand.
        (Op::Reshape(_), _) => return Ok(()),
        (Op::Accumulate(targets), _) => return update::accumulate(b, op, targets),
        (Op::Clip(clip, targets), _) => return update::clip(b, op, *clip, targets),
        (Op::Update(rule, targets), _) => return update::update(b, op, rule, targets),
        (Op::UpdateStatistics(..), _) => return Ok(()),
        (
            Op::SoftmaxCrossEntropy { .. }
            | Op::SoftmaxCrossEntropyGrad { .. }
            | Op::MeanSquaredError
            | Op::MeanSquaredErrorGrad
            | Op::ElementLoss(_)
            | Op::ElementLossGrad(_)
            | Op::SoftCrossEntropy
            | Op::SoftCrossEntropyGrad
            | Op::Metrics,
            _,
        ) => return loss::loss(b, op),
        (
            Op::BatchStatistics { .. }
            | Op::BatchNorm { .. }
            | Op::BatchNormGradScale { .. }
            | Op::BatchNormGradInput,
            Some(_),
        ) => return norm::norm(b, op),
        (Op::Normalize(of) | Op::NormalizeGrad(of), Some(x)) => {
            let (channels, parallel) = (x.shape.last(), b.settings.parallel_reductions);
            let positions = x.elements_per_row() / channels;
            let Normalization { groups, each_position, epsilon } = *of;
            let sets = ElementSets { examples: graph.batch(), positions, channels, groups, each_position };
            if matches!(node.op, Op::Normalize(_)) {
                normalize(sets, epsilon, parallel)
            } else {
                normalize_grad(sets, parallel)
            }
        }
        (Op::MaxPool2d(pool) | Op::AvgPool2d(pool) | Op::AvgPool2dGrad(pool), _) => {
            return pool::pool_of(b, op, pool);
        }
        (Op::Resample2d(resample), _) => {
            pool::resample2d_of(b, op, resample);
            return Ok(());
        }
        (Op::MaxPool2dGrad(pool), _) => return pool::max_pool2d_grad_of(b, op, pool),
        (Op::GlobalAvgPool | Op::GlobalAvgPoolGrad(_), _) => return pool::global_avg_pool_of(b, op),
        // Each element of the result is 1 divided by the number of elements of the operand, so the kernel
        // does not bind the operand.
        (Op::MeanGrad, Some(x)) => {
            let launch = mean_grad(extent(x));
            b.push(op, launch, vec![Resource::Value(node.outputs[0])]);
            return Ok(());
        }
        (Op::BiasAdd, Some(x)) => bias_add(extent(x), x.shape.last()),
        (Op::Add, Some(a)) => add(extent(a)),
        (Op::Mul, Some(a)) => mul(extent(a)),
        (Op::MulChannels, Some(a)) => {
            let b = graph.at(node.inputs[1]);
            mul_channels(extent(a), a.shape.last(), b.shape.elements() / a.shape.last())
        }
        (Op::Concat, Some(a)) => {
            let y = graph.at(node.outputs[0]);
            concat(extent(y), y.shape.last(), a.shape.last())
        }
        (Op::SliceChannels { begin, channels }, Some(x)) => {
            slice_channels(extent(graph.at(node.outputs[0])), *channels, *begin, x.shape.last())
        }
        (Op::PadChannels { begin, channels }, Some(x)) => {
            pad_channels(extent(graph.at(node.outputs[0])), *channels, *begin, x.shape.last())
        }
        (Op::Scale(factor), Some(x)) => scale(extent(x), *factor),
        (Op::Relu, Some(x)) => relu(extent(x)),
        (Op::ReluGrad, Some(y)) => relu_grad(extent(y)),
        (Op::Dropout(of), Some(x)) => dropout(extent(x), *of),
        (Op::Activation(of), Some(x)) => activation(extent(x), curve(*of)),
        (Op::ActivationGrad(of), Some(x)) => activation_grad(extent(x), curve(*of)),
        (Op::Softmax | Op::SoftmaxGrad | Op::LogSoftmax | Op::LogSoftmaxGrad, Some(x)) => {
            let [rows, classes] = x.shape.matrix(&node.label)?;
            let limit = b.settings.max_iterations;
            match node.op {
                Op::Softmax => softmax(rows, classes, limit),
                Op::SoftmaxGrad => softmax_grad(rows, classes, limit),
                Op::LogSoftmax => log_softmax(rows, classes, limit),
                _ => log_softmax_grad(rows, classes, limit),
            }
        }
        (op, None) => return Err(Error::argument(&node.label, "operands", op.name())),
    };
    let resources = node.inputs.iter().chain(&node.outputs).map(|&id| Resource::Value(id)).collect();
    b.push(op, launch, resources);
    Ok(())
}

/// Returns the number of elements of a value for a full batch, and the number per example.
pub(super) fn extent(value: &Value) -> Extent {
    let per_row = if value.batched { value.elements_per_row() } else { 0 };
    Extent { elements: value.shape.elements(), per_row }
}

fn curve(activation: Activation) -> Curve {
    match activation {
        Activation::LeakyRelu { slope } => Curve::LeakyRelu(slope),
        Activation::Clamp { min, max } => Curve::Clamp(min, max),
        Activation::Sigmoid => Curve::Sigmoid,
        Activation::Tanh => Curve::Tanh,
        Activation::Gelu => Curve::Gelu,
        Activation::GeluTanh => Curve::GeluTanh,
        Activation::Relu6 => Curve::Relu6,
        Activation::Silu => Curve::Silu,
        Activation::HardSigmoid => Curve::HardSigmoid,
        Activation::HardSwish => Curve::HardSwish,
        Activation::InversePower { exponent } => Curve::InversePower(exponent),
    }
}
