//! ONNX's Gemm, activations, Softmax and BatchNormalization.

use super::layout::*;
use super::{Results, out_of_scope};
use crate::support::executor::{Make, Operand, evaluate, evaluate_one};
use crate::support::onnx::{Case, Tensor};
use frazil::low_level::Shape;
use frazil::low_level::{
    Activation, DType, Graph, Normalization, Op, ParameterId, ParameterKind, StatisticsRule, StepScalars,
};
use frazil::{Loss, Model};

/// Computes Gemm, `alpha*a*b + beta*c`. The inputs `a` and `c` are multiplied by `alpha` and `beta` first,
/// because `Op::MatMul` has no factors.
pub fn gemm(case: &Case, make: Make) -> Results {
    let (alpha, beta) = (float(case, "alpha", 1.0), float(case, "beta", 1.0));
    let (transpose_a, transpose_b) = (int(case, "transA", 0) != 0, int(case, "transB", 0) != 0);
    let scaled = |t: &Tensor, by: f64| tensor(&t.shape, t.data.iter().map(|x| x * by).collect());
    let (a, b) = (scaled(input(case, 0), alpha), input(case, 1));
    let m = a.shape[usize::from(transpose_a)];
    let n = b.shape[usize::from(!transpose_b)];
    let a = if transpose_a { fixed(&a) } else { batch(&a) };
    let y = evaluate_one(make, Op::MatMul { transpose_a, transpose_b }, &[a, fixed(b)]);
    let y = tensor(&[m, n], y);
    let Some(c) = optional(case, 2).map(|c| scaled(c, beta)) else { return Ok(vec![y]) };
    let sum = match (c.data.len(), c.shape.last()) {
        (1, _) => evaluate_one(make, Op::BiasAdd, &[batch(&y), Operand::fixed(&[n], vec![c.data[0]; n])]),
        (_, Some(&columns)) if c.data.len() == columns => {
            evaluate_one(make, Op::BiasAdd, &[batch(&y), Operand::fixed(&[n], c.data)])
        }
        _ => evaluate_one(make, Op::Add, &[batch(&y), batch(&c)]),
    };
    Ok(vec![tensor(&[m, n], sum)])
}

/// Computes an elementwise operator.
fn activation(case: &Case, make: Make, op: Op) -> Results {
    let x = input(case, 0);
    Ok(vec![tensor(&x.shape, evaluate_one(make, op, &[batch(x)]))])
}

pub fn relu(case: &Case, make: Make) -> Results {
    activation(case, make, Op::Relu)
}

pub fn leaky_relu(case: &Case, make: Make) -> Results {
    let slope = float(case, "alpha", 0.01);
    activation(case, make, Op::Activation(Activation::LeakyRelu { slope }))
}

pub fn gelu(case: &Case, make: Make) -> Results {
    let form = match text(case, "approximate", "none") {
        "none" => Activation::Gelu,
        "tanh" => Activation::GeluTanh,
        other => panic!("{}: expected approximate = none or tanh, got {other}", case.name),
    };
    activation(case, make, Op::Activation(form))
}

pub fn sigmoid(case: &Case, make: Make) -> Results {
    activation(case, make, Op::Activation(Activation::Sigmoid))
}

pub fn hard_swish(case: &Case, make: Make) -> Results {
    activation(case, make, Op::Activation(Activation::HardSwish))
}

pub fn tanh(case: &Case, make: Make) -> Results {
    activation(case, make, Op::Activation(Activation::Tanh))
}

pub fn softmax(case: &Case, make: Make) -> Results {
    over_axis(case, make, Op::Softmax)
}

pub fn log_softmax(case: &Case, make: Make) -> Results {
    over_axis(case, make, Op::LogSoftmax)
}

/// Returns an axis counted from the front.
fn from_front(axis: i64, rank: usize) -> usize {
    if axis < 0 { (rank as i64 + axis) as usize } else { axis as usize }
}

/// Computes Concat, with the axis moved to the end.
pub fn concat(case: &Case, make: Make) -> Results {
    let rank = input(case, 0).shape.len();
    let axis = from_front(int(case, "axis", 0), rank);
    let last: Vec<_> = (0..rank).filter(|&other| other != axis).chain([axis]).collect();
    let rows = |t: &Tensor| {
        let moved = permute(t, &last);
        let columns = t.shape[axis];
        (Operand::batch(&[moved.data.len() / columns, columns], moved.data.clone()), moved.shape)
    };
    let (mut joined, mut shape) = rows(input(case, 0));
    for number in 1..case.inputs.len() {
        let (other, moved) = rows(input(case, number));
        shape[rank - 1] += moved[rank - 1];
        let rows = joined.shape[0];
        let y = evaluate_one(make, Op::Concat, &[joined, other]);
        joined = Operand::batch(&[rows, shape[rank - 1]], y);
    }
    let mut back: Vec<_> = (0..rank - 1).collect();
    back.insert(axis, rank - 1);
    Ok(vec![permute(&tensor(&shape, joined.data), &back)])
}

/// Computes Clip as a clamp, ReLU or ReLU6.
pub fn clip(case: &Case, make: Make) -> Results {
    let limit = |number: usize| optional(case, number).map(|t| t.data[0]);
    let op = match (limit(1), limit(2)) {
        (Some(0.0), Some(6.0)) => Op::Activation(Activation::Relu6),
        (Some(0.0), None) => Op::Relu,
        (min, max) => {
            let (min, max) = (min.unwrap_or(f32::MIN.into()), max.unwrap_or(f32::MAX.into()));
            if min >= max {
                return out_of_scope(format!("the limits {min} and {max}"));
            }
            Op::Activation(Activation::Clamp { min, max })
        }
    };
    activation(case, make, op)
}

/// Computes ReduceMean, with the axes moved to the end.
pub fn reduce_mean(case: &Case, make: Make) -> Results {
    let x = input(case, 0);
    let rank = x.shape.len();
    let axes: Vec<_> = match optional(case, 1) {
        Some(axes) if !axes.data.is_empty() => {
            axes.data.iter().map(|&axis| from_front(axis as i64, rank)).collect()
        }
        _ => (0..rank).collect(),
    };
    let (reduced, kept): (Vec<_>, Vec<_>) = (0..rank).partition(|axis| axes.contains(axis));
    let moved = permute(x, &[kept.as_slice(), &reduced].concat());
    let outer: usize = kept.iter().map(|&axis| x.shape[axis]).product();
    let rows = Operand::batch(&[outer, moved.data.len() / outer, 1, 1], moved.data);
    let mean = evaluate_one(make, Op::GlobalAvgPool, &[rows]);
    let keeps = int(case, "keepdims", 1) != 0;
    let extent = |axis: usize| if axes.contains(&axis) { keeps.then_some(1) } else { Some(x.shape[axis]) };
    Ok(vec![tensor(&(0..rank).filter_map(extent).collect::<Vec<_>>(), mean)])
}

/// Computes `LRN` by the operations of [`frazil::layer::LocalResponseNormLayer`].
pub fn local_response_norm(case: &Case, make: Make) -> Results {
    let x = channels_last(&planar(input(case, 0))?);
    let shape = [0, 1, 2, 3].map(|axis| x.shape[axis]);
    let size = usize::try_from(int(case, "size", 0)).expect("a size");
    let model = Model::input(&shape[1..])
        .local_response_norm(size, |n| {
            n.alpha(float(case, "alpha", 1e-4)).beta(float(case, "beta", 0.75)).k(float(case, "bias", 1.0))
        })
        .build()
        .expect("a local response norm");
    let mut built = model.evaluation_graph(shape[0], Loss::MeanSquaredError).expect("a graph");
    built.graph.mark_output(built.logits).expect("an output");
    let mut executor = make(&built.graph);
    executor.write(built.input, &x.data).expect("images");
    executor.write(built.labels, &vec![0.0; x.data.len()]).expect("targets");
    executor.run(StepScalars::forward(shape[0])).expect("a run");
    Ok(vec![channels_first(shape, executor.read(built.logits), input(case, 0))])
}

/// Computes an operation of rows over any axis. The axis is moved to the end, and back in the result.
fn over_axis(case: &Case, make: Make, op: Op) -> Results {
    let x = input(case, 0);
    let rank = x.shape.len();
    let axis = int(case, "axis", -1);
    let axis = if axis < 0 { rank as i64 + axis } else { axis } as usize;
    let last: Vec<_> = (0..rank).filter(|&other| other != axis).chain([axis]).collect();
    let moved = permute(x, &last);
    let rows = [x.data.len() / x.shape[axis], x.shape[axis]];
    let y = evaluate_one(make, op, &[Operand::batch(&rows, moved.data)]);
    let mut back: Vec<_> = (0..rank - 1).collect();
    back.insert(axis, rank - 1);
    Ok(vec![permute(&tensor(&moved.shape, y), &back)])
}

/// Computes GroupNormalization or InstanceNormalization, with scale and shift of channels.
pub fn group_normalization(case: &Case, make: Make) -> Results {
    let x = input(case, 0);
    let images = channels_last(&planar(x)?);
    let groups = int(case, "num_groups", x.shape[1] as i64) as usize;
    let of = Normalization { groups, each_position: false, epsilon: float(case, "epsilon", 1e-5) };
    let y = evaluate(make, Op::Normalize(of), &[batch(&images)]).swap_remove(0);
    let y = with_scale_and_shift(case, make, &tensor(&images.shape, y));
    let [n, h, w, c] = *images.shape else { unreachable!() };
    Ok(vec![channels_first([n, h, w, c], y, x)])
}

/// Multiplies a normalized tensor by operand 1 and adds operand 2, if there is one, along the last axis.
fn with_scale_and_shift(case: &Case, make: Make, y: &Tensor) -> Vec<f64> {
    let flat = |t: &Tensor| Operand::fixed(&[t.data.len()], t.data.clone());
    let scaled = evaluate_one(make, Op::MulChannels, &[batch(y), flat(input(case, 1))]);
    match optional(case, 2) {
        None => scaled,
        Some(shift) => evaluate_one(make, Op::BiasAdd, &[Operand::batch(&y.shape, scaled), flat(shift)]),
    }
}

/// Computes LayerNormalization over the axes from `axis` on, with the means and inverse standard deviations.
pub fn layer_normalization(case: &Case, make: Make) -> Results {
    let x = input(case, 0);
    let axis = int(case, "axis", -1);
    let axis = if axis < 0 { x.shape.len() as i64 + axis } else { axis } as usize;
    let (outer, inner) = (x.shape[..axis].iter().product(), x.shape[axis..].iter().product::<usize>());
    let rows = tensor(&[outer, inner], x.data.clone());
    let of = Normalization { groups: 1, each_position: false, epsilon: float(case, "epsilon", 1e-5) };
    let mut results = evaluate(make, Op::Normalize(of), &[batch(&rows)]);
    let (inv_std, y) = (results.swap_remove(1), results.swap_remove(0));
    let y = with_scale_and_shift(case, make, &tensor(&rows.shape, y));
    let mean =
        evaluate_one(make, Op::GlobalAvgPool, &[Operand::batch(&[outer, inner, 1, 1], x.data.clone())]);
    let mut ones = x.shape.clone();
    ones[axis..].fill(1);
    Ok(vec![tensor(&x.shape, y), tensor(&ones, mean), tensor(&ones, inv_std)])
}

/// Computes Mul of one shape, or with factors of the last axis.
pub fn mul(case: &Case, make: Make) -> Results {
    let (a, b) = (input(case, 0), input(case, 1));
    let y = match b.shape.len() {
        1 if a.shape.len() > 1 => evaluate_one(make, Op::MulChannels, &[batch(a), fixed(b)]),
        _ => evaluate_one(make, Op::Mul, &[batch(a), batch(b)]),
    };
    Ok(vec![tensor(&a.shape, y)])
}

/// Computes BatchNormalization of images `[n, channels, ..]` with any number of spatial axes. In training
/// mode the outputs are the result and both running statistics, `running = momentum * running + (1 -
/// momentum) * batch`.
pub fn batch_normalization(case: &Case, make: Make) -> Results {
    let x = input(case, 0);
    let rank = x.shape.len();
    let last: Vec<_> = (0..rank).filter(|&axis| axis != 1).chain([1]).collect();
    let first: Vec<_> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let moved = permute(x, &last);
    let epsilon = float(case, "epsilon", 1e-5);
    let back = |y: Vec<f64>| permute(&tensor(&moved.shape, y), &first);
    if int(case, "training_mode", 0) == 0 {
        let vectors = [1, 2, 3, 4].map(|number| fixed(input(case, number)));
        let operands = [&[batch(&moved)], vectors.as_slice()].concat();
        return Ok(vec![back(evaluate_one(make, Op::BatchNorm { epsilon: Some(epsilon) }, &operands))]);
    }
    let channels = || Shape::new([x.shape[1]]).unwrap();
    let mut graph = Graph::new(x.shape[0]).unwrap();
    let images = graph.batch_input("x", &moved.shape[1..], DType::F32).unwrap();
    let [scale, shift] = ["scale", "shift"].map(|name| graph.input(name, channels(), DType::F32));
    let running =
        ["mean", "variance"].map(|path| graph.declare(path, channels(), ParameterKind::Statistic).unwrap());
    let batch = graph.push(Op::BatchStatistics { epsilon }, &[images], "statistics").unwrap();
    let [mean, inv_std, variance] = [batch[0], batch[1], batch[2]];
    let operands = [images, scale, shift, mean, inv_std];
    let y = graph.push_one(Op::BatchNorm { epsilon: None }, &operands, "norm").unwrap();
    let rule = StatisticsRule {
        momentum: 1.0 - float(case, "momentum", 0.9),
        biased: true,
        per_example: x.shape[2..].iter().product(),
    };
    graph
        .push(
            Op::UpdateStatistics(rule, [ParameterId::of(0), ParameterId::of(1)]),
            &[mean, variance],
            "running",
        )
        .unwrap();
    graph.mark_output(y).unwrap();
    let mut executor = make(&graph);
    let values = [images, scale, shift, running[0], running[1]];
    executor.write(images, &moved.data).unwrap();
    values
        .iter()
        .enumerate()
        .skip(1)
        .for_each(|(number, &value)| executor.write(value, &input(case, number).data).unwrap());
    executor.run(StepScalars::forward(x.shape[0])).unwrap();
    let statistic = |data: Vec<f64>| tensor(&[x.shape[1]], data);
    Ok(vec![
        back(executor.read(y)),
        statistic(executor.read(running[0])),
        statistic(executor.read(running[1])),
    ])
}
