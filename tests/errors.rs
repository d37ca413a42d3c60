//! Bad input gives the error that names it, and changes nothing.

use crate::support::device::gpu;
use crate::support::training::*;
use frazil::gpu::{Backend, GpuOptions};
use frazil::graph::{Conv2d, DType, Graph, Op, StepScalars, UpdateRule};
use frazil::shape::{Shape, Window};
use frazil::{
    Adam, Batch, Dataset, Error, FreezeRule, Gpu, Loss, Mask, Model, Padding, Plan, PlanOptions, Sgd,
    ThawPolicy, Trainer, TrainerOptions,
};
use std::time::Duration;

/// The error's name, and that its message holds these parts.
macro_rules! refused {
    ($result:expr, $variant:pat, $($part:expr),*) => {{
        let error = $result.err().expect("an error");
        let message = error.to_string();
        assert!(matches!(&error, $variant), "{error:?}");
        $(assert!(message.contains($part), "{message:?} lacks {:?}", $part);)*
    }};
}

#[test]
fn no_adapter() {
    refused!(
        Gpu::new(GpuOptions::default().adapter("no such card")),
        Error::NoAdapter { .. },
        "no such card",
        gpu().report().name.as_str()
    );
    refused!(Gpu::new(GpuOptions::default().adapter("999")), Error::NoAdapter { .. }, "999");
    if !cfg!(target_os = "macos") {
        let metal = Gpu::new(GpuOptions::default().backend(Backend::Metal));
        refused!(metal, Error::NoAdapter { .. }, "metal", "frazil devices");
    }
    refused!("glide".parse::<Backend>(), Error::InvalidArgument { .. }, "glide", "vulkan");
}

#[test]
fn layers_that_do_not_fit() {
    let small = Model::input([2, 8, 1]).conv2d("conv1", 4, [3, 3], |c| c).build();
    refused!(small, Error::ShapeMismatch { .. }, "conv1", "at least 3 rows");
    let groups = Model::input([8, 8, 3]).conv2d("c", 4, [3, 3], |c| c.groups(2)).build();
    refused!(groups, Error::InvalidArgument { .. }, "2 groups for 3 input");
    let stride = Model::input([8, 8, 3]).conv2d("c", 4, [3, 3], |c| c.stride([0, 1])).build();
    refused!(stride, Error::InvalidArgument { .. }, "stride 0");
    refused!(Model::input([8, 8, 3]).dense("fc", 4).build(), Error::ShapeMismatch { .. }, "fc", "flatten");
    for name in ["mask.fc", "fc*", "fc?", "fc=", ""] {
        refused!(Model::input([8]).dense(name, 4).build(), Error::InvalidArgument { .. }, "name");
    }
    refused!(Model::input([8]).dense("fc", 0).build(), Error::InvalidArgument { .. }, "fc");
    refused!(Model::input([8]).dense("fc", 4).dense("fc", 4).build(), Error::InvalidArgument { .. }, "fc");
    refused!(Model::input([0, 8, 3]).flatten().build(), Error::InvalidArgument { .. }, "shape");
    refused!(
        Model::input([8]).conv2d("c", 1, [1, 1], |c| c).build(),
        Error::ShapeMismatch { .. },
        "[h, w, c]"
    );
    let image = Model::input([4, 4, 1]).conv2d("c", 1, [1, 1], |c| c).build().unwrap();
    let sgd = || Sgd::new(0.1);
    let loss = Loss::SoftmaxCrossEntropy;
    let output = Trainer::new(gpu(), image, loss.clone(), sgd(), TrainerOptions::batch(2));
    refused!(output, Error::ShapeMismatch { .. }, "model output", "[classes]");
    let bare = Model::input([4]).relu().build().unwrap();
    refused!(
        Trainer::new(gpu(), bare, loss.clone(), sgd(), TrainerOptions::batch(2)),
        Error::InvalidArgument { .. },
        "parameters"
    );
    refused!(
        Trainer::new(gpu(), model(), loss.clone(), sgd(), TrainerOptions::batch(0)),
        Error::EmptyBatch { .. },
        "example"
    );
    for lanes in [0, 3, 16, 64] {
        let family = frazil::kernels::GemmFamily::Subgroup { lanes };
        let options = TrainerOptions::batch(2).family(family);
        refused!(
            Trainer::new(gpu(), model(), loss.clone(), sgd(), options),
            Error::InvalidArgument { .. },
            "gemm family"
        );
    }
    let rate = Trainer::new(gpu(), model(), loss, Adam::new(-1.0), TrainerOptions::batch(2));
    refused!(rate, Error::InvalidArgument { .. }, "learning rate", "-1");
}

#[test]
fn batches_that_do_not_fit_change_nothing() {
    let mut t = trainer(Sgd::new(0.1).momentum(0.9).into(), TrainerOptions::batch(ROWS).seed(3));
    let before = t.digest().unwrap();
    let batch = |rows: usize, features: usize, label: u32| Batch {
        features: vec![0.5; features],
        labels: vec![label; rows],
        ..Batch::default()
    };
    refused!(t.step(&batch(0, 0, 0)), Error::EmptyBatch { .. }, "Trainer::step");
    refused!(t.step(&batch(2, 99, 0)), Error::ShapeMismatch { .. }, "100 features", "99 features");
    refused!(t.step(&batch(7, 350, 0)), Error::ShapeMismatch { .. }, "at most 6 rows", "7");
    refused!(t.step(&batch(2, 100, 4)), Error::LabelOutOfRange { row: 0, label: 4, classes: 4 }, "label 4");
    assert_eq!(t.digest().unwrap(), before);

    let other = Dataset::new("other", [5, 5, 1], vec![0.0; 25], vec![0], 4).unwrap();
    refused!(t.evaluate(&other), Error::ShapeMismatch { .. }, "other", "[5, 5, 2]", "[5, 5, 1]");
    let classes = Dataset::new("more", [5, 5, 2], vec![0.0; 50], vec![0], 5).unwrap();
    refused!(t.evaluate(&classes), Error::ShapeMismatch { .. }, "more", "classes");
    refused!(t.set_learning_rate(f64::NAN), Error::InvalidArgument { .. }, "learning rate");
}

#[test]
fn masks_and_paths_that_do_not_fit_change_nothing() {
    let mut t = trainer(Sgd::new(0.1).into(), TrainerOptions::batch(ROWS).seed(3));
    let before = snapshot(&t);
    refused!(
        t.freeze("conv.kernal", FreezeRule::all()),
        Error::UnknownParameter { .. },
        "conv.kernal",
        "conv.kernel"
    );
    refused!(t.freeze("pool*", FreezeRule::all()), Error::UnknownParameter { .. }, "pool*");
    refused!(t.mask("fc"), Error::UnknownParameter { .. }, "fc.bias");
    refused!(t.thaw("x", FreezeRule::all(), ThawPolicy::KeepState), Error::UnknownParameter { .. }, "x");
    // One of several tensors does not fit: none is frozen.
    let five = FreezeRule::mask(Mask::all(5));
    refused!(t.freeze("*", five), Error::MaskMismatch { .. }, "conv.kernel", "90", "5");
    refused!(t.freeze("*", FreezeRule::random(1.5)), Error::InvalidArgument { .. }, "1.5");
    refused!(
        t.replace_mask("fc.bias", Mask::none(5), ThawPolicy::KeepState),
        Error::MaskMismatch { .. },
        "fc.bias"
    );
    refused!(
        t.set_and_freeze("fc.bias", &[0.0; 4], &Mask::all(3)),
        Error::MaskMismatch { .. },
        "fc.bias",
        "4",
        "3"
    );
    refused!(t.set_and_freeze("fc.bias", &[0.0; 5], &Mask::all(4)), Error::ShapeMismatch { .. }, "fc.bias");
    refused!(t.set_parameter("fc.bias", &[0.0; 3]), Error::ShapeMismatch { .. }, "fc.bias", "4");
    refused!(t.state("fc.bias", 0), Error::InvalidArgument { .. }, "state slot");
    assert_eq!(t.frozen_count(), 0);
    assert!(snapshot(&t) == before);
}

#[test]
fn graphs_that_do_not_fit() {
    refused!(Graph::new(0), Error::EmptyBatch { .. }, "Graph::new");
    let mut g = Graph::new(2).unwrap();
    let x = g.batch_input("x", &[6, 6, 2], DType::F32).unwrap();
    let kernel = g.input("kernel", Shape::new([3, 3, 1, 4]).unwrap(), DType::F32);
    let conv = Op::Conv2d(Conv2d::new([6, 6, 2], 4, Window::new([3, 3]), 1, "conv").unwrap());
    refused!(
        g.push(conv, &[x, kernel], "conv"),
        Error::ShapeMismatch { .. },
        "conv: kernel",
        "[3, 3, 2, 4]",
        "[3, 3, 1, 4]"
    );
    let product = Op::MatMul { transpose_a: false, transpose_b: false };
    refused!(g.push(product, &[x, kernel], "fc"), Error::ShapeMismatch { .. }, "fc");
    refused!(g.push(Op::BiasAdd, &[x], "bias"), Error::InvalidArgument { .. }, "2 operands");
    let w = g.parameter("w", Shape::new([3]).unwrap()).unwrap();
    refused!(g.parameter("w", Shape::new([3]).unwrap()), Error::InvalidArgument { .. }, "w");
    let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    refused!(
        g.push(Op::Update(rule, vec![frazil::graph::ParameterId::of(0).into()]), &[kernel], "up"),
        Error::ShapeMismatch { .. },
        "gradient of w"
    );
    let y = g.push_one(Op::Relu, &[x], "relu").unwrap();
    let plan = Plan::compile(gpu(), &g, &PlanOptions::default()).unwrap();
    refused!(plan.write_f32(x, &[0.0; 71]), Error::ShapeMismatch { .. }, "x", "71");
    refused!(plan.write_u32(x, &[0; 72]), Error::InvalidArgument { .. }, "F32", "U32");
    refused!(plan.write_f32(y, &[0.0; 72]), Error::InvalidArgument { .. }, "computed");
    refused!(plan.read_f32(y), Error::InvalidArgument { .. }, "mark_output");
    plan.write_f32(w, &[1.0; 3]).unwrap();
    // Geometries made by hand.
    let mut odd = Conv2d::new([6, 6, 2], 4, Window::new([3, 3]), 1, "conv").unwrap();
    let kernel = g.input("kernel", Shape::new([3, 3, 2, 4]).unwrap(), DType::F32);
    odd.window.pad_begin = [usize::MAX, 0];
    refused!(g.push(Op::Conv2d(odd), &[x, kernel], "odd"), Error::InvalidArgument { .. }, "odd", "padding");
    odd.window.pad_begin = [0, 0];
    odd.window.output = [1 << 40, 4];
    refused!(
        g.push(Op::Conv2d(odd), &[x, kernel], "odd"),
        Error::InvalidArgument { .. },
        "odd",
        "padded input"
    );
    // Ids of another graph.
    let mut small = Graph::new(1).unwrap();
    refused!(small.mark_output(y), Error::InvalidArgument { .. }, "another");
    refused!(small.push(Op::Relu, &[y], "relu"), Error::InvalidArgument { .. }, "another");
    assert!(small.value(y).is_none() && small.parameter_value(frazil::graph::ParameterId::of(7)).is_none());
    let other = Plan::compile(gpu(), &small, &PlanOptions::default()).unwrap();
    refused!(other.read_f32(y), Error::InvalidArgument { .. }, "one of this graph");
    refused!(other.write_f32(y, &[0.0]), Error::InvalidArgument { .. }, "one of this graph");
    refused!(
        other.store().read_weights(frazil::graph::ParameterId::of(0)),
        Error::InvalidArgument { .. },
        "parameter"
    );
    other.run(StepScalars::forward(1)).unwrap();
    refused!(plan.run(StepScalars::forward(0)), Error::EmptyBatch { .. }, "Plan::run");
    refused!(plan.run(StepScalars::forward(3)), Error::ShapeMismatch { .. }, "at most 2");
}

#[test]
fn sizes_over_a_limit_are_refused_before_anything_is_made() {
    let gpu = Gpu::new(GpuOptions::default().memory_budget(8 << 20)).unwrap();
    let big = |width: usize| {
        let mut g = Graph::new(1).unwrap();
        let x = g.input("big", Shape::new([width]).unwrap(), DType::F32);
        let y = g.push_one(Op::Relu, &[x], "relu").unwrap();
        g.mark_output(y).unwrap();
        g
    };
    let limit = usize::try_from(gpu.report().max_binding / 4).unwrap();
    refused!(
        Plan::compile(&gpu, &big(limit + 1), &PlanOptions::default()),
        Error::LimitExceeded { .. },
        "big"
    );
    let estimate = Plan::estimate(&big(limit + 1), gpu.report(), &PlanOptions::default());
    refused!(estimate, Error::LimitExceeded { .. }, "big");
    // Within the device's limits, over our own budget.
    refused!(
        Plan::compile(&gpu, &big(3 << 20), &PlanOptions::default()),
        Error::LimitExceeded { .. },
        "budget"
    );
    assert_eq!(gpu.allocated_bytes(), 0);
    let plan = Plan::compile(&gpu, &big(1 << 10), &PlanOptions::default()).unwrap();
    assert!(gpu.allocated_bytes() > 0);
    drop(plan);
    assert_eq!(gpu.allocated_bytes(), 0);
}

#[test]
fn a_wait_that_takes_too_long() {
    let gpu = Gpu::new(GpuOptions::default().timeout(Duration::from_millis(1))).unwrap();
    let mut g = Graph::new(1).unwrap();
    let product = Op::MatMul { transpose_a: false, transpose_b: false };
    let square = || Shape::new([1024, 1024]).unwrap();
    let (a, b) = (g.input("a", square(), DType::F32), g.input("b", square(), DType::F32));
    let c = g.push_one(product, &[a, b], "gemm").unwrap();
    g.mark_output(c).unwrap();
    let plan = Plan::compile(&gpu, &g, &PlanOptions::default()).unwrap();
    plan.run(StepScalars::forward(1)).unwrap();
    refused!(gpu.wait(), Error::Timeout { .. }, "1ms");
}

#[test]
fn a_lost_device_is_named_at_every_call() {
    let descriptor = frazil::wgpu::InstanceDescriptor::new_without_display_handle();
    let instance = frazil::wgpu::Instance::new(descriptor);
    let all = pollster::block_on(instance.enumerate_adapters(frazil::wgpu::Backends::PRIMARY));
    let adapter = all.first().expect("an adapter to test");
    let descriptor = frazil::wgpu::DeviceDescriptor::default();
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    // A device of the application's own: works as it is, with its default limits.
    let gpu = Gpu::from_wgpu(adapter, device.clone(), queue);
    let mut t =
        Trainer::new(&gpu, model(), Loss::SoftmaxCrossEntropy, Sgd::new(0.1), TrainerOptions::batch(ROWS))
            .unwrap();
    train(&mut t, 2);
    assert!(t.metrics().unwrap().loss.is_finite());
    device.destroy();
    // Again and again: the first failure must not leave anything behind on which a later call waits for ever.
    for _ in 0..8 {
        refused!(t.metrics(), Error::DeviceLost { .. }, "lost");
        refused!(t.step(&batches(1)[0]), Error::DeviceLost { .. }, "checkpoint");
        refused!(t.verify_frozen(), Error::DeviceLost { .. }, "lost");
        refused!(t.parameter("fc.bias"), Error::DeviceLost { .. }, "lost");
    }
}

#[test]
fn a_report_counts_every_byte() {
    let gpu = Gpu::new(GpuOptions::default()).unwrap();
    let rule = UpdateRule::Adam {
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        weight_decay: 0.0,
        decoupled: false,
        amsgrad: false,
    };
    let graph = model().training_graph(ROWS, Loss::SoftmaxCrossEntropy, rule).unwrap().graph;
    let plan = Plan::compile(&gpu, &graph, &PlanOptions::default()).unwrap();
    assert_eq!(plan.report().bytes(), gpu.allocated_bytes());
    assert_eq!(Plan::estimate(&graph, gpu.report(), &PlanOptions::default()).unwrap(), *plan.report());
    // A store without gradients cannot be trained on.
    let forward = model().evaluation_graph(ROWS, Loss::SoftmaxCrossEntropy).unwrap().graph;
    let store = frazil::plan::Store::new(&gpu, &forward).unwrap();
    let plain = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let training = model().training_graph(ROWS, Loss::SoftmaxCrossEntropy, plain).unwrap().graph;
    let options = PlanOptions::default();
    refused!(Plan::compile_with(&gpu, &training, &store, &options), Error::InvalidArgument { .. }, "store");
}

#[test]
fn files_that_cannot_be_written() {
    let t = trainer(Sgd::new(0.1).into(), TrainerOptions::batch(ROWS));
    let missing = std::env::temp_dir().join("frazil-no-such-folder").join("x.safetensors");
    refused!(t.save(&missing), Error::Io { .. }, "frazil-no-such-folder");
}

#[test]
fn padding_is_bounded() {
    let far = Padding::Explicit { top: usize::MAX, bottom: 0, left: 0, right: 0 };
    let model = Model::input([8, 8, 1]).conv2d("c", 1, [3, 3], |c| c.padding(far)).build();
    refused!(model, Error::InvalidArgument { .. }, "padding");
}
