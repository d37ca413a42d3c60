//! The kernels to compile: those of training plans, and the GEMMs of convolutions with each tile.

use frazil::gpu::{AdapterReport, Shader};
use frazil::low_level::{
    Conv2d, DType, GemmFamily, Graph, Launch, Op, Padding, Plan, PlanOptions, Shape, TILES, TileSet,
    UpdateRule, Window, Winograd,
};
use frazil::{Loss, Model, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Models whose training plans are compiled, at this batch size.
const MODELS: [&str; 2] = ["cifar", "resnet20"];
const BATCH: usize = 64;

/// Convolutions of which each tile is compiled, and all GEMMs with cooperative matrices: side of the image,
/// input and output channels.
const CONVOLUTIONS: [[usize; 3]; 2] = [[16, 32, 64], [32, 3, 32]];

/// A shader to compile.
pub struct Kernel {
    /// What it computes, unique among all kernels of a device.
    pub name: String,
    /// Kernel, with its tile if it is a GEMM in workgroup memory.
    pub shader_name: String,
    /// Its text and bindings.
    pub shader: Shader,
    /// Number of dispatches in a training step of each model.
    pub dispatches: BTreeMap<String, u64>,
}

/// Lists the kernels for a device, each distinct shader once: first the GEMMs of each tile, then what the
/// plans have in addition.
///
/// # Errors
/// If a plan does not fit the device.
pub fn kernels(report: &AdapterReport) -> Result<Vec<Kernel>> {
    let mut list = List::default();
    let tiles = TILES.map(|tile| GemmFamily::Tiled { tiles: TileSet::Only(tile) });
    let tiles = tiles.into_iter().filter(|family| family.is_supported(report));
    let cooperative = GemmFamily::cooperative(report);
    let cooperative = cooperative.into_iter().flat_map(|family| [family, family.with_stored_operands()]);
    for family in tiles.chain(cooperative) {
        let options = PlanOptions::default().family(family);
        for [side, c_in, c_out] in CONVOLUTIONS {
            for part in ["forward", "dX", "dW"] {
                // An image has no gradient.
                if c_in == 3 && part == "dX" {
                    continue;
                }
                let graph = convolution([side, c_in, c_out], part)?;
                for launch in Plan::launches(&graph, report, &options)? {
                    if launch.kernel.name.starts_with("gemm_") || launch.kernel.name == "round_to_f16" {
                        list.add(&launch, format!("{family} {c_in} to {c_out} {part}"));
                    }
                }
            }
        }
    }
    // The kernel with its transforms; a weight gradient and few input channels have none.
    let options = PlanOptions::default().winograd(Winograd::Fused);
    for part in ["forward", "dX"] {
        let [side, c_in, c_out] = CONVOLUTIONS[0];
        let graph = convolution([side, c_in, c_out], part)?;
        for launch in Plan::launches(&graph, report, &options)? {
            list.add(&launch, format!("winograd-fused {c_in} to {c_out} {part}"));
        }
    }
    let rule = UpdateRule::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
    for model in MODELS {
        let graph = Model::named(model)?.training_graph(BATCH, Loss::SoftmaxCrossEntropy, rule)?.graph;
        let options = PlanOptions::default();
        let launches = Plan::launches(&graph, report, &options)?;
        let labels = Plan::estimate(&graph, report, &options)?.dispatches;
        for (launch, dispatch) in launches.iter().zip(labels) {
            let kernel = list.add(launch, format!("{model} {}", dispatch.label));
            *kernel.dispatches.entry(model.to_owned()).or_default() += 1;
        }
    }
    Ok(list.kernels)
}

#[derive(Default)]
struct List {
    kernels: Vec<Kernel>,
    /// Index of each text in `kernels`.
    texts: BTreeMap<String, usize>,
    names: BTreeSet<String>,
}

impl List {
    /// Adds the shader of a launch under a name, unless the list already has it under another name.
    fn add(&mut self, launch: &Launch, name: String) -> &mut Kernel {
        let shader = launch.shader();
        let index = *self.texts.entry(shader.wgsl.clone()).or_insert(self.kernels.len());
        if index == self.kernels.len() {
            // An operation may have several dispatches.
            let names = [name.clone(), format!("{name} {}", launch.kernel.name)].into_iter();
            let mut names = names.chain((2..).map(|number| format!("{name} {number}")));
            let name = names.find(|name| !self.names.contains(name)).unwrap_or(name);
            self.names.insert(name.clone());
            let shader_name = shader_name(launch);
            self.kernels.push(Kernel { name, shader_name, shader, dispatches: BTreeMap::new() });
        }
        &mut self.kernels[index]
    }
}

/// Name of the kernel, with the tile of a GEMM in workgroup memory.
fn shader_name(launch: &Launch) -> String {
    let constant = |name| launch.constants.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
    match (constant("TILE_ROWS"), constant("TILE_COLUMNS")) {
        (Some(rows), Some(columns)) => format!("{} {rows}x{columns}", launch.kernel.name),
        _ => launch.kernel.name.to_owned(),
    }
}

/// One part of a 3x3 convolution: its forward pass, or the gradient of its input or of its kernel.
fn convolution([side, c_in, c_out]: [usize; 3], part: &str) -> Result<Graph> {
    let window = Window { padding: Padding::Same, ..Window::new([3, 3]) };
    let conv = Conv2d::new([side, side, c_in], c_out, window, 1, part)?;
    let mut graph = Graph::new(BATCH)?;
    let image =
        |graph: &mut Graph, name, channels| graph.batch_input(name, &[side, side, channels], DType::F32);
    let first = image(&mut graph, "first", if part == "dX" { c_out } else { c_in })?;
    let second = match part {
        "dW" => image(&mut graph, "dy", c_out)?,
        _ => graph.input("kernel", Shape::new(conv.kernel_shape())?, DType::F32),
    };
    let op = match part {
        "forward" => Op::Conv2d(conv),
        "dX" => Op::Conv2dGradInput(conv),
        _ => Op::Conv2dGradKernel(conv),
    };
    let result = graph.push_one(op, &[first, second], part)?;
    graph.mark_output(result)?;
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use super::*;
    use frazil::gpu::{Backend, DeviceKind};

    #[test]
    fn each_tile_and_each_part_of_a_convolution_is_listed_once() {
        let report = AdapterReport::new("test", Backend::Vulkan, DeviceKind::Discrete);
        let kernels = kernels(&report).unwrap();
        for tile in TILES {
            for part in ["32 to 64 forward", "32 to 64 dX", "32 to 64 dW", "3 to 32 forward", "3 to 32 dW"] {
                let name = format!("tiled-{tile} {part}");
                let mut found = kernels.iter().filter(|kernel| kernel.name == name);
                let shader_name = found.next().map(|kernel| kernel.shader_name.clone());
                assert_eq!((shader_name, found.count()), (Some(format!("gemm_tiled {tile}")), 0), "{name}");
            }
        }
        let names: BTreeSet<_> = kernels.iter().map(|kernel| &kernel.name).collect();
        let texts: BTreeSet<_> = kernels.iter().map(|kernel| &kernel.shader.wgsl).collect();
        assert_eq!((names.len(), texts.len()), (kernels.len(), kernels.len()));
        for name in ["cifar conv2", "cifar update", "resnet20 bn1"] {
            let kernel = kernels.iter().find(|kernel| kernel.name == name).unwrap();
            assert!(!kernel.dispatches.is_empty(), "{name}");
        }
        for model in MODELS {
            let all: u64 = kernels.iter().filter_map(|kernel| kernel.dispatches.get(model)).sum();
            assert!(all > 30, "{model}: {all} dispatches");
        }
    }
}
