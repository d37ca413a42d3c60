//! Residual joins: golden vectors, differences through whole models, errors.

use crate::support::compare::assert_relative;
use crate::support::device::{device, families, gpu};
use crate::support::executor::{Make, Operand, evaluate_one, reference};
use crate::support::golden::{Case, cases};
use frazil::graph::{Conv2d, DType, Graph, Op, StepScalars, UpdateRule, ValueId};
use frazil::reference::Reference;
use frazil::shape::{Shape, Window};
use frazil::{Batch, Error, Loss, Model, Padding::Same, Sgd, Trainer, TrainerOptions};

/// A convolution with bias in a hand-made graph.
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

    /// The gradients of the input, the kernel and the bias.
    fn backward(&self, graph: &mut Graph, x: ValueId, dy: ValueId) -> [ValueId; 3] {
        let dx = graph.push_one(Op::Conv2dGradInput(self.op), &[dy, self.kernel], "grad_input").unwrap();
        let dkernel = graph.push_one(Op::Conv2dGradKernel(self.op), &[x, dy], "grad_kernel").unwrap();
        [dx, dkernel, graph.push_one(Op::BiasGrad, &[dy], "grad_bias").unwrap()]
    }
}

fn golden(make: Make, case: &Case, tolerance: f64) {
    let hold = |name: &str, got: &[f64]| {
        let what = format!("{} {name}", case.name);
        assert_relative(&what, got, &case.f64(&format!("{name}_f64")), tolerance);
    };
    if case.params["form"] == "add" {
        let operand = |name| Operand::batch(case.shape(name), case.wide(name));
        hold("output", &evaluate_one(make, Op::Add, &[operand("a"), operand("b")]));
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
    let dsum = g.push_one(Op::ReluGrad, &[y, dy], "grad").unwrap();
    let [dhidden, dkernel2, dbias2] = conv2.backward(&mut g, hidden, dsum);
    let dinner = g.push_one(Op::ReluGrad, &[hidden, dhidden], "grad").unwrap();
    let [dmain, dkernel1, dbias1] = conv1.backward(&mut g, x, dinner);
    let mut results = vec![
        ("output", y),
        ("grad_conv1_filter", dkernel1),
        ("grad_conv1_bias", dbias1),
        ("grad_conv2_filter", dkernel2),
        ("grad_conv2_bias", dbias2),
    ];
    let mut dside = dsum;
    if let Some(shortcut) = &shortcut {
        let [dx, dkernel, dbias] = shortcut.backward(&mut g, x, dsum);
        results.extend([("grad_shortcut_filter", dkernel), ("grad_shortcut_bias", dbias)]);
        dside = dx;
    }
    results.push(("grad_input", g.push_one(Op::Add, &[dmain, dside], "add").unwrap()));
    results.iter().for_each(|&(_, id)| g.mark_output(id).unwrap());
    let mut executor = make(&g);
    executor.write(x, &case.wide("input")).unwrap();
    executor.write(dy, &case.wide("grad_output")).unwrap();
    for (number, parameter) in g.parameters().iter().enumerate() {
        let id = g.parameter_value(frazil::graph::ParameterId::of(number)).unwrap();
        executor.write(id, &case.wide(&parameter.path)).unwrap();
    }
    executor.run(StepScalars::forward(shape[0])).unwrap();
    for (name, id) in results {
        hold(name, &executor.read(id));
    }
}

#[test]
fn residual_golden() {
    let all = cases("residual");
    for case in &all {
        golden(&reference, case, 1e-12);
        for family in families() {
            golden(&|graph: &Graph| device(graph, family), case, 1e-5);
        }
    }
}

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

/// The gradients that the model's own backward pass finds, against differences of its mean loss.
#[test]
fn gradients_of_a_whole_model_are_those_of_differences() {
    let model = blocks();
    let paths: Vec<_> = model.parameters().iter().map(|p| p.path.as_str()).collect();
    assert!(paths.contains(&"block1.conv1.kernel") && paths.contains(&"block2.project.bias"), "{paths:?}");
    let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let built = model.training_graph(5, Loss::SoftmaxCrossEntropy, rule).unwrap();
    let mut r = Reference::new(&built.graph).unwrap();
    let wave = |n: usize, step: f64| (0..n).map(|i| (0.3 + i as f64 * step).sin()).collect::<Vec<_>>();
    r.write(built.input, &wave(5 * 32, 1.7)).unwrap();
    r.write(built.labels, &[0.0, 1.0, 2.0, 1.0, 0.0]).unwrap();
    let update = built.graph.nodes().iter().find(|n| matches!(n.op, Op::Update(..))).unwrap();
    let Op::Update(_, targets) = &update.op else { unreachable!() };
    let values: Vec<_> = targets.iter().map(|&t| built.graph.parameter_value(t.parameter).unwrap()).collect();
    for (number, &value) in values.iter().enumerate() {
        let elements = r.read(value).len();
        r.write(value, &wave(elements, 2.1 + number as f64)).unwrap();
    }
    r.run(StepScalars::forward(4)).unwrap();
    let found: Vec<_> = update.inputs.iter().map(|&id| r.read(id).to_vec()).collect();
    let step = 1.0 / 262_144.0;
    for (&value, found) in values.iter().zip(&found) {
        let data = r.read(value).to_vec();
        let mut loss = |index: usize, by: f64| {
            let mut moved = data.clone();
            moved[index] += by;
            r.write(value, &moved).unwrap();
            r.run(StepScalars::forward(4)).unwrap();
            r.read(built.mean_loss)[0]
        };
        let numeric: Vec<_> =
            (0..data.len()).map(|i| (loss(i, step) - loss(i, -step)) / (2.0 * step)).collect();
        r.write(value, &data).unwrap();
        let name = &built.graph.value(value).unwrap().name;
        let worst = numeric.iter().zip(found).map(|(n, f)| (n - f).abs()).fold(0.0, f64::max);
        // A bias before a batch norm has no effect, so that its gradient is 0: an absolute bound.
        assert!(worst < 1e-7, "{name}: {worst:e}, {found:?} {numeric:?}");
    }
}

#[test]
fn training_with_residual_joins_repeats_and_learns() {
    let run = || {
        let options = TrainerOptions::batch(6).seed(3);
        let mut t = Trainer::new(gpu(), blocks(), Loss::SoftmaxCrossEntropy, Sgd::new(0.1), options).unwrap();
        let features: Vec<f32> = (0..6 * 32).map(|i| (i as f32 * 1.3).sin()).collect();
        let before = t.parameter("block2.conv2.kernel").unwrap();
        for _ in 0..30 {
            t.step(&Batch { features: features.clone(), labels: vec![0, 1, 2, 0, 1, 2], ..Batch::default() })
                .unwrap();
        }
        let after = t.parameter("block2.conv2.kernel").unwrap();
        assert_ne!(before, after);
        (after, t.metrics().unwrap())
    };
    let (first, second) = (run(), run());
    assert_eq!(first.0, second.0);
    println!("{:?}", first.1);
}

#[test]
fn branches_that_do_not_fit_are_named() {
    let wrong = Model::input([4, 4, 2])
        .residual("block1", |m| m.conv2d("conv1", 3, [3, 3], |c| c.padding(Same)), |s| s)
        .build();
    let Err(Error::ShapeMismatch { at, .. }) = &wrong else { panic!("{wrong:?}") };
    assert!(at.contains("block1"), "{at}");
    let twice = Model::input([4, 4, 2])
        .residual("b", |m| m.conv2d("c", 2, [1, 1], |c| c), |s| s.conv2d("c", 2, [1, 1], |c| c))
        .build();
    assert!(twice.unwrap_err().to_string().contains("b.c.kernel"));
}
