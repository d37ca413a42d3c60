//! Tests saliency maps, the gradient of a class score with respect to the image, through entire models
//! (Simonyan et al. 2014). Also tests `Graph::mean_per_example`, which averages the scores of each example
//! into a loss.

use crate::support::compare::assert_relative;
use crate::support::device::{device, families};
use crate::support::executor::{Make, reference};
use crate::support::gradients::{Data, assert_gradients, draw};
use frazil::low_level::Shape;
use frazil::low_level::{DType, Graph, Op, Role, StepScalars, ValueId};
use frazil::{Error, Loss, Model, Padding::Same};

const BATCH: usize = 3;

/// Builds a model with batch norm, a residual block, max-pooling, average pooling and four activations.
fn model() -> Model {
    Model::input([6, 6, 2])
        .conv2d("conv1", 4, [3, 3], |c| c.padding(Same))
        .batch_norm("bn1")
        .relu()
        .residual("block", |m| m.conv2d("conv2", 4, [3, 3], |c| c.padding(Same)).gelu(), |s| s)
        .max_pool2d([2, 2])
        .conv2d("conv3", 5, [2, 2], |c| c)
        .leaky_relu(0.1)
        .avg_pool2d([2, 2])
        .flatten()
        .dense("fc1", 6)
        .tanh()
        .dense("fc2", 3)
        .build()
        .unwrap()
}

/// An evaluation graph, extended by the gradient of a class score with respect to the image: the saliency
/// map.
struct Saliency {
    graph: Graph,
    image: ValueId,
    /// Input `[batch, classes]`: the weight of each class in an example's score.
    classes: ValueId,
    score: ValueId,
    map: ValueId,
}

fn saliency() -> Saliency {
    let built = model().evaluation_graph(BATCH, Loss::SoftmaxCrossEntropy).unwrap();
    let mut graph = built.graph;
    let classes = graph.batch_input("classes", &[3], DType::F32).unwrap();
    let weighted = graph.push_one(Op::Mul, &[built.logits, classes], "weighted").unwrap();
    let score = graph.mean_per_example(weighted, "score").unwrap();
    let map = graph.backward(score, &[built.input]).unwrap()[0];
    graph.mark_output(map).unwrap();
    Saliency { graph, image: built.input, classes, score, map }
}

/// Draws normal random data for inputs and parameters. Parameters are scaled by 0.3, so that no activation
/// saturates, and running variances are positive.
fn data(graph: &Graph) -> Data {
    let mut data = draw(graph, 3, 8);
    for (id, data) in &mut data {
        let value = graph.value(*id).unwrap();
        let variance = value.name.ends_with("running_var");
        if value.role != Role::Input {
            data.iter_mut().for_each(|x| *x = if variance { x.abs() + 0.5 } else { 0.3 * *x });
        }
    }
    data
}

#[test]
fn saliency_map_matches_differences() {
    let s = saliency();
    let pairs = [(s.image, s.map)];
    // The step is so small that no ReLU input changes its sign and no maximum changes its position.
    assert_gradients("saliency map", &s.graph, s.score, &pairs, &data(&s.graph), 1.0 / 262_144.0, 1e-6);
}

#[test]
fn saliency_map_on_the_device_matches_the_reference() {
    let s = saliency();
    let mut data = data(&s.graph);
    // Sets the class weights of the first example to 0, so that its saliency map (the first 6 * 6 * 2 = 72
    // elements) is 0.
    data.iter_mut().filter(|(id, _)| *id == s.classes).for_each(|(_, data)| data[..3].fill(0.0));
    let run = |make: Make| {
        let mut executor = make(&s.graph);
        data.iter().for_each(|(id, data)| executor.write(*id, data).unwrap());
        executor.run(StepScalars::forward(BATCH)).unwrap();
        executor.read(s.map)
    };
    let want = run(&reference);
    assert!(want[..72].iter().all(|&x| x == 0.0) && want[72..].iter().any(|&x| x != 0.0));
    for family in families() {
        let got = run(&|graph: &Graph| device(graph, family));
        let error = assert_relative(&format!("saliency map, {family}"), &got, &want, 1e-5);
        println!("saliency map, {family}: within {error:.1e}");
    }
}

/// Builds a graph with `mean_per_example` of `x * weight`, both of shape `[3, 2, 5]`, and the gradient of the
/// mean over the batch with respect to `x`.
fn means() -> (Graph, [ValueId; 4]) {
    let mut graph = Graph::new(BATCH).unwrap();
    let [x, weight] = ["x", "weight"].map(|name| graph.batch_input(name, &[2, 5], DType::F32).unwrap());
    let weighted = graph.push_one(Op::Mul, &[x, weight], "weighted").unwrap();
    let means = graph.mean_per_example(weighted, "means").unwrap();
    let dx = graph.backward(means, &[x]).unwrap()[0];
    [means, dx].iter().for_each(|&id| graph.mark_output(id).unwrap());
    (graph, [x, weight, means, dx])
}

#[test]
fn mean_per_example_averages_each_example_and_scales_its_gradient() {
    let (graph, [x, weight, means, dx]) = means();
    assert_eq!(graph.value(means).unwrap().shape.extents(), [BATCH]);
    let data = draw(&graph, 0, 9);
    assert_gradients("mean_per_example", &graph, means, &[(x, dx)], &data, 1.0 / 64.0, 1e-11);
    let of = |id: ValueId| &data.iter().find(|(other, _)| *other == id).unwrap().1;
    let products: Vec<f64> = of(x).iter().zip(of(weight)).map(|(x, w)| x * w).collect();
    let check = |what: &str, make: Make, tolerance: f64| {
        let mut executor = make(&graph);
        data.iter().for_each(|(id, data)| executor.write(*id, data).unwrap());
        for rows in [BATCH, BATCH - 1] {
            executor.run(StepScalars::forward(rows)).unwrap();
            let want: Vec<_> = products.chunks(10).take(rows).map(|p| p.iter().sum::<f64>() / 10.0).collect();
            assert_relative(&format!("means, {what}"), &executor.read(means)[..rows], &want, tolerance);
            let want: Vec<_> = of(weight)[..10 * rows].iter().map(|w| w / (10 * rows) as f64).collect();
            assert_relative(&format!("gradient, {what}"), &executor.read(dx)[..10 * rows], &want, tolerance);
        }
    };
    check("reference", &reference, 1e-15);
    for family in families() {
        check(&family.to_string(), &|graph: &Graph| device(graph, family), 1e-6);
    }
}

#[test]
fn mean_per_example_rejects_values_without_examples_or_floats() {
    let mut graph = Graph::new(BATCH).unwrap();
    let labels = graph.batch_input("labels", &[2], DType::U32).unwrap();
    let fixed = graph.input("fixed", Shape::new([3, 2]).unwrap(), DType::F32);
    let parameter = graph.parameter("parameter", Shape::new([3, 2]).unwrap()).unwrap();
    // `foreign` is the id of a value in another graph; `graph` must reject it.
    let foreign = means().1[3];
    for id in [labels, fixed, parameter, foreign] {
        let rejected = graph.mean_per_example(id, "means");
        assert!(matches!(rejected, Err(Error::InvalidArgument { .. })), "{rejected:?}");
    }
    assert!(graph.nodes().is_empty() && graph.values().iter().all(|v| v.role != Role::Computed));
}
