//! Tests of the work that plans for GPUs do, compiled without a device: how much of the work of GEMM tiles is useful,
//! and how much work freezing saves.

use frazil::gpu::{AdapterReport, Backend, DeviceKind};
use frazil::low_level::{Graph, Plan, PlanOptions, PlanReport, UpdateRule};
use frazil::{FreezeRule, Loss, Mask, Model};

const SGD: UpdateRule = UpdateRule::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };

/// Workloads: model and batch size.
const WORKLOADS: [(&str, usize); 3] = [("cifar", 64), ("resnet20", 64), ("resnet50", 4)];

const HARDWARE: [DeviceKind; 2] = [DeviceKind::Discrete, DeviceKind::Integrated];

fn training(model: &Model, batch: usize) -> Graph {
    model.training_graph(batch, Loss::SoftmaxCrossEntropy, SGD).unwrap().graph
}

fn estimate(graph: &Graph, kind: DeviceKind, masks: &[Mask]) -> PlanReport {
    let adapter = AdapterReport::new("none", Backend::Vulkan, kind);
    Plan::estimate(graph, &adapter, &PlanOptions::default().masks(masks)).unwrap()
}

#[test]
fn most_of_the_work_of_gemm_tiles_is_useful_on_gpus() {
    for ((name, batch), least) in WORKLOADS.into_iter().zip([0.95, 0.9, 0.9]) {
        let graph = training(&Model::named(name).unwrap(), batch);
        for kind in HARDWARE {
            let report = estimate(&graph, kind, &[]);
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
    let report = estimate(&graph, DeviceKind::Discrete, &[]);
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

/// Returns masks that freeze a share of each kernel except the last.
fn masks(model: &Model, frozen: &dyn Fn(&str, &[usize]) -> Mask) -> Vec<Mask> {
    let last = model.parameters().iter().rposition(|p| p.path.ends_with(".kernel")).unwrap();
    let mask = |(index, p): (usize, &frazil::layer::ParameterSpec)| {
        if p.path.ends_with(".kernel") && index != last {
            frozen(&p.path, p.shape.extents())
        } else {
            Mask::none(p.shape.elements()).unwrap()
        }
    };
    model.parameters().iter().enumerate().map(mask).collect()
}

/// Half of all elements, scattered, leaves every dispatch as it is: no gathering, no partial gradient, nothing
/// added.
#[test]
fn scattered_masks_of_half_the_elements_cost_nothing() {
    for (name, batch) in WORKLOADS {
        let model = Model::named(name).unwrap();
        let graph = training(&model, batch);
        let half = masks(&model, &|path, shape| {
            FreezeRule::random(0.5).resolve(path, shape.iter().product()).unwrap()
        });
        for kind in [DeviceKind::Cpu, DeviceKind::Discrete, DeviceKind::Integrated] {
            let [plain, frozen] = [&[][..], &half].map(|masks| estimate(&graph, kind, masks).dispatches);
            let changed = plain.iter().zip(&frozen).find(|(plain, frozen)| plain != frozen);
            assert_eq!((changed, plain.len()), (None, frozen.len()), "{name} on {kind}");
        }
    }
}

/// Operations that the tiles of all weight gradients perform.
fn weight_gradient_work(report: &PlanReport) -> u64 {
    let of = report.dispatches.iter().filter(|d| d.label.ends_with(" grad_kernel"));
    of.map(|d| if d.tile_flops > 0 { d.tile_flops } else { d.flops }).sum()
}

/// With 90 % of the filters of each layer except the last frozen, GPUs do at most a quarter of the work of weight
/// gradients. At smaller sizes, the additional dispatches of some layers would take longer than they save.
#[test]
fn frozen_filters_save_three_quarters_of_the_weight_gradients_on_gpus() {
    for (name, batch) in [("cifar", 64), ("cifar", 512), ("resnet50", 32)] {
        let model = Model::named(name).unwrap();
        let graph = training(&model, batch);
        let filters = masks(&model, &|_, shape| {
            let columns = shape[shape.len() - 1];
            let frozen = (0.9 * columns as f64).round() as usize;
            Mask::from_frozen((0..shape.iter().product()).map(|index| index % columns < frozen))
        });
        for kind in HARDWARE {
            let [plain, frozen] = [&[][..], &filters].map(|masks| estimate(&graph, kind, masks));
            let ratio = weight_gradient_work(&plain) as f64 / weight_gradient_work(&frozen) as f64;
            println!("{name}, batch {batch}, {kind}: {ratio:.2} times less work");
            assert!(ratio >= 4.0, "{name}, batch {batch}, {kind}: {ratio}\n{frozen}");
        }
    }
}

/// At the crossing point of filters, a plan computes a weight gradient in part; with one more trainable filter it
/// computes all of it.
#[test]
fn crossing_points_are_where_plans_change() {
    let model = Model::named("cifar").unwrap();
    let graph = training(&model, 64);
    for kind in [DeviceKind::Discrete, DeviceKind::Integrated, DeviceKind::Cpu] {
        let adapter = AdapterReport::new("none", Backend::Vulkan, kind);
        let crossings = Plan::crossings(&graph, &adapter, &PlanOptions::default()).unwrap();
        let labels: Vec<_> = crossings.iter().map(|c| c.label.as_str()).collect();
        let layers = ["fc2", "fc1", "conv5", "conv4", "conv3", "conv2", "conv1"];
        assert_eq!(labels, layers.map(|layer| format!("{layer} grad_kernel")));
        let mut found = 0;
        for crossing in &crossings {
            println!("{kind}: {crossing:?}");
            let Some(share) = crossing.columns else { continue };
            found += 1;
            let kernel = crossing.label.replace(" grad_kernel", ".kernel");
            let columns = model.parameters().iter().find(|p| p.path == kernel).unwrap().shape.last();
            let trainable = ((1.0 - share) * columns as f64).round() as usize;
            let is_partial = |trainable: usize| {
                let masks: Vec<_> = model
                    .parameters()
                    .iter()
                    .map(|p| {
                        let frozen = |i: usize| p.path == kernel && i % columns >= trainable;
                        Mask::from_frozen((0..p.shape.elements()).map(frozen))
                    })
                    .collect();
                let report = estimate(&graph, kind, &masks);
                let mut of = report.dispatches.iter().filter(|d| d.label == crossing.label);
                of.any(|d| d.kernel == "scatter_splits")
            };
            assert!(is_partial(trainable), "{kind}: {crossing:?}");
            assert!(trainable == columns || !is_partial(trainable + 1), "{kind}: {crossing:?}");
        }
        assert!(found >= 4, "{kind}: {crossings:?}");
    }
}
