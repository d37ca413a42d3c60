//! Every shader of the crate, as input of shader compilers.

use super::table::cases;
use crate::compiler::{PlanOptions, Reduction};
use crate::engine::Plan;
use crate::error::Result;
use crate::gpu::{AdapterReport, Backend, DeviceKind, ShaderCompiler};
use crate::graph::UpdateRule;
use crate::kernels::{GemmFamily, Launch, copy_elements, digest};
use crate::loss::Loss;
use crate::mask::Mask;
use crate::model::Model;
use crate::shape::Shape;
use std::collections::{BTreeMap, HashMap};

/// The GEMM families of [`shaders`].
const FAMILIES: [&str; 10] = [
    "register",
    "subgroup4",
    "subgroup8",
    "tiled-small",
    "tiled-large",
    "cooperative8x8",
    "cooperative8x32",
    "cooperative16x32",
    "cooperative16x64",
    "cooperative16x32-f16",
];

const SGD: UpdateRule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };

/// All distinct shaders, by WGSL text, each with one of its launches: the shaders of the op table's cases, of
/// training and evaluation of all named models, and of the digests of frozen elements; in every GEMM family,
/// for hardware and software adapters. Needs no device.
///
/// # Errors
/// Those of [`Plan::launches`]; none occurs, because cases and models are fixed.
pub fn shaders() -> Result<BTreeMap<String, Launch>> {
    let mut all = HashMap::new();
    let mut add = |launches: Vec<Launch>| all.extend(launches.into_iter().map(|l| (l.variant(), l)));
    let mut families = Vec::new();
    for name in FAMILIES {
        let family: GemmFamily = name.parse()?;
        families.push((family, adapter(family, DeviceKind::Discrete)));
    }
    for case in cases()? {
        let graph = case.graph()?;
        for (family, adapter) in &families {
            for explicit in [false, true] {
                for reduction in [Reduction::Serial, Reduction::Parallel] {
                    let options = PlanOptions::default().family(*family).reduction(reduction);
                    let options = options.explicit_columns(explicit);
                    add(Plan::launches(&graph, adapter, &case.options(options))?);
                }
            }
        }
    }
    // These have every kind of layer of the predefined models.
    let named = ["digits", "lenet28", "cifar", "resnet20", "resnet50", "mobilenet-small"].map(Model::named);
    // A model whose batch norm does not follow a convolution.
    let dense = Model::input([3]).batch_norm("bn").dense("fc", 2).build();
    for model in named.into_iter().chain([dense]) {
        let model = model?;
        let training = model.training_graph(16, Loss::SoftmaxCrossEntropy, SGD)?.graph;
        let evaluation = model.evaluation_graph(16, Loss::SoftmaxCrossEntropy)?.graph;
        // Masks with every second filter, 9 of 10 or 999 of 1000 elements frozen, for which the weight
        // gradients of columns or of single elements are computed.
        let filters = masks(&model, |index, outputs| index % outputs % 2 == 0);
        let elements = masks(&model, |index, _| index % 10 != 0);
        let nearly_all = masks(&model, |index, _| index % 1000 != 0);
        for (family, _) in &families {
            for kind in [DeviceKind::Discrete, DeviceKind::Cpu] {
                let adapter = adapter(*family, kind);
                let options = PlanOptions::default().family(*family);
                add(Plan::launches(&evaluation, &adapter, &options)?);
                add(Plan::launches(&training, &adapter, &options)?);
                for masks in [&filters, &elements, &nearly_all] {
                    add(Plan::launches(&training, &adapter, &options.clone().masks(masks))?);
                }
            }
        }
    }
    add(vec![digest(3, false), digest(3, true), copy_elements(3, false)]);
    Ok(all.into_values().map(|launch| (launch.shader().wgsl, launch)).collect())
}

/// Creates a mask for each parameter. `frozen` returns whether an element is frozen, from its index and the
/// parameter's last extent.
fn masks(model: &Model, frozen: impl Fn(usize, usize) -> bool) -> Vec<Mask> {
    let mask = |shape: &Shape| {
        let outputs = shape.extents().last().copied().unwrap_or(1);
        Mask::from_frozen((0..shape.elements()).map(|index| frozen(index, outputs)))
    };
    model.parameters().iter().map(|parameter| mask(&parameter.shape)).collect()
}

/// The report of an adapter that can run the family and otherwise has WebGPU's default limits.
fn adapter(family: GemmFamily, kind: DeviceKind) -> AdapterReport {
    let (cooperative_matrix, subgroup) = match family {
        GemmFamily::Cooperative { side, lanes, .. } => (Some(side), [8, lanes]),
        _ => (None, [8, 64]),
    };
    AdapterReport {
        name: "none".into(),
        driver: String::new(),
        backend: Backend::Vulkan,
        shader_compiler: ShaderCompiler::SpirV,
        kind,
        software: kind == DeviceKind::Cpu,
        subgroup: Some(subgroup),
        cooperative_matrix,
        timestamps: false,
        max_buffer: 1 << 30,
        max_binding: 1 << 30,
        max_storage_buffers: 8,
        max_workgroup_memory: 16_384,
        max_invocations: 256,
    }
}
