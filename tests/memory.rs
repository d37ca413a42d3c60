//! What a training step keeps in memory. Needs no GPU.

use frazil::gpu::{AdapterReport, Backend, DeviceKind};
use frazil::graph::{Graph, Op, Role};
use frazil::kernels::GemmFamily;
use frazil::plan::{BufferUse, Winograd};
use frazil::{Error, Loss, Model, Plan, PlanOptions, Sgd};

/// A software adapter as Mesa reports it.
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

/// Bytes of what the forward pass computes, or is given, and the backward pass reads.
fn kept(graph: &Graph) -> u64 {
    let loss = graph.nodes().iter().position(|node| node.op == Op::Metrics).unwrap();
    let (forward, backward) = graph.nodes().split_at(loss);
    let of = |index: usize| 4 * graph.values()[index].shape.elements() as u64;
    (0..graph.values().len())
        .filter(|&index| {
            let here =
                |id: &frazil::graph::ValueId| std::ptr::eq(graph.value(*id).unwrap(), &graph.values()[index]);
            let made = graph.values()[index].role == Role::Input
                || forward
                    .iter()
                    .any(|node| node.outputs.iter().any(here) && !matches!(node.op, Op::Reshape(_)));
            made && backward.iter().any(|node| node.inputs.iter().any(here))
        })
        .map(of)
        .sum()
}

/// Where pools follow convolutions that gather their patches, or go by transforms, no kernel pools.
#[test]
fn pools_ride_in_the_convolutions_before_them() {
    let rule = *frazil::Optimizer::from(Sgd::new(0.01).momentum(0.9)).rule();
    for model in [Model::digits(), Model::lenet28(), Model::cifar()] {
        let graph = model.unwrap().training_graph(64, Loss::SoftmaxCrossEntropy, rule).unwrap().graph;
        let pools = graph.nodes().iter().filter(|node| matches!(node.op, Op::MaxPool2d(_))).count();
        let kernels = |options: PlanOptions| {
            let report = Plan::estimate(&graph, &adapter(), &options).unwrap();
            report.dispatches.iter().filter(|d| d.kernel == "max_pool2d").count()
        };
        for family in GemmFamily::supported(&adapter()) {
            for winograd in [Winograd::Never, Winograd::Auto] {
                assert_eq!(kernels(PlanOptions::default().family(family).winograd(winograd)), 0, "{family}");
            }
        }
        assert_eq!(kernels(PlanOptions::default().explicit_columns(true)), pools);
        assert!(pools > 0);
    }
}

/// Gradients go back through a stride inside products, as patches do: no columns in memory, in any family.
#[test]
fn a_strided_layer_has_no_columns() {
    let model = Model::named("resnet20").unwrap();
    let rule = *frazil::Optimizer::from(Sgd::new(0.01)).rule();
    let graph = model.training_graph(8, Loss::SoftmaxCrossEntropy, rule).unwrap().graph;
    for family in GemmFamily::supported(&adapter()) {
        let columns = |options: PlanOptions| {
            let report = Plan::estimate(&graph, &adapter(), &options.family(family)).unwrap();
            report.dispatches.iter().filter(|d| ["im2col", "col2im"].contains(&d.kernel)).count()
        };
        assert_eq!(columns(PlanOptions::default()), 0, "{family}");
        assert!(columns(PlanOptions::default().explicit_columns(true)) > 0, "{family}");
    }
}

#[test]
fn a_step_of_cifar_needs_little_beside_what_it_keeps() {
    let graph = cifar(64);
    let report = Plan::estimate(&graph, &adapter(), &PlanOptions::default()).unwrap();
    let persistent = |name: &str| -> u64 {
        report.persistent.iter().filter(|b: &&BufferUse| b.name == name).map(|b| b.bytes).sum()
    };
    let needed = kept(&graph) + persistent("weights") + persistent("momentum");
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!(
        "{:.1} MiB, {:.2} of what has to be kept",
        mib(report.bytes()),
        report.bytes() as f64 / needed as f64
    );
    assert!(persistent("weights") > 0 && persistent("momentum") > 0);
    assert!(
        report.bytes() * 2 <= needed * 3,
        "{:.1} MiB for {:.1}\n{report}",
        mib(report.bytes()),
        mib(needed)
    );
}

/// Sixteen times the batch fits the same bindings: workspaces do not grow with it.
#[test]
fn a_large_batch_fits_or_is_refused_by_name() {
    let report = Plan::estimate(&cifar(1024), &adapter(), &PlanOptions::default()).unwrap();
    assert!(report.per_step.iter().all(|buffer| buffer.bytes <= adapter().max_binding));
    // Twice of that: the first activations are 256 MiB, and named.
    match Plan::estimate(&cifar(2048), &adapter(), &PlanOptions::default()) {
        Err(Error::LimitExceeded { what, needed, available }) => {
            assert!(what.contains("relu1"), "{what}");
            assert_eq!((needed, available), (256 << 20, 128 << 20));
        }
        other => panic!("{:?}", other.map(|r| r.bytes())),
    }
}
