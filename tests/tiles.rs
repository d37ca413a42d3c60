//! Tests of the work that plans for GPUs do, compiled without a device: how much of the work of GEMM tiles is useful.

use frazil::gpu::{AdapterReport, Backend, DeviceKind};
use frazil::low_level::{Graph, Plan, PlanOptions, PlanReport, UpdateRule};
use frazil::{Loss, Model};

const SGD: UpdateRule = UpdateRule::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };

/// Workloads: model and batch size.
const WORKLOADS: [(&str, usize); 3] = [("cifar", 64), ("resnet20", 64), ("resnet50", 4)];

const HARDWARE: [DeviceKind; 2] = [DeviceKind::Discrete, DeviceKind::Integrated];

fn training(model: &Model, batch: usize) -> Graph {
    model.training_graph(batch, Loss::SoftmaxCrossEntropy, SGD).unwrap().graph
}

fn estimate(graph: &Graph, kind: DeviceKind) -> PlanReport {
    let adapter = AdapterReport::new("none", Backend::Vulkan, kind);
    Plan::estimate(graph, &adapter, &PlanOptions::default()).unwrap()
}

#[test]
fn most_of_the_work_of_gemm_tiles_is_useful_on_gpus() {
    for ((name, batch), least) in WORKLOADS.into_iter().zip([0.95, 0.9, 0.9]) {
        let graph = training(&Model::named(name).unwrap(), batch);
        for kind in HARDWARE {
            let report = estimate(&graph, kind);
            let share = report.useful_share().unwrap();
            println!("{name}, batch {batch}, {kind}: useful share {share:.3}");
            assert!(share >= least && share < 1.0, "{name} on {kind}: {share}\n{report}");
        }
    }
}

#[test]
fn useful_share_counts_empty_rows_columns_and_steps_of_k() {
    let model = Model::input([37]).dense("fc", 10).build().unwrap();
    let graph = model.evaluation_graph(20, Loss::SoftmaxCrossEntropy).unwrap().graph;
    let report = estimate(&graph, DeviceKind::Discrete);
    let [gemm] = report.dispatches.iter().filter(|d| d.tile_flops > 0).collect::<Vec<_>>()[..] else {
        panic!("{report}")
    };
    // [20, 37] x [37, 10] in one tile of 64x16 with three steps of k.
    assert_eq!((gemm.flops, gemm.tile_flops), (2 * 20 * 37 * 10, 2 * 64 * 48 * 16));
    assert_eq!(gemm.useful_share(), report.useful_share());
    assert!(report.dispatches.len() > 1, "{report}");
    assert!(report.dispatches.iter().all(|d| d.label == "fc" || d.useful_share().is_none()), "{report}");
    assert!(report.to_string().ends_with("15.1 % of the GEMMs' tiles useful"), "{report}");
}
