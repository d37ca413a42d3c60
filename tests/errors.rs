//! Tests that invalid input is rejected with an error that names it, and changes nothing.

use crate::support::device::gpu;
use crate::support::skip;
use crate::support::training::*;
use frazil::gpu::{Backend, GpuOptions};
use frazil::low_level::{Conv2d, DType, GemmFamily, Graph, Op, StepScalars, UpdateRule};
use frazil::low_level::{Plan, PlanOptions};
use frazil::low_level::{Shape, Window};
use frazil::{
    Adam, Batch, Dataset, Error, FreezeRule, Gpu, Loss, Mask, Model, Padding, Sgd, ThawPolicy, Trainer,
    TrainerOptions,
};
use std::time::Duration;

/// Asserts that a result is an error of the given variant, whose message contains all the given parts.
macro_rules! assert_error {
    ($result:expr, $variant:pat, $($part:expr),*) => {{
        let error = $result.err().expect("an error");
        let message = error.to_string();
        assert!(matches!(&error, $variant), "{error:?}");
        $(assert!(message.contains($part), "{message:?} lacks {:?}", $part);)*
    }};
}

#[test]
fn missing_adapters_and_unknown_backends_are_named() {
    assert_error!(
        Gpu::new(GpuOptions::default().adapter("no such card")),
        Error::NoAdapter { .. },
        "no such card",
        gpu().report().name.as_str()
    );
    assert_error!(Gpu::new(GpuOptions::default().adapter("999")), Error::NoAdapter { .. }, "999");
    if cfg!(target_os = "macos") {
        skip("errors: no adapter of a backend", "Metal has adapters here");
    } else {
        let metal = Gpu::new(GpuOptions::default().backend(Backend::Metal));
        assert_error!(metal, Error::NoAdapter { .. }, "metal", "frazil devices");
    }
    assert_error!("glide".parse::<Backend>(), Error::InvalidArgument { .. }, "glide", "vulkan");
}

#[test]
fn models_and_trainers_with_invalid_arguments_are_rejected() {
    let small = Model::input([2, 8, 1]).conv2d("conv1", 4, [3, 3], |c| c).build();
    assert_error!(small, Error::ShapeMismatch { .. }, "conv1", "at least 3 rows");
    let groups = Model::input([8, 8, 3]).conv2d("c", 4, [3, 3], |c| c.groups(2)).build();
    assert_error!(groups, Error::InvalidArgument { .. }, "2 groups for 3 input");
    let stride = Model::input([8, 8, 3]).conv2d("c", 4, [3, 3], |c| c.stride([0, 1])).build();
    assert_error!(stride, Error::InvalidArgument { .. }, "stride 0");
    assert_error!(
        Model::input([8, 8, 3]).dense("fc", 4).build(),
        Error::ShapeMismatch { .. },
        "fc",
        "flatten"
    );
    for name in ["mask.fc", "state.m.fc", "steps.fc", ".fc", "a..b", "fc.", "fc*", "fc?", "fc=", ""] {
        assert_error!(Model::input([8]).dense(name, 4).build(), Error::InvalidArgument { .. }, "name");
    }
    let inside = Model::input([8]).residual("mask", |b| b.dense("fc", 8), |b| b).build();
    assert_error!(inside, Error::InvalidArgument { .. }, "mask.fc.kernel");
    assert!(Model::input([8]).dense("features.0.fc", 4).build().is_ok());
    assert_error!(Model::input([8]).dense("fc", 0).build(), Error::InvalidArgument { .. }, "fc");
    assert_error!(
        Model::input([8]).dense("fc", 4).dense("fc", 4).build(),
        Error::InvalidArgument { .. },
        "fc"
    );
    assert_error!(Model::input([0, 8, 3]).flatten().build(), Error::InvalidArgument { .. }, "shape");
    assert_error!(
        Model::input([8]).conv2d("c", 1, [1, 1], |c| c).build(),
        Error::ShapeMismatch { .. },
        "[h, w, c]"
    );
    let image = Model::input([4, 4, 1]).conv2d("c", 1, [1, 1], |c| c).build().unwrap();
    let sgd = || Sgd::new(0.1);
    let loss = Loss::SoftmaxCrossEntropy;
    let output = Trainer::new(gpu(), image, loss.clone(), sgd(), TrainerOptions::batch(2));
    assert_error!(output, Error::ShapeMismatch { .. }, "model output", "[classes]");
    let bare = Model::input([4]).relu().build().unwrap();
    assert_error!(
        Trainer::new(gpu(), bare, loss.clone(), sgd(), TrainerOptions::batch(2)),
        Error::InvalidArgument { .. },
        "parameters"
    );
    assert_error!(
        Trainer::new(gpu(), model(), loss.clone(), sgd(), TrainerOptions::batch(0)),
        Error::EmptyBatch { .. },
        "example"
    );
    for lanes in [0, 3, 16, 64] {
        let family = frazil::low_level::GemmFamily::Subgroup { lanes };
        let options = TrainerOptions::batch(2).family(family);
        assert_error!(
            Trainer::new(gpu(), model(), loss.clone(), sgd(), options),
            Error::InvalidArgument { .. },
            "gemm family"
        );
    }
    let rate = Trainer::new(gpu(), model(), loss, Adam::new(-1.0), TrainerOptions::batch(2));
    assert_error!(rate, Error::InvalidArgument { .. }, "learning rate", "-1");
}

#[test]
fn invalid_batches_and_datasets_change_nothing() {
    let mut t = trainer(Sgd::new(0.1).momentum(0.9).into(), TrainerOptions::batch(ROWS).seed(3));
    let before = t.digest().unwrap();
    let batch = |rows: usize, features: usize, label: u32| Batch {
        features: vec![0.5; features],
        labels: vec![label; rows],
        ..Batch::default()
    };
    assert_error!(t.step(&batch(0, 0, 0)), Error::EmptyBatch { .. }, "Trainer::step");
    assert_error!(t.step(&batch(2, 99, 0)), Error::ShapeMismatch { .. }, "100 features", "99 features");
    assert_error!(t.step(&batch(7, 350, 0)), Error::ShapeMismatch { .. }, "at most 6 rows", "7");
    assert_error!(
        t.step(&batch(2, 100, 4)),
        Error::LabelOutOfRange { row: 0, label: 4, classes: 4 },
        "label 4"
    );
    assert_eq!(t.digest().unwrap(), before);

    let other = Dataset::new("other", [5, 5, 1], vec![0.0; 25], vec![0], 4).unwrap();
    assert_error!(t.evaluate(&other), Error::ShapeMismatch { .. }, "other", "[5, 5, 2]", "[5, 5, 1]");
    let classes = Dataset::new("more", [5, 5, 2], vec![0.0; 50], vec![0], 5).unwrap();
    assert_error!(t.evaluate(&classes), Error::ShapeMismatch { .. }, "more", "classes");
    assert_error!(t.set_learning_rate(f64::NAN), Error::InvalidArgument { .. }, "learning rate");
}

#[test]
fn invalid_masks_and_paths_change_nothing() {
    let mut t = trainer(Sgd::new(0.1).into(), TrainerOptions::batch(ROWS).seed(3));
    let before = snapshot(&t);
    assert_error!(
        t.freeze("conv.kernal", FreezeRule::all()),
        Error::UnknownParameter { .. },
        "conv.kernal",
        "conv.kernel"
    );
    assert_error!(t.freeze("pool*", FreezeRule::all()), Error::UnknownParameter { .. }, "pool*");
    assert_error!(t.mask("fc"), Error::UnknownParameter { .. }, "fc.bias");
    assert_error!(t.thaw("x", FreezeRule::all(), ThawPolicy::KeepState), Error::UnknownParameter { .. }, "x");
    // A mask whose length matches only one of the selected tensors freezes none of them.
    let five = FreezeRule::mask(Mask::all(5).unwrap());
    assert_error!(t.freeze("*", five), Error::MaskMismatch { .. }, "conv.kernel", "90", "5");
    assert_error!(t.freeze("*", FreezeRule::random(1.5)), Error::InvalidArgument { .. }, "1.5");
    assert_error!(
        t.replace_mask("fc.bias", Mask::none(5).unwrap(), ThawPolicy::KeepState),
        Error::MaskMismatch { .. },
        "fc.bias"
    );
    assert_error!(
        t.set_and_freeze("fc.bias", &[0.0; 4], &Mask::all(3).unwrap()),
        Error::MaskMismatch { .. },
        "fc.bias",
        "4",
        "3"
    );
    assert_error!(
        t.set_and_freeze("fc.bias", &[0.0; 5], &Mask::all(4).unwrap()),
        Error::ShapeMismatch { .. },
        "fc.bias"
    );
    assert_error!(t.set_parameter("fc.bias", &[0.0; 3]), Error::ShapeMismatch { .. }, "fc.bias", "4");
    assert_error!(t.state("fc.bias", 0), Error::InvalidArgument { .. }, "state slot");
    assert_eq!(t.frozen_count(), 0);
    assert!(snapshot(&t) == before);
}

#[test]
fn invalid_graphs_and_accesses_to_plans_are_rejected() {
    assert_error!(Graph::new(0), Error::EmptyBatch { .. }, "Graph::new");
    let mut g = Graph::new(2).unwrap();
    let x = g.batch_input("x", &[6, 6, 2], DType::F32).unwrap();
    let kernel = g.input("kernel", Shape::new([3, 3, 1, 4]).unwrap(), DType::F32);
    let conv = Op::Conv2d(Conv2d::new([6, 6, 2], 4, Window::new([3, 3]), 1, "conv").unwrap());
    assert_error!(
        g.push(conv, &[x, kernel], "conv"),
        Error::ShapeMismatch { .. },
        "conv: kernel",
        "[3, 3, 2, 4]",
        "[3, 3, 1, 4]"
    );
    let matmul = Op::MatMul { transpose_a: false, transpose_b: false };
    assert_error!(g.push(matmul, &[x, kernel], "fc"), Error::ShapeMismatch { .. }, "fc");
    assert_error!(g.push(Op::BiasAdd, &[x], "bias"), Error::InvalidArgument { .. }, "2 operands");
    let w = g.parameter("w", Shape::new([3]).unwrap()).unwrap();
    assert_error!(g.parameter("w", Shape::new([3]).unwrap()), Error::InvalidArgument { .. }, "w");
    let rule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    assert_error!(
        g.push(Op::Update(rule, vec![frazil::low_level::ParameterId::of(0).into()]), &[kernel], "up"),
        Error::ShapeMismatch { .. },
        "gradient of w"
    );
    let y = g.push_one(Op::Relu, &[x], "relu").unwrap();
    let plan = Plan::compile(gpu(), &g, &PlanOptions::default()).unwrap();
    assert_error!(plan.write_f32(x, &[0.0; 71]), Error::ShapeMismatch { .. }, "x", "71");
    assert_error!(plan.write_u32(x, &[0; 72]), Error::InvalidArgument { .. }, "F32", "U32");
    assert_error!(plan.write_f32(y, &[0.0; 72]), Error::InvalidArgument { .. }, "computed");
    assert_error!(plan.read_f32(y), Error::InvalidArgument { .. }, "mark_output");
    plan.write_f32(w, &[1.0; 3]).unwrap();
    // A convolution whose padding or output size does not belong to its window is rejected.
    let mut odd = Conv2d::new([6, 6, 2], 4, Window::new([3, 3]), 1, "conv").unwrap();
    let kernel = g.input("kernel", Shape::new([3, 3, 2, 4]).unwrap(), DType::F32);
    odd.window.pad_begin = [usize::MAX, 0];
    assert_error!(
        g.push(Op::Conv2d(odd), &[x, kernel], "odd"),
        Error::InvalidArgument { .. },
        "odd",
        "padding"
    );
    odd.window.pad_begin = [0, 0];
    odd.window.output = [1 << 40, 4];
    assert_error!(
        g.push(Op::Conv2d(odd), &[x, kernel], "odd"),
        Error::InvalidArgument { .. },
        "odd",
        "padded input"
    );
    // Value ids that belong to another graph are rejected.
    let mut small = Graph::new(1).unwrap();
    assert_error!(small.mark_output(y), Error::InvalidArgument { .. }, "another");
    assert_error!(small.push(Op::Relu, &[y], "relu"), Error::InvalidArgument { .. }, "another");
    assert!(
        small.value(y).is_none() && small.parameter_value(frazil::low_level::ParameterId::of(7)).is_none()
    );
    let other = Plan::compile(gpu(), &small, &PlanOptions::default()).unwrap();
    assert_error!(other.read_f32(y), Error::InvalidArgument { .. }, "a value of this graph");
    assert_error!(other.write_f32(y, &[0.0]), Error::InvalidArgument { .. }, "a value of this graph");
    assert_error!(
        other.store().read_weights(frazil::low_level::ParameterId::of(0)),
        Error::InvalidArgument { .. },
        "parameter"
    );
    other.run(StepScalars::forward(1)).unwrap();
    assert_error!(plan.run(StepScalars::forward(0)), Error::EmptyBatch { .. }, "Plan::run");
    assert_error!(plan.run(StepScalars::forward(3)), Error::ShapeMismatch { .. }, "at most 2");
}

#[test]
fn refusals_say_what_to_call_instead() {
    use Error::{InvalidArgument, ShapeMismatch};
    let mut t = trainer(Sgd::new(0.1).into(), TrainerOptions::batch(ROWS).seed(3));
    let rows = Batch { features: vec![0.5; 350], labels: vec![0; 7], ..Batch::default() };
    assert_error!(t.step(&rows), ShapeMismatch { .. }, "TrainerOptions::batch");
    assert_error!(t.step_above(&rows), InvalidArgument { .. }, "call Trainer::prefix_features");
    let classes = Dataset::new("more", [5, 5, 2], vec![0.0; 50], vec![0], 5).unwrap();
    assert_error!(t.evaluate(&classes), ShapeMismatch { .. }, "an output for each class");
    assert_error!(t.freeze("fc.bias", FreezeRule::input_channels_at([0])), ShapeMismatch { .. }, "glob");
    assert_error!(t.freeze("fc.kernel", FreezeRule::kernel_position(0, 0)), ShapeMismatch { .. }, "glob");
    assert_error!(
        t.freeze("fc.bias", FreezeRule::random(0.0).count(9)),
        InvalidArgument { .. },
        "a fraction"
    );
    let weights = FreezeRule::smallest(0.5).resolve("w", 4);
    assert_error!(weights, InvalidArgument { .. }, "FreezeRule::resolve_all", "TensorView::bits");

    let flat = Model::input([4, 4, 1]).flatten().conv2d("c", 1, [3, 3], |c| c).build();
    assert_error!(flat, ShapeMismatch { .. }, "before any flatten");
    let images = Model::input([4, 4, 1]).conv2d("c", 2, [3, 3], |c| c).build().unwrap();
    let image =
        Trainer::new(gpu(), images, Loss::SoftmaxCrossEntropy, Sgd::new(0.1), TrainerOptions::batch(2));
    assert_error!(image, ShapeMismatch { .. }, "a dense layer");

    let mut g = Graph::new(2).unwrap();
    let x = g.batch_input("x", &[3], DType::F32).unwrap();
    let y = g.push_one(Op::Relu, &[x], "relu").unwrap();
    let plan = Plan::compile(gpu(), &g, &PlanOptions::default()).unwrap();
    assert_error!(plan.write_u32(x, &[0; 6]), InvalidArgument { .. }, "call Plan::write_f32");
    assert_error!(plan.write_f32(y, &[0.0; 6]), InvalidArgument { .. }, "Plan::run writes");
    assert_error!(plan.run(StepScalars::forward(3)), ShapeMismatch { .. }, "Graph::new");
    g.parameter("w", Shape::new([3]).unwrap()).unwrap();
    let store = Plan::compile_with(gpu(), &g, plan.store(), &PlanOptions::default());
    assert_error!(store, InvalidArgument { .. }, "Store::new");
    let family = PlanOptions::default().family(GemmFamily::Cooperative { side: 8, lanes: 32, stored: false });
    assert_error!(Plan::compile(gpu(), &g, &family), InvalidArgument { .. }, "register");
}

#[test]
fn sizes_over_a_limit_are_rejected_before_anything_is_created() {
    let gpu = Gpu::new(GpuOptions::default().memory_budget(8 << 20)).unwrap();
    let big = |width: usize| {
        let mut g = Graph::new(1).unwrap();
        let x = g.input("big", Shape::new([width]).unwrap(), DType::F32);
        let y = g.push_one(Op::Relu, &[x], "relu").unwrap();
        g.mark_output(y).unwrap();
        g
    };
    let limit = usize::try_from(gpu.report().max_binding / 4).unwrap();
    assert_error!(
        Plan::compile(&gpu, &big(limit + 1), &PlanOptions::default()),
        Error::LimitExceeded { .. },
        "big"
    );
    let estimate = Plan::estimate(&big(limit + 1), gpu.report(), &PlanOptions::default());
    assert_error!(estimate, Error::LimitExceeded { .. }, "big");
    // A buffer within the device's limits may still exceed the memory budget of `GpuOptions`.
    assert_error!(
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
fn a_wait_beyond_the_timeout_is_an_error() {
    let gpu = Gpu::new(GpuOptions::default().timeout(Duration::from_millis(1))).unwrap();
    let mut g = Graph::new(1).unwrap();
    let matmul = Op::MatMul { transpose_a: false, transpose_b: false };
    // One submission that takes about 50 ms on software adapters, and at least 16 ms on a GPU of 70 TFLOP/s.
    let (size, gemms) = if gpu.report().software { (1024, 1) } else { (2048, 64) };
    let square = || Shape::new([size, size]).unwrap();
    let (mut a, b) = (g.input("a", square(), DType::F32), g.input("b", square(), DType::F32));
    for _ in 0..gemms {
        a = g.push_one(matmul.clone(), &[a, b], "gemm").unwrap();
    }
    g.mark_output(a).unwrap();
    let options = PlanOptions::default().flops_per_submission(u64::MAX);
    let plan = Plan::compile(&gpu, &g, &options).unwrap();
    plan.run(StepScalars::forward(1)).unwrap();
    assert_error!(gpu.wait(), Error::Timeout { .. }, "1ms");
}

#[test]
fn wanted_device_of_an_application_has_what_a_device_of_ours_has() {
    let descriptor = frazil::wgpu::InstanceDescriptor::new_without_display_handle();
    let instance = frazil::wgpu::Instance::new(descriptor);
    let all = pollster::block_on(instance.enumerate_adapters(frazil::wgpu::Backends::PRIMARY));
    let same = |adapter: &&frazil::wgpu::Adapter| adapter.get_info().name == gpu().report().name;
    let adapter = all.iter().find(same).expect("the adapter of the other tests");
    let open = |descriptor: &frazil::wgpu::DeviceDescriptor| {
        let (device, queue) = pollster::block_on(adapter.request_device(descriptor)).unwrap();
        Gpu::from_wgpu(adapter, device, queue)
    };
    let facts = |gpu: &Gpu| {
        let report = gpu.report();
        (report.timestamps, report.subgroup, report.max_buffer, report.max_binding)
    };
    assert_eq!(facts(&open(&Gpu::wanted(adapter))), facts(gpu()));
    // wgpu's defaults have no timestamps, so that the comparison can fail.
    let plain = open(&frazil::wgpu::DeviceDescriptor::default());
    assert!(!gpu().report().timestamps || facts(&plain) != facts(gpu()));
}

#[test]
fn every_call_on_a_lost_device_is_an_error() {
    let descriptor = frazil::wgpu::InstanceDescriptor::new_without_display_handle();
    let instance = frazil::wgpu::Instance::new(descriptor);
    let all = pollster::block_on(instance.enumerate_adapters(frazil::wgpu::Backends::PRIMARY));
    let adapter = all.first().expect("an adapter to test");
    let descriptor = frazil::wgpu::DeviceDescriptor::default();
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    // A trainer also runs on a wgpu device that the application created with default limits.
    let gpu = Gpu::from_wgpu(adapter, device.clone(), queue);
    let mut t =
        Trainer::new(&gpu, model(), Loss::SoftmaxCrossEntropy, Sgd::new(0.1), TrainerOptions::batch(ROWS))
            .unwrap();
    train(&mut t, 2);
    assert!(t.metrics().unwrap().loss.is_finite());
    device.destroy();
    // The calls are repeated, because the first failure must not leave a state in which a later call waits
    // forever.
    for _ in 0..8 {
        assert_error!(t.step(&batches(1)[0]), Error::DeviceLost { .. }, "checkpoint");
        assert_error!(t.metrics(), Error::DeviceLost { .. }, "lost");
        assert_error!(t.verify_frozen(), Error::DeviceLost { .. }, "lost");
        assert_error!(t.parameter("fc.bias"), Error::DeviceLost { .. }, "lost");
    }
}

#[test]
fn plan_report_counts_every_allocated_byte() {
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
    // The parameter store of a graph without an update has no gradient buffers, so a training graph cannot
    // use it.
    let forward = model().evaluation_graph(ROWS, Loss::SoftmaxCrossEntropy).unwrap().graph;
    let store = frazil::low_level::Store::new(&gpu, &forward).unwrap();
    let plain = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let training = model().training_graph(ROWS, Loss::SoftmaxCrossEntropy, plain).unwrap().graph;
    let options = PlanOptions::default();
    assert_error!(
        Plan::compile_with(&gpu, &training, &store, &options),
        Error::InvalidArgument { .. },
        "store"
    );
}

#[test]
fn saving_into_a_missing_folder_is_an_error() {
    let t = trainer(Sgd::new(0.1).into(), TrainerOptions::batch(ROWS));
    let missing = std::env::temp_dir().join("frazil-no-such-folder").join("x.safetensors");
    assert_error!(t.save(&missing), Error::Io { .. }, "frazil-no-such-folder");
}

#[test]
fn padding_beyond_the_limit_is_rejected() {
    let far = Padding::Explicit { top: usize::MAX, bottom: 0, left: 0, right: 0 };
    let model = Model::input([8, 8, 1]).conv2d("c", 1, [3, 3], |c| c.padding(far)).build();
    assert_error!(model, Error::InvalidArgument { .. }, "padding");
}
