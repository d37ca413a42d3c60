//! Tests residual connections: golden vectors, the gradients of a whole model, training and errors.

use crate::support::compare::assert_relative;
use crate::support::device::{device, families, gpu};
use crate::support::executor::{Make, Operand, evaluate_one, reference};
use crate::support::golden::{Case, cases};
use crate::support::gradients::assert_gradients;
use frazil::low_level::{Conv2d, DType, Graph, Op, ParameterId, StepScalars, UpdateRule, ValueId};
use frazil::low_level::{Shape, Window};
use frazil::{Batch, Error, Loss, Model, Padding::Same, Sgd, Trainer, TrainerOptions};

/// A convolution with bias, and the graph values of its parameters.
struct Convolution {
    op: Conv2d,
    kernel: ValueId,
    bias: ValueId,
}

impl Convolution {
    fn new(graph: &mut Graph, case: &Case, name: &str, input: [usize; 3], stride: usize) -> Self {
        let shape = case.shape(&format!("{name}_filter")).to_vec();
        let window = Window { stride: [stride; 2], padding: Same, ..Window::new([shape[0], shape[1]]) };
        let op = Conv2d::new(input, shape[3], window, 1, name).unwrap();
        let kernel = graph.parameter(&format!("{name}_filter"), Shape::new(shape.clone()).unwrap()).unwrap();
        let bias = graph.parameter(&format!("{name}_bias"), Shape::new([shape[3]]).unwrap()).unwrap();
        Convolution { op, kernel, bias }
    }

    fn output(&self) -> [usize; 3] {
        [self.op.window.output[0], self.op.window.output[1], self.op.c_out]
    }

    fn forward(&self, graph: &mut Graph, x: ValueId) -> ValueId {
        let y = graph.push_one(Op::Conv2d(self.op), &[x, self.kernel], "conv").unwrap();
        graph.push_one(Op::BiasAdd, &[y, self.bias], "bias").unwrap()
    }
}

/// Compares the output of a residual block, and the gradients of `sum(output * grad_output)` with respect to
/// parameters and input, with the golden vectors (tests/golden). Cases of the form `add` have an output only.
fn assert_golden(make: Make, case: &Case, tolerance: f64) {
    let assert_result = |name: &str, got: &[f64]| {
        let what = format!("{} {name}", case.name);
        assert_relative(&what, got, &case.f64(&format!("{name}_f64")), tolerance);
    };
    if case.params["form"] == "add" {
        let operand = |name| Operand::batch(case.shape(name), case.wide(name));
        assert_result("output", &evaluate_one(make, Op::Add, &[operand("a"), operand("b")]));
        return;
    }
    let shape = case.shape("input");
    let stride = case.params["stride"].as_u64().unwrap() as usize;
    let example = [shape[1], shape[2], shape[3]];
    let mut g = Graph::new(shape[0]).unwrap();
    let x = g.batch_input("x", &example, DType::F32).unwrap();
    let dy = g.batch_input("dy", &case.shape("grad_output")[1..], DType::F32).unwrap();
    let conv1 = Convolution::new(&mut g, case, "conv1", example, stride);
    let conv2 = Convolution::new(&mut g, case, "conv2", conv1.output(), 1);
    let shortcut = (case.params["shortcut"] != "identity")
        .then(|| Convolution::new(&mut g, case, "shortcut", example, stride));
    let inner = conv1.forward(&mut g, x);
    let hidden = g.push_one(Op::Relu, &[inner], "relu").unwrap();
    let main = conv2.forward(&mut g, hidden);
    let side = shortcut.as_ref().map_or(x, |s| s.forward(&mut g, x));
    let sum = g.push_one(Op::Add, &[main, side], "add").unwrap();
    let y = g.push_one(Op::Relu, &[sum], "relu").unwrap();
    // `Graph::backward` differentiates the mean of a loss. Scaling the loss by the number of elements turns
    // this mean into the sum.
    let elements = g.value(y).unwrap().shape.elements();
    let weighted = g.push_one(Op::Mul, &[y, dy], "weighted").unwrap();
    let loss = g.push_one(Op::Scale(elements as f64), &[weighted], "loss").unwrap();
    let parameters: Vec<_> = g.parameters().iter().map(|p| p.path.clone()).collect();
    let values: Vec<_> =
        (0..parameters.len()).map(|i| g.parameter_value(ParameterId::of(i)).unwrap()).collect();
    let gradients = g.backward(loss, &[values.as_slice(), &[x]].concat()).unwrap();
    let names = parameters.iter().map(|path| format!("grad_{path}")).chain(["grad_input".to_owned()]);
    let results: Vec<_> = [("output".to_owned(), y)].into_iter().chain(names.zip(gradients)).collect();
    results.iter().for_each(|&(_, id)| g.mark_output(id).unwrap());
    let mut executor = make(&g);
    executor.write(x, &case.wide("input")).unwrap();
    executor.write(dy, &case.wide("grad_output")).unwrap();
    for (path, &value) in parameters.iter().zip(&values) {
        executor.write(value, &case.wide(path)).unwrap();
    }
    executor.run(StepScalars::forward(shape[0])).unwrap();
    for (name, id) in results {
        assert_result(&name, &executor.read(id));
    }
}

#[test]
fn residual_golden() {
    let all = cases("residual");
    for case in &all {
        assert_golden(&reference, case, 1e-12);
        for family in families() {
            assert_golden(&|graph: &Graph| device(graph, family), case, 1e-5);
        }
    }
}

/// Builds a model with two residual blocks: `block1` with an identity shortcut, and `block2` with stride 2
/// and a 1x1 convolution as its shortcut.
fn blocks() -> Model {
    Model::input([4, 4, 2])
        .residual("block1", |m| m.conv2d("conv1", 2, [3, 3], |c| c.padding(Same)).batch_norm("bn1"), |s| s)
        .relu()
        .residual(
            "block2",
            |m| {
                m.conv2d("conv1", 3, [3, 3], |c| c.padding(Same).stride([2, 2]))
                    .relu()
                    .conv2d("conv2", 3, [3, 3], |c| c.padding(Same))
                    .batch_norm("bn2")
            },
            |s| s.conv2d("project", 3, [1, 1], |c| c.stride([2, 2])).batch_norm("bn3"),
        )
        .flatten()
        .dense("fc", 3)
        .build()
        .unwrap()
}

/// Compares the gradients that the optimizer update reads in a model's training graph with central
/// differences of the mean loss.
#[test]
fn gradients_of_a_whole_model_match_differences() {
    let model = blocks();
    let paths: Vec<_> = model.parameters().iter().map(|p| p.path.as_str()).collect();
    assert!(paths.contains(&"block1.conv1.kernel") && paths.contains(&"block2.project.bias"), "{paths:?}");
    let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let built = model.training_graph(5, Loss::SoftmaxCrossEntropy, rule).unwrap();
    let graph = &built.graph;
    let update = graph.nodes().iter().find(|n| matches!(n.op, Op::Update(..))).unwrap();
    let Op::Update(_, targets) = &update.op else { unreachable!() };
    let wave = |n: usize, step: f64| (0..n).map(|i| (0.3 + i as f64 * step).sin()).collect::<Vec<_>>();
    let mut data = vec![(built.input, wave(5 * 32, 1.7)), (built.labels, vec![0.0, 1.0, 2.0, 1.0, 0.0])];
    let mut pairs = Vec::new();
    for (number, (target, &gradient)) in targets.iter().zip(&update.inputs).enumerate() {
        let value = graph.parameter_value(target.parameter).unwrap();
        data.push((value, wave(graph.value(value).unwrap().shape.elements(), 2.1 + number as f64)));
        pairs.push((value, gradient));
    }
    // A convolution bias before a batch norm does not affect the loss: its gradient and its central
    // difference are rounding errors near 0.
    assert_gradients("residual model", graph, built.mean_loss, &pairs, &data, 1.0 / 262_144.0, 1e-6);
}

#[test]
fn training_with_residual_connections_learns_and_repeats_bit_for_bit() {
    let features: Vec<f32> = (0..6 * 32).map(|i| (i as f32 * 1.3).sin()).collect();
    let batch = Batch { features, labels: vec![0, 1, 2, 0, 1, 2], ..Batch::default() };
    let run = || {
        let options = TrainerOptions::batch(6).seed(3);
        let mut t = Trainer::new(gpu(), blocks(), Loss::SoftmaxCrossEntropy, Sgd::new(0.1), options).unwrap();
        let first = t.step_loss(&batch).unwrap();
        (1..30).for_each(|_| t.step(&batch).unwrap());
        let last = t.step_loss(&batch).unwrap();
        assert!(last < 0.5 * first, "the loss goes from {first} to {last}");
        (t.digest().unwrap(), last.to_bits(), t.metrics().unwrap())
    };
    assert_eq!(run(), run());
}

#[test]
fn branches_with_other_shapes_or_equal_paths_are_rejected() {
    let wrong = Model::input([4, 4, 2])
        .residual("block1", |m| m.conv2d("conv1", 3, [3, 3], |c| c.padding(Same)), |s| s)
        .build();
    let Err(Error::ShapeMismatch { at, .. }) = &wrong else { panic!("{wrong:?}") };
    assert!(at.contains("block1"), "{at}");
    let twice = Model::input([4, 4, 2])
        .residual("b", |m| m.conv2d("c", 2, [1, 1], |c| c), |s| s.conv2d("c", 2, [1, 1], |c| c))
        .build();
    assert!(twice.unwrap_err().to_string().contains("\"b.c\" twice"));
}
