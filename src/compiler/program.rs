//! The result of compilation, which creates no GPU objects: dispatches, memory layout and constants.

use super::conv::Algorithm;
use super::memory::{ArenaRange, Layout, segments};
use super::options::Settings;
use super::passes::FrozenWork;
use super::report::{BufferUse, DispatchUse, PlanReport};
use crate::error::{Error, Result};
use crate::gpu::AdapterReport;
use crate::graph::{Graph, Op, ParameterId, StepScalars};
use crate::kernels::{Digest, Launch, SUMS_BYTES, Segment, digest};

/// Alignment in bytes of the parameters of a dispatch in the uniform buffer: a valid uniform buffer offset
/// alignment on every device.
const UNIFORM_ALIGN: u64 = 256;

/// Number of staging buffers in the read-back ring of a store or a plan.
pub(crate) const READ_SLOTS: usize = 3;
/// Size of one staging buffer in bytes; larger reads use several.
pub(crate) const READ_BYTES: u64 = 256 << 10;

/// A compiled graph: the dispatches of one run, and the memory that they use.
#[derive(Debug)]
pub(crate) struct Program {
    pub dispatches: Vec<Dispatch>,
    /// For each submission, the index of the dispatch after its last one.
    pub submission_ends: Vec<usize>,
    /// Size of each memory slot in bytes.
    pub slots: Vec<u64>,
    /// Contents of each list of constants, such as indices to gather.
    pub lists: Vec<Vec<u32>>,
    /// The parameters whose gradients are accumulated, each with the number of dispatches until then, in their order.
    pub accumulated: Vec<(ParameterId, usize)>,
    /// Location of each value of the graph; `None` if no dispatch binds it.
    pub locations: Vec<Option<Location>>,
    /// Guard bands; empty unless `PlanOptions::guard_bands` is set.
    pub guards: Vec<Guard>,
    pub frozen_work: FrozenWork,
    pub report: PlanReport,
}

/// A kernel launch with the buffer ranges that it binds, in the order of the shader's bindings.
#[derive(Debug)]
pub(crate) struct Dispatch {
    /// Label of the operation.
    pub label: String,
    pub algorithm: Option<Algorithm>,
    pub launch: Launch,
    pub bindings: Vec<Binding>,
}

/// A range of a buffer that a kernel binds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding {
    pub buffer: BufferId,
    pub offset: u64,
    pub bytes: u64,
    /// Number of bytes that the kernel reads or writes. If a whole chunk of an arena is bound, this is less
    /// than the bound size `bytes`.
    pub accessed: u64,
}

/// A buffer of the plan or of its parameter store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BufferId {
    Slot(usize),
    List(usize),
    RunningSums,
    /// A chunk (buffer) of one of the store's arenas.
    Arena(ArenaId, usize),
}

/// An arena of the parameter store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArenaId {
    Weights,
    Gradients,
    Accumulated,
    Masks,
    MissedSteps,
    State(usize),
}

/// Location of a value in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// A memory slot of the plan, from a byte offset on.
    Slot { slot: usize, offset: u64 },
    /// A range of the store's weights.
    Weights(ArenaRange),
    /// A range of the store's gradients.
    Gradients(ArenaRange),
}

/// A guard band after a tensor.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    pub slot: usize,
    /// Byte offset of the band in its slot, which is the end of the tensor.
    pub begin: u64,
    pub bytes: u64,
    /// Name of the tensor before the band.
    pub name: String,
}

/// Returns the bytes that the parameters of a launch take in the uniform buffer.
pub(crate) fn uniform_bytes(launch: &Launch) -> u64 {
    (launch.params.len() as u64).next_multiple_of(UNIFORM_ALIGN)
}

/// Divides a run into submissions of about this many floating-point operations each. Returns, for each
/// submission, the index of the dispatch after its last one.
pub(super) fn submission_ends(dispatches: &[Dispatch], flops_per_submission: u64) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut flops = 0;
    for (index, dispatch) in dispatches.iter().enumerate() {
        if flops > 0 && flops + dispatch.launch.flops > flops_per_submission {
            ends.push(index);
            flops = 0;
        }
        flops += dispatch.launch.flops;
    }
    if !dispatches.is_empty() {
        ends.push(dispatches.len());
    }
    ends
}

/// Whether a graph accumulates gradients over several runs.
pub(crate) fn accumulates(graph: &Graph) -> bool {
    graph.nodes().iter().any(|node| matches!(node.op, Op::Accumulate(_)))
}

/// Returns the names of the optimizer state tensors of a graph's updates; `None` without an update.
///
/// # Errors
/// [`Error::InvalidArgument`] for updates with different state tensors.
pub(crate) fn state_slots(graph: &Graph) -> Result<Option<&'static [&'static str]>> {
    let mut found: Option<&'static [&'static str]> = None;
    for node in graph.nodes() {
        if let Op::Update(rule, _) = &node.op {
            match found {
                Some(slots) if slots != rule.slots() => {
                    let expected = format!("the same state tensors for all updates, {slots:?}");
                    return Err(Error::argument(&node.label, expected, format!("{:?}", rule.slots())));
                }
                _ => found = Some(rule.slots()),
            }
        }
    }
    Ok(found)
}

/// Builds the report of a program, except for its memory traffic and [`PlanReport::avoided`].
pub(super) fn report(
    graph: &Graph,
    layout: &Layout,
    adapter: &AdapterReport,
    settings: &Settings,
    program: (&[Dispatch], &[u64], &[Vec<u32>]),
) -> Result<PlanReport> {
    let (dispatches, slots, lists) = program;
    let arena: u64 = layout.chunks().iter().map(|elements| 4 * *elements as u64).sum();
    let mut persistent = vec![
        BufferUse { name: "weights".into(), bytes: arena },
        BufferUse { name: "masks".into(), bytes: arena / 32 },
    ];
    if let Some(state) = state_slots(graph)? {
        persistent.push(BufferUse { name: "gradients".into(), bytes: arena });
        if accumulates(graph) {
            persistent.push(BufferUse { name: "accumulated gradients".into(), bytes: arena });
        }
        persistent.extend(state.iter().map(|slot| BufferUse { name: (*slot).into(), bytes: arena }));
        if settings.missed_steps {
            persistent.push(BufferUse { name: "missed steps".into(), bytes: arena });
        }
    }
    persistent.push(BufferUse { name: "read-back, digests".into(), bytes: upkeep_bytes(layout) });
    let params: u64 = dispatches.iter().map(|dispatch| uniform_bytes(&dispatch.launch)).sum();
    let uniforms = params.max(UNIFORM_ALIGN) + size_of::<StepScalars>() as u64;
    let lists: u64 = lists.iter().map(|list| 4 * list.len() as u64).sum();
    let own = uniforms + lists + SUMS_BYTES + READ_SLOTS as u64 * READ_BYTES;
    let slots = slots.iter().enumerate().map(|(i, &bytes)| BufferUse { name: format!("slot {i}"), bytes });
    let upkeep = BufferUse { name: "uniforms, lists, read-back".into(), bytes: own };
    Ok(PlanReport {
        adapter: adapter.name.clone(),
        family: settings.family.to_string(),
        batch: graph.batch(),
        persistent,
        per_step: slots.chain([upkeep]).collect(),
        dispatches: dispatches
            .iter()
            .map(|dispatch| DispatchUse {
                label: dispatch.label.clone(),
                algorithm: dispatch.algorithm,
                kernel: dispatch.launch.kernel.name,
                groups: dispatch.launch.groups,
                flops: dispatch.launch.flops,
                bytes_read: 0,
                bytes_written: 0,
                tile_flops: dispatch.launch.tile_flops,
            })
            .collect(),
        avoided: Vec::new(),
        minimum_bytes: 0,
    })
}

/// Returns the total size in bytes of a store's read-back and digest buffers.
fn upkeep_bytes(layout: &Layout) -> u64 {
    let params = 2 * digest(1, true).params.len();
    let of_chunk =
        |chunk: &Vec<(Segment, usize)>| chunk.len() * (size_of::<Segment>() + size_of::<Digest>()) + params;
    let digests: usize = segments(layout).iter().map(of_chunk).sum();
    READ_SLOTS as u64 * READ_BYTES + (size_of::<StepScalars>() + digests) as u64
}
