//! Makes buffers, pipelines and bind groups for a lowered graph.

use super::liveness::{Life, separate, share};
use super::lower::{Limits, Lowered, Place, Step, lower, root};
use super::report::{BufferUse, DispatchUse, PlanReport};
use super::store::state_slots;
use super::{Command, Home, Layout, Plan, PlanOptions, Store};
use crate::error::{Error, Result};
use crate::gpu::{AdapterReport, Gpu, GpuBuffer, PipelineSource, ReadRing};
use crate::graph::{Graph, Op, Role, StepScalars, ValueId};
use crate::kernels::{GemmFamily, Launch, SUMS_BYTES};
use std::sync::Mutex;

/// Uniform bindings begin at multiples of this on every device; no kernel's parameters are larger.
const UNIFORM_STRIDE: u64 = 256;

/// Bytes of a guard band.
pub(super) const GUARD_BYTES: u64 = 256;

/// What a guard band holds: a NaN that no kernel makes.
pub(super) const GUARD_WORD: u32 = 0x7fa5_5aa5;

/// Bytes that one read-back slot holds.
const READ_BYTES: u64 = 1 << 20;

/// A band behind a tensor: its slot, where the tensor's last element ends, and the tensor's name.
pub(super) struct Guard {
    pub slot: usize,
    pub begin: u64,
    pub bytes: u64,
    pub name: String,
}

/// Everything decided before anything is created.
struct Prepared {
    lowered: Lowered,
    homes: Vec<Option<Home>>,
    /// Slot of each workspace.
    workspaces: Vec<usize>,
    slot_bytes: Vec<u64>,
    guards: Vec<Guard>,
    report: PlanReport,
}

pub(super) fn estimate(graph: &Graph, adapter: &AdapterReport, options: &PlanOptions) -> Result<PlanReport> {
    let layout = Layout::new(graph.parameters(), adapter.max_binding.min(adapter.max_buffer))?;
    Ok(prepare(graph, &layout, adapter, options)?.report)
}

pub(super) fn launches(graph: &Graph, adapter: &AdapterReport, options: &PlanOptions) -> Result<Vec<Launch>> {
    let layout = Layout::new(graph.parameters(), adapter.max_binding.min(adapter.max_buffer))?;
    let steps = prepare(graph, &layout, adapter, options)?.lowered.steps;
    Ok(steps.into_iter().map(|step| step.launch).collect())
}

fn prepare(
    graph: &Graph,
    layout: &Layout,
    adapter: &AdapterReport,
    options: &PlanOptions,
) -> Result<Prepared> {
    let family = options.family.unwrap_or_else(|| GemmFamily::choose(adapter));
    let max_binding = adapter.max_binding.min(adapter.max_buffer);
    let limits = Limits { family, max_binding, workspace_bytes: options.workspace_bytes };
    let lowered = lower(graph, layout, limits)?;
    let mut homes = arena_homes(graph, layout)?;

    // Lives: of the values without a home in an arena, then of the workspaces.
    let mut lives: Vec<Life> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut life_of_value = vec![None; graph.values().len()];
    let band = if options.guard_bands { GUARD_BYTES } else { 0 };
    for (index, value) in graph.values().iter().enumerate() {
        let id = ValueId(index);
        let kept = value.role == Role::Input || value.output;
        let used = |step: &Step| {
            step.places.iter().any(|p| matches!(p, Place::Value(v) if root(graph, *v) == root(graph, id)))
        };
        if homes[root(graph, id).0].is_some() || root(graph, id) != id {
            continue;
        }
        let kept =
            kept || graph.values().iter().enumerate().any(|(i, v)| v.output && root(graph, ValueId(i)) == id);
        let first = lowered.steps.iter().position(used);
        let last = lowered.steps.iter().rposition(used);
        let life = match (first, last) {
            // What the caller writes or reads is not shared: it may be written once and run many times.
            _ if kept => Life { bytes: 0, first: 0, last: usize::MAX },
            (Some(first), Some(last)) => Life { bytes: 0, first, last },
            _ => continue,
        };
        let bytes = (4 * value.shape.elements() as u64).next_multiple_of(16) + band;
        if bytes > max_binding {
            return Err(Error::LimitExceeded {
                what: value.name.clone(),
                needed: bytes,
                available: max_binding,
            });
        }
        life_of_value[index] = Some(lives.len());
        names.push(value.name.clone());
        lives.push(Life { bytes, ..life });
    }
    let values_end = lives.len();
    for (index, &bytes) in lowered.workspaces.iter().enumerate() {
        let used = |step: &Step| step.places.contains(&Place::Workspace(index));
        let first = lowered.steps.iter().position(used).unwrap_or(0);
        let last = lowered.steps.iter().rposition(used).unwrap_or(0);
        names.push(format!("workspace of {}", lowered.steps[first].label));
        lives.push(Life { bytes: bytes.next_multiple_of(16) + band, first, last });
    }

    let slots = if options.guard_bands { separate(&lives) } else { share(&lives) };
    let mut guards = Vec::new();
    for (index, life) in life_of_value.iter().enumerate() {
        if let Some(life) = life {
            homes[index] = Some(Home::Slot(slots.of[*life]));
        }
    }
    if options.guard_bands {
        for (life, name) in names.iter().enumerate() {
            let elements = match life_of_value.iter().position(|&l| l == Some(life)) {
                Some(value) => graph.values()[value].shape.elements() as u64,
                None => lowered.workspaces[life - values_end] / 4,
            };
            let bytes = slots.bytes[slots.of[life]] - 4 * elements;
            guards.push(Guard { slot: slots.of[life], begin: 4 * elements, bytes, name: name.clone() });
        }
    }
    let report = report(graph, layout, adapter, family, &lowered, &slots.bytes)?;
    let workspaces = slots.of[values_end..].to_vec();
    let homes = (0..homes.len()).map(|i| homes[root(graph, ValueId(i)).0]).collect();
    Ok(Prepared { lowered, homes, workspaces, slot_bytes: slots.bytes, guards, report })
}

/// Parameters live in the weights' arena, and what an update reads in the gradients'.
fn arena_homes(graph: &Graph, layout: &Layout) -> Result<Vec<Option<Home>>> {
    let mut homes = vec![None; graph.values().len()];
    for (index, value) in graph.values().iter().enumerate() {
        if let Role::Parameter(id) = value.role {
            homes[index] = Some(Home::Weights(layout.spots()[id.0]));
        }
    }
    for node in graph.nodes() {
        let Op::Update(_, targets) = &node.op else { continue };
        for (gradient, target) in node.inputs.iter().zip(targets) {
            let home = &mut homes[root(graph, *gradient).0];
            let spot = Home::Gradients(layout.spots()[target.0]);
            if home.is_some_and(|h| h != spot) {
                let name = &graph.at(*gradient).name;
                return Err(Error::argument(
                    &node.label,
                    "a gradient of one parameter alone",
                    format!("{name} twice"),
                ));
            }
            *home = Some(spot);
        }
    }
    Ok(homes)
}

fn report(
    graph: &Graph,
    layout: &Layout,
    adapter: &AdapterReport,
    family: GemmFamily,
    lowered: &Lowered,
    slot_bytes: &[u64],
) -> Result<PlanReport> {
    let arena: u64 = layout.chunks().iter().map(|c| 4 * *c as u64).sum();
    let slots = state_slots(graph)?;
    let mut persistent = vec![
        BufferUse { name: "weights".into(), bytes: arena },
        BufferUse { name: "masks".into(), bytes: arena / 32 },
    ];
    if let Some(slots) = slots {
        persistent.push(BufferUse { name: "gradients".into(), bytes: arena });
        persistent.extend(slots.iter().map(|s| BufferUse { name: (*s).into(), bytes: arena }));
    }
    let per_step = slot_bytes.iter().enumerate();
    Ok(PlanReport {
        adapter: adapter.name.clone(),
        family: family.to_string(),
        batch: graph.batch(),
        persistent,
        per_step: per_step.map(|(i, &bytes)| BufferUse { name: format!("slot {i}"), bytes }).collect(),
        dispatches: lowered
            .steps
            .iter()
            .map(|s| DispatchUse {
                label: s.label.clone(),
                kernel: s.launch.kernel.name,
                groups: s.launch.groups,
                flops: s.launch.flops,
            })
            .collect(),
    })
}

pub(super) fn compile(gpu: &Gpu, graph: &Graph, store: &Store, options: &PlanOptions) -> Result<Plan> {
    if store.parameters() != graph.parameters() {
        let expected = format!("{} parameters as in the graph", graph.parameters().len());
        return Err(Error::argument("store", expected, "others"));
    }
    let needs = state_slots(graph)?;
    if needs
        .is_some_and(|slots| slots != store.slots() || store.inner.gradients.is_empty() && !slots.is_empty())
    {
        return Err(Error::argument(
            "store",
            "state for the graph's update rule",
            format!("{:?}", store.slots()),
        ));
    }
    let prepared = prepare(graph, &store.inner.layout, gpu.report(), options)?;
    let per_step = prepared.slot_bytes.iter();
    let slots = per_step
        .enumerate()
        .map(|(i, &bytes)| gpu.storage_buffer(&format!("slot {i}"), bytes))
        .collect::<Result<Vec<_>>>()?;
    for guard in &prepared.guards {
        let words = vec![GUARD_WORD; (guard.bytes / 4) as usize];
        gpu.write(&slots[guard.slot], guard.begin, bytemuck::cast_slice(&words))?;
    }
    let steps = &prepared.lowered.steps;
    let scalars = gpu.uniform_buffer("step scalars", size_of::<StepScalars>() as u64)?;
    let sums = gpu.storage_buffer("sums", SUMS_BYTES)?;
    let params = gpu.uniform_buffer("parameters", UNIFORM_STRIDE * steps.len().max(1) as u64)?;
    let mut bytes = vec![0; UNIFORM_STRIDE as usize * steps.len()];
    for (chunk, step) in bytes.chunks_exact_mut(UNIFORM_STRIDE as usize).zip(steps) {
        chunk[..step.launch.params.len()].copy_from_slice(&step.launch.params);
    }
    if !bytes.is_empty() {
        gpu.write(&params, 0, &bytes)?;
    }
    let binder = Binder {
        gpu,
        graph,
        store,
        prepared: &prepared,
        slots: &slots,
        scalars: &scalars,
        sums: &sums,
        params: &params,
    };
    let commands = (0..steps.len()).map(|i| binder.command(i)).collect::<Result<Vec<_>>>()?;
    let submission_ends = cut(steps, options.flops_per_submission);
    let ring = Mutex::new(ReadRing::new(gpu, "read back", 3, READ_BYTES)?);
    Ok(Plan {
        gpu: gpu.clone(),
        graph: graph.clone(),
        store: store.clone(),
        values: prepared.homes,
        slots,
        scalars,
        sums,
        commands,
        submission_ends,
        guards: prepared.guards,
        report: prepared.report,
        ring,
    })
}

/// Where each submission ends.
fn cut(steps: &[Step], flops_per_submission: u64) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut flops = 0;
    for (index, step) in steps.iter().enumerate() {
        if flops > 0 && flops + step.launch.flops > flops_per_submission {
            ends.push(index);
            flops = 0;
        }
        flops += step.launch.flops;
    }
    if !steps.is_empty() {
        ends.push(steps.len());
    }
    ends
}

struct Binder<'a> {
    gpu: &'a Gpu,
    graph: &'a Graph,
    store: &'a Store,
    prepared: &'a Prepared,
    slots: &'a [GpuBuffer],
    scalars: &'a GpuBuffer,
    sums: &'a GpuBuffer,
    params: &'a GpuBuffer,
}

impl Binder<'_> {
    fn command(&self, index: usize) -> Result<Command> {
        let step = &self.prepared.lowered.steps[index];
        let name = step.launch.kernel.name;
        let label = format!("{} ({name})", step.label);
        let source = step.launch.source();
        let bindings = step.launch.bindings();
        let pipeline =
            self.gpu.pipeline(PipelineSource { label: name, wgsl: &source, bindings: &bindings })?;
        let mut resources = vec![
            binding(self.params, UNIFORM_STRIDE * index as u64, UNIFORM_STRIDE),
            binding(self.scalars, 0, self.scalars.bytes()),
        ];
        for place in &step.places {
            resources.push(self.resource(*place, &label)?);
        }
        let entries: Vec<_> = resources
            .into_iter()
            .enumerate()
            .map(|(i, resource)| wgpu::BindGroupEntry { binding: i as u32, resource })
            .collect();
        let bind_group = self.gpu.scope(&label, 0, || {
            self.gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(&label),
                layout: &pipeline.layout,
                entries: &entries,
            })
        })?;
        Ok(Command { label, pipeline, bind_group, groups: step.launch.groups })
    }

    fn resource(&self, place: Place, label: &str) -> Result<wgpu::BindingResource<'_>> {
        let store = &self.store.inner;
        let whole = |buffer: &'_ GpuBuffer| (0, buffer.bytes());
        let (buffer, (offset, bytes)) = match place {
            Place::Weights(chunk) => (&store.weights[chunk], whole(&store.weights[chunk])),
            Place::Gradients(chunk) => (&store.gradients[chunk], whole(&store.gradients[chunk])),
            Place::Mask(chunk) => (&store.masks[chunk], whole(&store.masks[chunk])),
            Place::State(slot, chunk) => (&store.state[slot][chunk], whole(&store.state[slot][chunk])),
            Place::Sums => (self.sums, whole(self.sums)),
            Place::Workspace(index) => {
                let slot = self.prepared.workspaces[index];
                let bytes = self.prepared.lowered.workspaces[index].next_multiple_of(16);
                (&self.slots[slot], (0, self.with_band(slot, bytes)))
            }
            Place::Value(id) => {
                let bytes = (4 * self.graph.at(id).shape.elements() as u64).next_multiple_of(16);
                match self.prepared.homes[id.0] {
                    Some(Home::Slot(slot)) => (&self.slots[slot], (0, self.with_band(slot, bytes))),
                    Some(Home::Weights(spot)) => (&store.weights[spot.chunk], (4 * spot.first as u64, bytes)),
                    Some(Home::Gradients(spot)) => {
                        (&store.gradients[spot.chunk], (4 * spot.first as u64, bytes))
                    }
                    None => {
                        return Err(Error::argument(label, "operands with memory", &self.graph.at(id).name));
                    }
                }
            }
        };
        Ok(binding(buffer, offset, bytes))
    }

    /// A guarded tensor is bound with its band, so that a write beyond its end is seen and not cut off.
    fn with_band(&self, slot: usize, bytes: u64) -> u64 {
        if self.prepared.guards.is_empty() { bytes } else { self.slots[slot].bytes() }
    }
}

fn binding(buffer: &GpuBuffer, offset: u64, bytes: u64) -> wgpu::BindingResource<'_> {
    wgpu::BindingResource::Buffer(wgpu::BufferBinding {
        buffer: buffer.raw(),
        offset,
        size: std::num::NonZeroU64::new(bytes),
    })
}
