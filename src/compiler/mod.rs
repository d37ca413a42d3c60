//! Compiles a graph for an adapter into a [`Program`]. The result depends only on the graph, the options, the
//! masks and the adapter report; no device is needed.
//!
//! ```text
//! Graph --operations--> fuse ReLU gradients into pooling --> fuse epilogues --> skip frozen work
//!       --> fuse loss gradients --> fuse batch norms --> fuse bias gradients --> choose algorithms --> lower to dispatches --> assign memory --> Program
//! ```

mod conv;
mod cost;
mod ir;
mod lower;
mod memory;
mod options;
mod passes;
mod program;
mod report;
mod traffic;

pub use conv::Algorithm;
pub use cost::{CostModel, WinogradCost};
pub(crate) use memory::segments;
pub use memory::{ArenaRange, Layout};
pub use options::{GradientStrategy, PlanOptions, Reduction, Winograd};
use passes::FrozenWork;
pub(crate) use program::{
    ArenaId, Binding, BufferId, Dispatch, Location, Program, READ_BYTES, READ_SLOTS, accumulates,
    state_slots, uniform_bytes,
};
pub use report::{Avoided, BufferUse, Crossing, DispatchUse, PlanReport};

use crate::error::{Error, Result};
use crate::gpu::AdapterReport;
use crate::graph::{Graph, Node, Op};
use conv::{Pass, choose, largest_partial};
use ir::{Operation, operations};
use lower::{Builder, Lowered, lower};
use options::Settings;

/// Compiles a graph for an adapter.
///
/// # Errors
/// [`Error::InvalidArgument`], [`Error::MaskMismatch`], and [`Error::LimitExceeded`] for a tensor, a loop or
/// a dispatch grid that exceeds a limit of the adapter.
pub(crate) fn compile(
    graph: &Graph,
    layout: &Layout,
    adapter: &AdapterReport,
    options: &PlanOptions,
) -> Result<Program> {
    let settings = Settings::new(graph.batch(), adapter, options)?;
    let frozen_work = analyse_masks(graph, adapter, options)?;
    let lowered = lower_graph(graph, layout, &settings, &frozen_work)?;
    let memory = memory::assign(graph, layout, &lowered, settings.max_binding, settings.guard_bands)?;
    let mut dispatches = Vec::new();
    for dispatch in &lowered.dispatches {
        dispatches.push(Dispatch {
            label: dispatch.label.clone(),
            algorithm: dispatch.algorithm,
            launch: dispatch.launch.clone(),
            bindings: memory.bind(graph, layout, &lowered, dispatch)?,
        });
    }
    let contents = (&dispatches[..], &memory.slots[..], &lowered.lists[..]);
    let mut report = program::report(graph, layout, adapter, &settings, contents)?;
    report.minimum_bytes = lowered.minimum_bytes;
    for (used, traffic) in report.dispatches.iter_mut().zip(traffic::of_dispatches(&dispatches)) {
        (used.bytes_read, used.bytes_written) = (traffic.read, traffic.written);
    }
    if !options.masks.is_empty() {
        let unmasked = lower_graph(graph, layout, &settings, &FrozenWork::none(graph))?;
        report.avoided = avoided(&unmasked, &lowered);
    }
    Ok(Program {
        submission_ends: program::submission_ends(&dispatches, options.flops_per_submission),
        dispatches,
        slots: memory.slots,
        lists: lowered.lists,
        accumulated: lowered.accumulated,
        locations: memory.locations,
        guards: memory.guards,
        frozen_work,
        report,
    })
}

/// Determines which operations and gradients need not be computed because of frozen elements. New masks
/// require recompilation only if this result changes.
///
/// # Errors
/// [`Error::InvalidArgument`] for a wrong number of masks, [`Error::MaskMismatch`] for a mask of the wrong
/// length.
pub(crate) fn analyse_masks(
    graph: &Graph,
    adapter: &AdapterReport,
    options: &PlanOptions,
) -> Result<FrozenWork> {
    let (masks, parameters) = (&options.masks, graph.parameters());
    if !masks.is_empty() {
        if masks.len() != parameters.len() {
            let expected = format!("{} masks, one per parameter", parameters.len());
            return Err(Error::argument("PlanOptions::masks", expected, masks.len()));
        }
        for (mask, parameter) in masks.iter().zip(parameters) {
            let expected = parameter.shape.elements();
            if mask.len() != expected {
                return Err(Error::MaskMismatch { path: parameter.path.clone(), expected, got: mask.len() });
            }
        }
    }
    let settings = Settings::new(graph.batch(), adapter, options)?;
    Ok(passes::frozen_work(graph, masks, &settings))
}

/// Returns the crossing points of all weight gradients of a graph, in order.
///
/// # Errors
/// [`Error::InvalidArgument`] for a GEMM family that the adapter does not support.
pub(crate) fn crossings(
    graph: &Graph,
    adapter: &AdapterReport,
    options: &PlanOptions,
) -> Result<Vec<Crossing>> {
    let settings = Settings::new(graph.batch(), adapter, options)?;
    let of = |node: &Node| {
        let conv = passes::weight_gradient(graph, node)?;
        let share = |algorithm, all: usize| {
            let most = largest_partial(&conv, algorithm, &settings)?;
            Some(1.0 - most as f64 / all as f64)
        };
        let [rows, columns] = [conv.depth(), conv.c_out];
        Some(Crossing {
            label: node.label.clone(),
            columns: share(Algorithm::Columns, columns),
            rows: share(Algorithm::Rows, rows),
            elements: share(Algorithm::Elements, rows * columns),
        })
    };
    Ok(graph.nodes().iter().filter_map(of).collect())
}

/// Returns the layout of the parameter arenas on an adapter.
///
/// # Errors
/// [`Error::LimitExceeded`] for a parameter larger than a binding.
pub(crate) fn layout_on(graph: &Graph, adapter: &AdapterReport) -> Result<Layout> {
    Layout::new(graph.parameters(), adapter.max_binding.min(adapter.max_buffer))
}

fn lower_graph(
    graph: &Graph,
    layout: &Layout,
    settings: &Settings,
    frozen_work: &FrozenWork,
) -> Result<Lowered> {
    let operations = passes::fuse_relu_grad_into_pool_grad(graph, operations(graph));
    let mut operations = passes::fuse_epilogues(graph, operations, settings);
    operations.retain(|operation| !frozen_work.skipped.contains(&operation.index));
    let operations = passes::fuse_loss_grads(operations);
    let mut operations = passes::fuse_norms(graph, operations);
    if settings.parallel_reductions {
        operations = passes::merge_in_readers(graph, operations);
    }
    let mut operations = passes::fuse_bias_grads(operations, settings);
    choose_algorithms(&mut operations, settings, frozen_work);
    let mut lowered = lower(Builder::new(graph, layout, *settings, &frozen_work.fully_frozen), &operations)?;
    lowered.minimum_bytes = traffic::minimum(graph, &operations, &frozen_work.fully_frozen);
    Ok(lowered)
}

/// Chooses the algorithm of each convolution and of each partial weight gradient.
fn choose_algorithms(operations: &mut [Operation], settings: &Settings, frozen_work: &FrozenWork) {
    for operation in operations {
        let (conv, pass) = match &operation.node.op {
            Op::Conv2d(conv) => (conv, Pass::Forward),
            Op::Conv2dGradInput(conv) => (conv, Pass::GradInput),
            Op::Conv2dGradKernel(conv) => (conv, Pass::GradKernel),
            _ => {
                operation.choice = frozen_work.partial.get(&operation.index).cloned();
                continue;
            }
        };
        let partial = frozen_work.partial.get(&operation.index).cloned();
        operation.choice = Some(partial.unwrap_or_else(|| choose(conv, pass, None, settings)));
    }
}

/// Returns, for each operation label, how many floating-point operations the program `masked` saves compared
/// with `unmasked`.
fn avoided(unmasked: &Lowered, masked: &Lowered) -> Vec<Avoided> {
    let mut avoided: Vec<Avoided> = Vec::new();
    for dispatch in &unmasked.dispatches {
        let flops = dispatch.launch.flops;
        match avoided.iter_mut().find(|a| a.label == dispatch.label) {
            Some(found) => found.flops += flops,
            None => avoided.push(Avoided { label: dispatch.label.clone(), flops }),
        }
    }
    for dispatch in &masked.dispatches {
        if let Some(found) = avoided.iter_mut().find(|a| a.label == dispatch.label) {
            found.flops = found.flops.saturating_sub(dispatch.launch.flops);
        }
    }
    avoided.retain(|a| a.flops > 0);
    avoided
}
