//! Tests of ResNet-50 and of smaller networks with its structure.

use crate::support::device::{device, families, gpu};
use crate::support::executor::reference;
use crate::support::training::{assert_frozen, moved, snapshot};
use frazil::gpu::{AdapterReport, Backend, DeviceKind};
use frazil::low_level::{ParameterKind, Plan, PlanOptions, Purpose, StepScalars, Stream, UpdateRule};
use frazil::{FreezeRule, Loss, Model, Sgd, Trainer, TrainerOptions};

/// ResNet-50's structure with all its kinds of blocks, and few channels.
fn small() -> Model {
    Model::bottleneck_resnet(&[64, 64, 3], 3, 4, [2, 1, 1, 1]).unwrap()
}

/// Gradients of all parameters on the device, in every GEMM family, match the f64 reference.
#[test]
fn gradients_of_the_structure_match_the_reference() {
    const ROWS: usize = 4;
    let model = small();
    let (built, gradients) = model.gradient_graph(ROWS, Loss::SoftmaxCrossEntropy).unwrap();
    let graph = &built.graph;
    let trained: Vec<_> =
        model.parameters().iter().filter(|p| p.kind == ParameterKind::Trained).map(|p| &p.path).collect();
    assert_eq!(gradients.len(), trained.len());
    let mut draw = Stream::new(5, Purpose::Data, 0);
    let mut inputs = vec![(built.labels, vec![0.0, 2.0, 1.0, 2.0])];
    inputs.push((built.input, (0..ROWS * 64 * 64 * 3).map(|_| f64::from(draw.normal())).collect()));
    for (index, spec) in model.parameters().iter().enumerate() {
        let id = frazil::low_level::ParameterId::of(index);
        let values = spec.init.values(&spec.path, spec.shape.elements(), spec.fan, &mut draw).unwrap();
        inputs.push((graph.parameter_value(id).unwrap(), values.into_iter().map(f64::from).collect()));
    }
    let run = |mut executor: Box<dyn crate::support::executor::Executor>| -> Vec<Vec<f64>> {
        inputs.iter().for_each(|(value, data)| executor.write(*value, data).unwrap());
        executor.run(StepScalars::forward(ROWS)).unwrap();
        gradients.iter().map(|&gradient| executor.read(gradient)).collect()
    };
    let expected = run(reference(graph));
    for family in families() {
        let got = run(device(graph, family));
        for ((path, got), expected) in trained.iter().zip(&got).zip(&expected) {
            let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
            let size = norm(&mut expected.iter().copied());
            let error = norm(&mut got.iter().zip(expected).map(|(got, expected)| got - expected));
            assert!(size > 0.0 && error <= 1e-4 * size, "{family}: {path}: relative error {}", error / size);
        }
    }
}

#[test]
fn the_structure_trains_with_half_of_its_kernels_frozen() {
    let data = frazil::data::synthetic("noise", [64, 64, 3], 3, 8, 2).unwrap();
    let batch = data.in_order(8).unwrap().next().unwrap();
    let run = || {
        let options = TrainerOptions::batch(8).seed(3);
        let sgd = Sgd::new(0.05).momentum(0.9);
        let mut t = Trainer::new(gpu(), small(), Loss::SoftmaxCrossEntropy, sgd, options).unwrap();
        t.freeze("layer*.kernel", FreezeRule::random(0.5)).unwrap();
        let before = snapshot(&t);
        let first = t.step_loss(&batch).unwrap();
        (1..20).for_each(|_| t.step(&batch).unwrap());
        let last = t.step_loss(&batch).unwrap();
        assert!(last < 0.3 * first, "the loss goes from {first} to {last}");
        assert_frozen("resnet", &t, &before);
        let (moved, trainable) = moved(&t, &before);
        assert!(10 * moved > 9 * trainable, "{moved} of {trainable}");
        t.digest().unwrap()
    };
    assert_eq!(run(), run());
}

/// Compiles training steps of ResNet-50 for every class of devices, without a device.
#[test]
fn resnet50_compiles_for_every_class_of_devices() {
    let model = Model::resnet50().unwrap();
    let sgd = UpdateRule::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
    let loss = || Loss::SoftmaxCrossEntropy;
    let forward = model.evaluation_graph(4, loss()).unwrap().graph;
    let backward = model.gradient_graph(4, loss()).unwrap().0.graph;
    let training = model.training_graph(4, loss(), sgd).unwrap().graph;
    for kind in [DeviceKind::Discrete, DeviceKind::Integrated, DeviceKind::Cpu] {
        let adapter = AdapterReport::new("none", Backend::Vulkan, kind);
        let estimate = |graph| Plan::estimate(graph, &adapter, &PlanOptions::default()).unwrap();
        // torchvision states 4.09 GFLOPS for an image, in multiply-adds.
        let gemms: u64 =
            estimate(&forward).dispatches.iter().filter(|d| d.tile_flops > 0).map(|d| d.flops).sum();
        if kind != DeviceKind::Cpu {
            assert_eq!((gemms as f64 / 8e7).round() / 100.0, 4.09, "{kind}");
        }
        let [backward, training] = [&backward, &training].map(estimate);
        let has_update = |report: &frazil::low_level::PlanReport| {
            report.dispatches.iter().any(|d| d.kernel == "sgd_momentum_update")
        };
        assert!(!has_update(&backward) && has_update(&training), "{kind}");
        assert!(backward.flops() < training.flops() && backward.flops() > 2 * gemms, "{kind}");
        println!("{kind}: {} dispatches, {} MiB", training.dispatches.len(), training.bytes() >> 20);
    }
}

/// Names may have several components, as torchvision's have, but none that is empty.
#[test]
fn layer_names_may_have_several_components() {
    let build = |names: &[&str]| {
        let dense = |model: frazil::model::ModelBuilder, name: &&str| model.dense(name, 2);
        names.iter().fold(Model::input([3]), dense).build()
    };
    let model = build(&["layer1.0", "layer1.1"]).unwrap();
    let paths: Vec<_> = model.parameters().iter().map(|p| p.path.as_str()).collect();
    assert_eq!(paths, ["layer1.0.kernel", "layer1.0.bias", "layer1.1.kernel", "layer1.1.bias"]);
    for wrong in ["", ".a", "a.", "a..b", "a*", "a?b", "a=b", "a\n"] {
        let error = build(&[wrong]).unwrap_err();
        assert!(matches!(error, frazil::Error::InvalidArgument { .. }), "{wrong:?}: {error}");
    }
    assert!(build(&["a.b", "a.b"]).unwrap_err().to_string().contains("a.b"));
    // A name and a residual layer may give the same path.
    let twice = Model::input([2])
        .dense("a.b", 2)
        .residual("a", |main| main.dense("b", 2), |shortcut| shortcut)
        .build();
    assert!(twice.unwrap_err().to_string().contains("\"a.b\" twice"));
}
