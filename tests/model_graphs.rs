//! Tests models whose layers form a graph: branches, joins, shared layers, several inputs and outputs.

use crate::support::device::gpu;
use crate::support::gradients::assert_gradients;
use frazil::layer::Layer;
use frazil::low_level::{Op, UpdateRule};
use frazil::model::{ModelBuilder, Source};
use frazil::{Batch, Error, FreezeRule, Loss, Model, Padding::Same, Sgd, Trainer, TrainerOptions};

const SGD: UpdateRule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };

/// A convolution of its own and one that is applied twice, joined by a sum of three and a product.
fn branches() -> ModelBuilder {
    let image = Model::input([4, 4, 2]).conv2d("stem", 2, [3, 3], |c| c.padding(Same));
    let once = image.clone().tanh().conv2d("shared", 2, [3, 3], |c| c.padding(Same));
    let twice = once.clone().sigmoid().repeat("again", &once);
    let gate = image.clone().conv2d("gate", 2, [1, 1], |c| c).sigmoid();
    let joined = once.add("sum", [twice, image.clone()]).mul("gated", gate.clone());
    joined.concat("joined", [image, gate]).flatten().dense("fc", 3)
}

#[test]
fn layers_follow_their_operands_and_share_parameters() {
    let model = branches().build().unwrap();
    let names: Vec<_> = model.layers().iter().map(|layer| layer.name()).collect();
    let expected = [
        "stem",
        "tanh1",
        "shared",
        "sigmoid3",
        "again",
        "sum",
        "gate",
        "sigmoid7",
        "gated",
        "joined",
        "flatten10",
        "fc",
    ];
    assert_eq!(names, expected);
    let [stem, again, sum] = [0, 4, 5].map(|index| &model.layers()[index]);
    assert_eq!(stem.inputs(), [Source::Input(0)]);
    assert_eq!((again.repeats(), again.parameters()), (Some(2), model.layers()[2].parameters()));
    assert_eq!(sum.inputs(), [2, 4, 0].map(Source::Layer));
    assert_eq!((sum.layer(), sum.output()), (&Layer::Add, &[4, 4, 2][..]));
    assert_eq!(model.outputs(), [Source::Layer(11)]);
    assert_eq!(model.shape(Source::Input(0)), Some(&[4, 4, 2][..]));
    assert_eq!(model.shape(Source::Layer(9)), Some(&[4, 4, 6][..]));
    assert_eq!(model.shape(Source::Layer(12)), None);
    let paths: Vec<_> = model.parameters().iter().map(|p| p.path.as_str()).collect();
    let kernels =
        ["stem", "shared", "gate", "fc"].map(|layer| [format!("{layer}.kernel"), format!("{layer}.bias")]);
    assert_eq!(paths, kernels.as_flattened());
}

#[test]
fn gradients_of_branches_match_differences() {
    gradients_match_differences("branches", branches());
}

/// Compares the gradients of a model of images `[4, 4, 2]` with 3 classes with differences of its loss.
pub fn gradients_match_differences(name: &str, model: ModelBuilder) {
    let model = model.build().unwrap();
    let built = model.training_graph(3, Loss::SoftmaxCrossEntropy, SGD).unwrap();
    let graph = &built.graph;
    let update = graph.nodes().iter().find(|n| matches!(n.op, Op::Update(..))).unwrap();
    let Op::Update(_, targets) = &update.op else { unreachable!() };
    let wave = |n: usize, step: f64| (0..n).map(|i| (0.3 + i as f64 * step).sin()).collect::<Vec<_>>();
    let mut data = vec![(built.input, wave(3 * 32, 1.7)), (built.labels, vec![0.0, 1.0, 2.0])];
    let mut pairs = Vec::new();
    for (number, (target, &gradient)) in targets.iter().zip(&update.inputs).enumerate() {
        let value = graph.parameter_value(target.parameter).unwrap();
        data.push((value, wave(graph.value(value).unwrap().shape.elements(), 2.1 + number as f64)));
        pairs.push((value, gradient));
    }
    assert_gradients(name, graph, built.mean_loss, &pairs, &data, 1.0 / 262_144.0, 1e-6);
}

/// Squeeze and excitation: a factor for each channel, from the means of the channels, as features and as images.
fn excited() -> ModelBuilder {
    let image = Model::input([4, 4, 2]).conv2d("stem", 2, [3, 3], |c| c.padding(Same));
    let features = image.clone().global_avg_pool().dense("excite", 2).sigmoid();
    let pixels =
        image.clone().global_avg_pool().reshape([1, 1, 2]).conv2d("excite2", 2, [1, 1], |c| c).sigmoid();
    pixels.mul("scaled2", image.mul("scaled", features)).flatten().dense("fc", 3)
}

#[test]
fn gradients_of_channel_factors_match_differences() {
    gradients_match_differences("excited", excited());
}

/// Frozen elements of a shared layer keep their bits, and the rest trains.
#[test]
fn shared_layers_train_and_freeze() {
    let features: Vec<f32> = (0..6 * 32).map(|i| (i as f32 * 1.3).sin()).collect();
    let batch = Batch { features, labels: vec![0, 1, 2, 0, 1, 2], ..Batch::default() };
    let options = TrainerOptions::batch(6).seed(3);
    let model = branches().build().unwrap();
    let mut t = Trainer::new(gpu(), model, Loss::SoftmaxCrossEntropy, Sgd::new(0.2), options).unwrap();
    t.freeze("shared.kernel", FreezeRule::random(0.5)).unwrap();
    let before = t.parameter("shared.kernel").unwrap();
    let first = t.step_loss(&batch).unwrap();
    (1..60).for_each(|_| t.step(&batch).unwrap());
    let last = t.step_loss(&batch).unwrap();
    assert!(last < 0.7 * first, "the loss goes from {first} to {last}");
    let (after, mask) = (t.parameter("shared.kernel").unwrap(), t.mask("shared.kernel").unwrap());
    for (index, (before, after)) in before.iter().zip(&after).enumerate() {
        assert_eq!(before.to_bits() == after.to_bits(), mask.is_frozen(index), "element {index}");
    }
}

#[test]
fn graphs_may_have_several_inputs_and_outputs() {
    let left = Model::named_input("left", [2, 2, 1]).conv2d("a", 2, [1, 1], |c| c);
    let right = Model::named_input("right", [2, 2, 2]);
    let sum = left.add("sum", [right]);
    let model = Model::with_outputs([sum.clone().flatten().dense("fc", 3), sum]).unwrap();
    assert_eq!(model.inputs(), [("left".to_owned(), vec![2, 2, 1]), ("right".to_owned(), vec![2, 2, 2])]);
    assert_eq!(model.outputs(), [Source::Layer(3), Source::Layer(1)]);
    let training = model.training_graph(2, Loss::SoftmaxCrossEntropy, SGD).unwrap_err().to_string();
    assert!(training.contains("one output") && training.contains("2 outputs"), "{training}");
    let both = || Model::named_input("a", [4]).add("sum", [Model::named_input("b", [4])]).dense("fc", 2);
    let training = both().build().unwrap().training_graph(2, Loss::SoftmaxCrossEntropy, SGD).unwrap_err();
    assert!(training.to_string().contains("2 inputs"), "{training}");
}

#[test]
fn only_the_layers_below_a_single_value_can_be_cached() {
    let model = branches().build().unwrap();
    let from = |first: usize| model.training_graph_from(first, 2, Loss::SoftmaxCrossEntropy, SGD);
    // Two values pass between layers 2 and 3, and layer 4 repeats layer 2.
    for (first, fits) in
        [(0, true), (1, true), (2, false), (3, false), (5, false), (9, false), (10, true), (11, true)]
    {
        assert_eq!(from(first).is_ok(), fits, "{first}");
        assert_eq!(first > 0 && model.features_graph(first, 2).is_ok(), fits && first > 0, "{first}");
    }
    let twice = Model::input([4]).dense("fc", 4);
    let repeated = twice.clone().repeat("again", &twice).dense("head", 2).build().unwrap();
    assert!(
        repeated.training_graph_from(1, 2, Loss::SoftmaxCrossEntropy, SGD).is_err(),
        "fc is below and above"
    );
    assert!(repeated.training_graph_from(2, 2, Loss::SoftmaxCrossEntropy, SGD).is_ok());
}

#[test]
fn invalid_joins_are_named() {
    let x = || Model::input([4, 4, 2]);
    let refused = |model: ModelBuilder, parts: &[&str]| {
        let message = model.build().unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };
    let image = x();
    let wide = image.clone().conv2d("wide", 3, [1, 1], |c| c);
    refused(image.clone().add("sum", [wide.clone()]), &["sum", "one shape", "[4, 4, 2]", "[4, 4, 3]"]);
    let small = image.clone().conv2d("small", 2, [3, 3], |c| c);
    refused(image.clone().concat("cat", [small]), &["cat", "before the last", "[2, 2, 2]"]);
    refused(x().concat("cat", []), &["cat", "two operands or more"]);
    refused(x().add("sum", []), &["sum", "two operands or more", "1"]);
    let [two, three] = [2, 3].map(|c| image.clone().flatten().dense("factors", c));
    refused(image.clone().mul("product", three), &["product", "one shape, [4, 4, 2], or a factor", "[3]"]);
    assert!(image.clone().mul("product", two).build().is_ok());
    let row = image.clone().conv2d("row", 2, [4, 1], |c| c);
    refused(image.clone().mul("product", row), &["product", "one shape, [4, 4, 2]", "[1, 4, 2]"]);
    let three = [image.clone(), image.clone()];
    refused(image.clone().join("product", Layer::Mul, three), &["product", "two operands", "3"]);
    refused(x().join("c", Layer::Relu, [x()]), &["input 1", "\"input\" twice"]);
    refused(image.clone().join("c", Layer::Relu, [image.clone()]), &["c", "one operand", "2"]);
    refused(image.clone().repeat("again", &image), &["again", "a layer to repeat", "an input"]);
    refused(wide.clone().repeat("again", &wide), &["again", "wide.kernel", "[1, 1, 2, 3]", "[1, 1, 3, 3]"]);
    refused(x().relu().layer("relu0", Layer::Relu), &["unique", "relu0"]);
    assert!(matches!(Model::with_outputs([]), Err(Error::InvalidArgument { .. })));
    let norm = x().batch_norm("bn");
    let norms = norm.clone().repeat("again", &norm).flatten().dense("fc", 2).build().unwrap();
    let error = norms.training_graph(4, Loss::SoftmaxCrossEntropy, SGD).unwrap_err().to_string();
    assert!(error.contains("again") && error.contains("running statistics"), "{error}");
    let running = norms.use_running_statistics("bn").unwrap();
    assert!(running.training_graph(4, Loss::SoftmaxCrossEntropy, SGD).is_ok());
}

/// Recursion over a model of this length would overflow the stack, when it is built and when it is dropped.
#[test]
fn very_long_models_are_built_and_dropped() {
    let long = (0..200_000).fold(Model::input([3]), |model, _| model.relu());
    let model = long.clone().dense("fc", 2).build().unwrap();
    assert_eq!(model.layers().len(), 200_001);
    drop(long);
    assert!(format!("{:?}", model.layers()[7]).contains("relu7"));
}

/// Nests `depth` residual layers: each has the one below it in its main branch, the lowest a convolution.
fn nested(model: ModelBuilder, depth: usize) -> ModelBuilder {
    match depth {
        0 => model.conv2d("a", 1, [1, 1], |c| c),
        _ => model.residual("a", |main| nested(main, depth - 1), |shortcut| shortcut),
    }
}

#[test]
fn nested_residual_layers_are_built_once_per_level() {
    let model = nested(Model::input([2, 2, 1]), 200).flatten().dense("fc", 2).build().unwrap();
    assert_eq!(model.parameters()[0].path, format!("{}.kernel", ["a"; 201].join(".")));
    assert_eq!(model.layers().len(), 203);
    let graph = model.training_graph(2, Loss::SoftmaxCrossEntropy, SGD).unwrap().graph;
    let sums = graph.nodes().iter().filter(|node| matches!(node.op, Op::Add)).count();
    assert!(sums >= 200, "{sums}");
    assert!(model.evaluation_graph(2, Loss::SoftmaxCrossEntropy).is_ok());
}
