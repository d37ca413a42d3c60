//! Tests the memory and the kernels of training plans, which `Plan::estimate` computes from an adapter
//! report. Needs no GPU.

use frazil::gpu::{AdapterReport, Backend, DeviceKind};
use frazil::low_level::GemmFamily;
use frazil::low_level::{BufferUse, Winograd};
use frazil::low_level::{Graph, Op, Role};
use frazil::low_level::{Plan, PlanOptions};
use frazil::mask::Mask;
use frazil::{Error, Loss, Model, Padding, Sgd};

/// Returns the report of a software adapter with the features and limits of llvmpipe (Mesa's software Vulkan
/// driver).
fn adapter() -> AdapterReport {
    let mut report = AdapterReport::new("as llvmpipe", Backend::Vulkan, DeviceKind::Cpu);
    report.subgroup = Some([8, 8]);
    report.timestamps = true;
    report.max_buffer = (1 << 31) - 1;
    report.max_binding = 128 << 20;
    report.max_storage_buffers = 32;
    report.max_workgroup_memory = 32_768;
    report.max_invocations = 1024;
    report
}

fn cifar(batch: usize) -> Graph {
    let rule = *frazil::Optimizer::from(Sgd::new(0.01).momentum(0.9)).rule();
    Model::cifar().unwrap().training_graph(batch, Loss::SoftmaxCrossEntropy, rule).unwrap().graph
}

/// Returns the total size in bytes of the inputs and forward results that some backward operation reads.
fn saved_activation_bytes(graph: &Graph) -> u64 {
    let loss = graph.nodes().iter().position(|node| node.op == Op::Metrics).unwrap();
    let (forward, backward) = graph.nodes().split_at(loss);
    let bytes = |index: usize| 4 * graph.values()[index].shape.elements() as u64;
    (0..graph.values().len())
        .filter(|&index| {
            let same = |id: &frazil::low_level::ValueId| {
                std::ptr::eq(graph.value(*id).unwrap(), &graph.values()[index])
            };
            let produced = graph.values()[index].role == Role::Input
                || forward
                    .iter()
                    .any(|node| node.outputs.iter().any(same) && !matches!(node.op, Op::Reshape(_)));
            produced && backward.iter().any(|node| node.inputs.iter().any(same))
        })
        .map(bytes)
        .sum()
}

/// Implicit-GEMM and Winograd convolutions fuse the max-pooling that follows them into their epilogue. With
/// im2col convolutions (`explicit_columns`), each max-pooling is a separate `max_pool2d` dispatch.
#[test]
fn pool_fuses_into_convolution_epilogue() {
    let rule = *frazil::Optimizer::from(Sgd::new(0.01).momentum(0.9)).rule();
    for model in [Model::digits(), Model::lenet28(), Model::cifar()] {
        let graph = model.unwrap().training_graph(64, Loss::SoftmaxCrossEntropy, rule).unwrap().graph;
        let pools = graph.nodes().iter().filter(|node| matches!(node.op, Op::MaxPool2d(_))).count();
        let pool_kernels = |options: PlanOptions| {
            let report = Plan::estimate(&graph, &adapter(), &options).unwrap();
            report.dispatches.iter().filter(|d| d.kernel == "max_pool2d").count()
        };
        for family in GemmFamily::supported(&adapter()) {
            for winograd in [Winograd::Never, Winograd::Auto, Winograd::Fused] {
                assert_eq!(
                    pool_kernels(PlanOptions::default().family(family).winograd(winograd)),
                    0,
                    "{family}"
                );
            }
        }
        assert_eq!(pool_kernels(PlanOptions::default().explicit_columns(true)), pools);
        assert!(pools > 0);
    }
}

/// In every GEMM family, strided convolutions run as implicit GEMM: they read patches of the input and write
/// input gradients directly, without `im2col` and `col2im` dispatches. With `explicit_columns` these
/// dispatches exist, which shows that the test detects them.
#[test]
fn strided_convolutions_need_no_column_buffers() {
    let model = Model::named("resnet20").unwrap();
    let rule = *frazil::Optimizer::from(Sgd::new(0.01)).rule();
    let graph = model.training_graph(8, Loss::SoftmaxCrossEntropy, rule).unwrap().graph;
    for family in GemmFamily::supported(&adapter()) {
        let column_kernels = |options: PlanOptions| {
            let report = Plan::estimate(&graph, &adapter(), &options.family(family)).unwrap();
            report.dispatches.iter().filter(|d| ["im2col", "col2im"].contains(&d.kernel)).count()
        };
        assert_eq!(column_kernels(PlanOptions::default()), 0, "{family}");
        assert!(column_kernels(PlanOptions::default().explicit_columns(true)) > 0, "{family}");
    }
}

#[test]
fn cifar_step_needs_at_most_1_5_times_the_necessary_memory() {
    let graph = cifar(64);
    let report = Plan::estimate(&graph, &adapter(), &PlanOptions::default()).unwrap();
    let persistent = |name: &str| -> u64 {
        report.persistent.iter().filter(|b: &&BufferUse| b.name == name).map(|b| b.bytes).sum()
    };
    let needed = saved_activation_bytes(&graph) + persistent("weights") + persistent("momentum");
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{:.1} MiB, {:.2} times the necessary memory",
        mib(report.bytes()),
        report.bytes() as f64 / needed as f64
    );
    assert!(persistent("weights") > 0 && persistent("momentum") > 0);
    assert!(
        report.bytes() * 2 <= needed * 3,
        "{:.1} MiB, of which {:.1} MiB are necessary\n{report}",
        mib(report.bytes()),
        mib(needed)
    );
}

/// With a batch of 1024, every buffer is within the adapter's limit of 128 MiB per binding, because the size
/// of workspaces does not depend on the batch size. With a batch of 2048, the error names the buffer that
/// exceeds the limit, and the batch that fits.
#[test]
fn large_batch_fits_or_the_error_names_the_buffer() {
    let report = Plan::estimate(&cifar(1024), &adapter(), &PlanOptions::default()).unwrap();
    assert!(report.per_step.iter().all(|buffer| buffer.bytes <= adapter().max_binding));
    // The output of the first ReLU (`relu1`) for 2048 examples needs 256 MiB.
    match Plan::estimate(&cifar(2048), &adapter(), &PlanOptions::default()) {
        Err(Error::LimitExceeded { what, needed, available, advice }) => {
            assert!(what.contains("relu1"), "{what}");
            assert_eq!((needed, available), (256 << 20, 128 << 20));
            assert_eq!(advice, "use a batch of at most 1024");
        }
        other => panic!("{:?}", other.map(|r| r.bytes())),
    }
}

/// The advice of an error follows from its cause: a smaller batch is not named where it cannot help.
#[test]
fn error_for_a_tensor_that_does_not_fit_gives_advice_that_helps() {
    let mut small = adapter();
    small.max_binding = 1 << 20;
    let refused =
        |example: [usize; 3], channels: usize, kernel: usize, batch: usize, options: PlanOptions| {
            let model = Model::input(example)
                .conv2d("conv", channels, [kernel, kernel], |c| c.padding(Padding::Same))
                .global_avg_pool()
                .dense("dense", 2)
                .build()
                .unwrap();
            let rule = *frazil::Optimizer::from(Sgd::new(0.01)).rule();
            let graph = model.training_graph(batch, Loss::SoftmaxCrossEntropy, rule).unwrap().graph;
            match Plan::estimate(&graph, &small, &options) {
                Err(Error::LimitExceeded { what, advice, .. }) => (what, advice),
                other => panic!("{:?}", other.map(|r| r.bytes())),
            }
        };
    let options = PlanOptions::default();
    // 64 x 64 x 32 elements of an example are half the limit; 64 x 64 x 128 are twice the limit.
    assert_eq!(refused([64, 64, 1], 32, 3, 3, options.clone()).1, "use a batch of at most 2");
    for batch in [1, 3] {
        let (_, advice) = refused([64, 64, 1], 128, 3, batch, options.clone());
        assert!(advice.contains("a single example does not fit"), "{advice}");
    }
    let (what, advice) = refused([64, 64, 1], 2, 11, 1, options.clone().explicit_columns(true));
    assert!(what.contains("column matrix of one image") && !advice.contains("batch"), "{what}: {advice}");
    let (what, advice) = refused([4, 4, 512], 512, 3, 1, options);
    assert!(what.contains("conv.kernel") && !advice.contains("batch"), "{what}: {advice}");
}

/// On a discrete GPU, the first dense layer of the CIFAR model divides its long sum; the dispatch that adds the
/// parts also adds the bias and applies the ReLU.
#[test]
fn bias_and_relu_follow_a_divided_sum_in_one_dispatch() {
    let mut report = AdapterReport::new("as a discrete GPU", Backend::Vulkan, DeviceKind::Discrete);
    (report.max_buffer, report.max_binding) = (1 << 30, 1 << 30);
    (report.max_workgroup_memory, report.max_invocations) = (32_768, 1024);
    let plan = Plan::estimate(&cifar(64), &report, &PlanOptions::default()).unwrap();
    let forward = plan.dispatches.iter().filter(|d| d.label == "fc1");
    assert_eq!(forward.map(|d| d.kernel).collect::<Vec<_>>(), ["gemm_tiled", "split_k_sum_parallel"]);
}

/// Returns the report of a discrete GPU with the limits of WebGPU and subgroups.
fn discrete() -> AdapterReport {
    let mut report = AdapterReport::new("a discrete GPU", Backend::Vulkan, DeviceKind::Discrete);
    report.subgroup = Some([32, 32]);
    report.max_workgroup_memory = 48 << 10;
    report.max_invocations = 1024;
    report
}

fn resnet20(batch: usize) -> Graph {
    let rule = *frazil::Optimizer::from(Sgd::new(0.01).momentum(0.9)).rule();
    let model = Model::named("resnet20").unwrap();
    model.training_graph(batch, Loss::SoftmaxCrossEntropy, rule).unwrap().graph
}

/// Small dispatches and memory traffic take a large part of a step on a GPU.
#[test]
fn a_step_of_resnet20_has_at_most_200_dispatches_and_moves_at_most_1000_megabytes() {
    let report = Plan::estimate(&resnet20(64), &discrete(), &PlanOptions::default()).unwrap();
    let count = |kernel: &str| report.dispatches.iter().filter(|d| d.kernel == kernel).count();
    assert!(report.dispatches.len() <= 200, "{report}");
    assert_eq!((count("sgd_momentum_update"), count("update_statistics")), (1, 1));
    // Batch norms are fused with the additions and ReLUs around them.
    assert_eq!(["add", "relu", "relu_grad"].map(count), [0; 3]);
    // There are 21 batch norms.
    for kernel in [
        "batch_moments_parallel",
        "batch_norm_parallel",
        "batch_norm_grad_sums_parallel",
        "batch_norm_grad_input_parallel",
    ] {
        assert_eq!(count(kernel), 21, "{kernel}");
    }
    let megabytes = report.traffic() as f64 / 1e6;
    println!("{} dispatches, {megabytes:.1} MB", report.dispatches.len());
    assert!(megabytes <= 1_000.0, "{megabytes}");
    let minimum = report.minimum_bytes as f64 / 1e6;
    assert!(minimum > 0.25 * megabytes && minimum < megabytes, "{minimum} of {megabytes}");
}

/// The running statistics of a model are in one dispatch, which leaves frozen ones out.
#[test]
fn frozen_running_statistics_are_not_updated() {
    let graph = resnet20(8);
    let updates = |frozen: &dyn Fn(&str) -> bool| -> Vec<u64> {
        let mask = |p: &frazil::low_level::Parameter| {
            let elements = p.shape.elements();
            if frozen(&p.path) { Mask::all(elements) } else { Mask::none(elements) }
        };
        let masks: Vec<_> = graph.parameters().iter().map(|p| mask(p).unwrap()).collect();
        let options = PlanOptions::default().masks(&masks);
        let report = Plan::estimate(&graph, &adapter(), &options).unwrap();
        let of = report.dispatches.iter().filter(|d| d.kernel == "update_statistics");
        of.map(|d| d.bytes_written).collect()
    };
    let [all] = updates(&|_| false)[..] else { panic!("expected one dispatch") };
    let [half] = updates(&|path| path.ends_with("running_mean"))[..] else { panic!("expected one dispatch") };
    // Both also write the sums of the metrics.
    assert!(half < all && 2 * half > all, "{half} of {all} bytes");
    assert!(updates(&|path| path.contains("running_")).is_empty());
}
