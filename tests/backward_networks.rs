//! Tests of `Graph::backward` on custom networks and losses, built from operations instead of layers and
//! `Loss`. The gradients of the CPU reference are compared with central differences, and those of the device
//! with the reference.

use crate::support::device::gpu;
use crate::support::gradients::{Data, assert_gradients, draw};
use frazil::low_level::Reference;
use frazil::low_level::{Activation, Conv2d, DType, Graph, Op, Role, StepScalars, ValueId};
use frazil::low_level::{Padding, Shape, Window};
use frazil::low_level::{Plan, PlanOptions};

const TANH: Op = Op::Activation(Activation::Tanh);
const MATMUL: Op = Op::MatMul { transpose_a: false, transpose_b: false };

/// Differentiates the mean of `loss` with respect to `values`. Compares the gradients of the CPU reference
/// with central differences, and those of the device with the reference.
fn check(what: &str, mut graph: Graph, loss: ValueId, values: &[ValueId], tolerance: f64) {
    let gradients = graph.backward(loss, values).unwrap();
    for &gradient in &gradients {
        graph.mark_output(gradient).unwrap();
    }
    let pairs: Vec<_> = values.iter().copied().zip(gradients).collect();
    let data = draw(&graph, 3, 77);
    assert_gradients(what, &graph, loss, &pairs, &data, 1.0 / 16384.0, tolerance);
    compare_on_device(what, &graph, &pairs, &data);
}

/// Compares the gradients of the device with those of the CPU reference. Both get the same data, rounded to
/// f32.
fn compare_on_device(what: &str, graph: &Graph, pairs: &[(ValueId, ValueId)], data: &Data) {
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
        let expected = reference.read(*gradient);
        let scale = expected.iter().fold(0.0f64, |scale, x| scale.max(x.abs()));
        for (got, expected) in plan.read_f32(*gradient).unwrap().into_iter().zip(expected) {
            let name = &graph.value(*value).unwrap().name;
            let error = (f64::from(got) - expected).abs();
            assert!(error <= 1e-5 * scale, "{what}, gradient of {name}: expected {expected}, got {got}");
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
fn network_with_two_inputs() {
    let mut g = Graph::new(4).unwrap();
    let image = g.batch_input("image", &[4, 4, 2], DType::F32).unwrap();
    let facts = g.batch_input("facts", &[5], DType::F32).unwrap();
    let labels = g.batch_input("labels", &[], DType::U32).unwrap();
    let kernel = g.parameter("kernel", shape(&[3, 3, 2, 3])).unwrap();
    let image_weights = g.parameter("image weights", shape(&[48, 6])).unwrap();
    let facts_weights = g.parameter("facts weights", shape(&[5, 6])).unwrap();
    let bias = g.parameter("bias", shape(&[6])).unwrap();
    let head = g.parameter("head", shape(&[6, 3])).unwrap();
    let x = g.push_one(Op::Conv2d(same([4, 4, 2], 3, 1)), &[image, kernel], "conv").unwrap();
    let x = g.push_one(TANH, &[x], "tanh").unwrap();
    let x = g.push_one(Op::Reshape(vec![4, 48]), &[x], "flat").unwrap();
    let a = g.push_one(MATMUL, &[x, image_weights], "a").unwrap();
    let b = g.push_one(MATMUL, &[facts, facts_weights], "b").unwrap();
    let joined = g.push_one(Op::Add, &[a, b], "joined").unwrap();
    let joined = g.push_one(Op::BiasAdd, &[joined, bias], "joined bias").unwrap();
    let hidden = g.push_one(TANH, &[joined], "hidden").unwrap();
    let logits = g.push_one(MATMUL, &[hidden, head], "logits").unwrap();
    let op = Op::SoftmaxCrossEntropy { smoothing: 0.1 };
    let loss = g.push_one(op, &[logits, labels], "loss").unwrap();
    check("two inputs", g, loss, &[image, facts, kernel, image_weights, facts_weights, bias, head], 1e-6);
}

/// A Huber loss with threshold 0.7 (Huber 1964), built from operations: `c * (d - c / 2)`, where `c` is the
/// difference `d` clamped to `[-0.7, 0.7]`.
#[test]
fn huber_loss_from_operations() {
    let mut g = Graph::new(5).unwrap();
    let x = g.batch_input("x", &[4], DType::F32).unwrap();
    let target = g.batch_input("target", &[3], DType::F32).unwrap();
    let w = g.parameter("w", shape(&[4, 3])).unwrap();
    let y = g.push_one(MATMUL, &[x, w], "y").unwrap();
    let minus = g.push_one(Op::Scale(-1.0), &[target], "minus").unwrap();
    let d = g.push_one(Op::Add, &[y, minus], "d").unwrap();
    let c = g.push_one(Op::Activation(Activation::Clamp { min: -0.7, max: 0.4 }), &[d], "c").unwrap();
    let half = g.push_one(Op::Scale(-0.5), &[c], "half").unwrap();
    let rest = g.push_one(Op::Add, &[d, half], "rest").unwrap();
    let loss = g.push_one(Op::Mul, &[c, rest], "huber").unwrap();
    g.mark_output(loss).unwrap();
    check("huber", g, loss, &[x, target, w], 1e-6);
}

/// A U-Net of one level: downsampling by a convolution of stride 2, upsampling by a transposed convolution
/// (`Op::Conv2dGradInput` in the forward pass), and a skip connection.
#[test]
fn u_net_with_skip_connection() {
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
