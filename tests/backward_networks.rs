//! Networks and losses that no layer and no `Loss` has, built from operations: `Graph::backward` gives their gradients, right
//! against central differences, and the same on the device.

use crate::support::device::gpu;
use crate::support::gradients::{Data, assert_gradients, draw};
use frazil::graph::{Activation, Conv2d, DType, Graph, Op, Role, StepScalars, ValueId};
use frazil::reference::Reference;
use frazil::shape::{Padding, Shape, Window};
use frazil::{Plan, PlanOptions};

const TANH: Op = Op::Activation(Activation::Tanh);
const PRODUCT: Op = Op::MatMul { transpose_a: false, transpose_b: false };

/// Gradients of the mean of `loss` in all inputs and parameters of floats, against differences and on the device.
fn check(what: &str, mut graph: Graph, loss: ValueId, wanted: &[ValueId], tolerance: f64) {
    let gradients = graph.backward(loss, wanted).unwrap();
    for &gradient in &gradients {
        graph.mark_output(gradient).unwrap();
    }
    let pairs: Vec<_> = wanted.iter().copied().zip(gradients).collect();
    let data = draw(&graph, 3, 77);
    assert_gradients(what, &graph, loss, &pairs, &data, 1.0 / 16384.0, tolerance);
    on_the_device(what, &graph, &pairs, &data);
}

fn on_the_device(what: &str, graph: &Graph, pairs: &[(ValueId, ValueId)], data: &Data) {
    let plan = Plan::compile(gpu(), graph, &PlanOptions::default()).unwrap();
    let mut reference = Reference::new(graph).unwrap();
    for (id, data) in data {
        let value = graph.value(*id).unwrap();
        let floats: Vec<f32> = data.iter().map(|&x| x as f32).collect();
        let rounded: Vec<f64> = floats.iter().copied().map(f64::from).collect();
        reference.write(*id, &rounded).unwrap();
        match (value.role, value.dtype) {
            (Role::Parameter(parameter), _) => {
                let bits: Vec<_> = floats.iter().map(|x| x.to_bits()).collect();
                plan.store().write_weights(parameter, &bits).unwrap();
            }
            (_, DType::U32) => {
                plan.write_u32(*id, &data.iter().map(|&x| x as u32).collect::<Vec<_>>()).unwrap();
            }
            _ => plan.write_f32(*id, &floats).unwrap(),
        }
    }
    let step = StepScalars::forward(graph.batch());
    plan.run(step).unwrap();
    reference.run(step).unwrap();
    for (value, gradient) in pairs {
        let want = reference.read(*gradient);
        let scale = want.iter().fold(0.0f64, |scale, x| scale.max(x.abs()));
        for (got, want) in plan.read_f32(*gradient).unwrap().into_iter().zip(want) {
            let name = &graph.value(*value).unwrap().name;
            let off = (f64::from(got) - want).abs();
            assert!(off <= 1e-5 * scale, "{what}, gradient of {name}: got {got}, expected {want}");
        }
    }
}

fn shape(extents: &[usize]) -> Shape {
    Shape::new(extents).unwrap()
}

fn same(input: [usize; 3], c_out: usize, stride: usize) -> Conv2d {
    let window = Window { padding: Padding::Same, stride: [stride; 2], ..Window::new([3, 3]) };
    Conv2d::new(input, c_out, window, 1, "conv").unwrap()
}

#[test]
fn a_network_with_two_inputs() {
    let mut g = Graph::new(4).unwrap();
    let image = g.batch_input("image", &[4, 4, 2], DType::F32).unwrap();
    let facts = g.batch_input("facts", &[5], DType::F32).unwrap();
    let labels = g.batch_input("labels", &[], DType::U32).unwrap();
    let kernel = g.parameter("kernel", shape(&[3, 3, 2, 3])).unwrap();
    let of_image = g.parameter("of image", shape(&[48, 6])).unwrap();
    let of_facts = g.parameter("of facts", shape(&[5, 6])).unwrap();
    let bias = g.parameter("bias", shape(&[6])).unwrap();
    let head = g.parameter("head", shape(&[6, 3])).unwrap();
    let x = g.push_one(Op::Conv2d(same([4, 4, 2], 3, 1)), &[image, kernel], "conv").unwrap();
    let x = g.push_one(TANH, &[x], "tanh").unwrap();
    let x = g.push_one(Op::Reshape(vec![4, 48]), &[x], "flat").unwrap();
    let a = g.push_one(PRODUCT, &[x, of_image], "a").unwrap();
    let b = g.push_one(PRODUCT, &[facts, of_facts], "b").unwrap();
    let joined = g.push_one(Op::Add, &[a, b], "joined").unwrap();
    let joined = g.push_one(Op::BiasAdd, &[joined, bias], "joined bias").unwrap();
    let hidden = g.push_one(TANH, &[joined], "hidden").unwrap();
    let logits = g.push_one(PRODUCT, &[hidden, head], "logits").unwrap();
    let op = Op::SoftmaxCrossEntropy { smoothing: 0.1 };
    let loss = g.push_one(op, &[logits, labels], "loss").unwrap();
    check("two inputs", g, loss, &[image, facts, kernel, of_image, of_facts, bias, head], 1e-6);
}

/// Quadratic up to a distance of 0.7, linear beyond: with c the difference d clamped to it, c * (d - c / 2) (Huber 1964).
#[test]
fn a_huber_loss_of_operations() {
    let mut g = Graph::new(5).unwrap();
    let x = g.batch_input("x", &[4], DType::F32).unwrap();
    let target = g.batch_input("target", &[3], DType::F32).unwrap();
    let w = g.parameter("w", shape(&[4, 3])).unwrap();
    let y = g.push_one(PRODUCT, &[x, w], "y").unwrap();
    let minus = g.push_one(Op::Scale(-1.0), &[target], "minus").unwrap();
    let d = g.push_one(Op::Add, &[y, minus], "d").unwrap();
    let c = g.push_one(Op::Activation(Activation::Clamp { limit: 0.7 }), &[d], "c").unwrap();
    let half = g.push_one(Op::Scale(-0.5), &[c], "half").unwrap();
    let rest = g.push_one(Op::Add, &[d, half], "rest").unwrap();
    let loss = g.push_one(Op::Mul, &[c, rest], "huber").unwrap();
    g.mark_output(loss).unwrap();
    check("huber", g, loss, &[x, target, w], 1e-6);
}

/// Down by a convolution of stride 2, up by a transposed one, which is the input gradient of such a convolution; and the
/// skip connection beside them.
#[test]
fn a_u_shaped_skip_connection() {
    let mut g = Graph::new(2).unwrap();
    let x = g.batch_input("x", &[8, 8, 2], DType::F32).unwrap();
    let target = g.batch_input("target", &[8, 8, 1], DType::F32).unwrap();
    let names = [
        ("enter", [3, 3, 2, 4]),
        ("down", [3, 3, 4, 8]),
        ("deep", [3, 3, 8, 8]),
        ("up", [3, 3, 4, 8]),
        ("leave", [3, 3, 4, 1]),
    ];
    let [enter, down, deep, up, leave] =
        names.map(|(name, extents)| g.parameter(name, shape(&extents)).unwrap());
    let skip = g.push_one(Op::Conv2d(same([8, 8, 2], 4, 1)), &[x, enter], "enter").unwrap();
    let skip = g.push_one(TANH, &[skip], "skip").unwrap();
    let low = g.push_one(Op::Conv2d(same([8, 8, 4], 8, 2)), &[skip, down], "down").unwrap();
    let low = g.push_one(TANH, &[low], "low").unwrap();
    let low = g.push_one(Op::Conv2d(same([4, 4, 8], 8, 1)), &[low, deep], "deep").unwrap();
    let low = g.push_one(TANH, &[low], "deep tanh").unwrap();
    let high = g.push_one(Op::Conv2dGradInput(same([8, 8, 4], 8, 2)), &[low, up], "up").unwrap();
    let joined = g.push_one(Op::Add, &[skip, high], "joined").unwrap();
    let y = g.push_one(Op::Conv2d(same([8, 8, 4], 1, 1)), &[joined, leave], "leave").unwrap();
    let loss = g.push_one(Op::MeanSquaredError, &[y, target], "loss").unwrap();
    check("u-shaped", g, loss, &[x, enter, down, deep, up, leave], 1e-6);
}
