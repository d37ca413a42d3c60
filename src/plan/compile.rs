//! Makes buffers, pipelines and bind groups for a lowered graph.

use super::alias::roots;
use super::gradients::{accumulates, check_gradients};
use super::liveness::{Life, separate, share};
use super::lower::{Limits, Lowered, Place, Step, lower};
use super::report::{BufferUse, DispatchUse, PlanReport};
use super::store::{READ_BYTES, READ_SLOTS, state_slots, upkeep_bytes};
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
    if !family.is_legal(adapter) {
        return Err(Error::argument("gemm family", format!("one that {} can run", adapter.name), family));
    }
    let max_binding = adapter.max_binding.min(adapter.max_buffer);
    let limits = Limits {
        family,
        max_binding,
        workspace_bytes: options.workspace_bytes,
        explicit: options.explicit_columns,
    };
    let lowered = lower(graph, layout, limits)?;
    let roots = roots(graph);
    let mut homes = arena_homes(graph, layout, &roots)?;
    let tenants = tenants(graph, &roots, &homes, &lowered, if options.guard_bands { GUARD_BYTES } else { 0 });
    if let Some(large) = tenants.iter().find(|t| t.life.bytes > max_binding) {
        let what = large.name.clone();
        return Err(Error::LimitExceeded { what, needed: large.life.bytes, available: max_binding });
    }
    let lives: Vec<_> = tenants.iter().map(|t| t.life).collect();
    let slots = if options.guard_bands { separate(&lives) } else { share(&lives) };

    let mut workspaces = vec![0; lowered.workspaces.len()];
    let mut guards = Vec::new();
    for (tenant, &slot) in tenants.iter().zip(&slots.of) {
        match tenant.who {
            Who::Value(id) => homes[id.0] = Some(Home::Slot(slot)),
            Who::Workspace(index) => workspaces[index] = slot,
        }
        if options.guard_bands {
            let begin = 4 * tenant.elements;
            guards.push(Guard { slot, begin, bytes: slots.bytes[slot] - begin, name: tenant.name.clone() });
        }
    }
    let report = report(graph, layout, adapter, family, &lowered, &slots.bytes)?;
    let homes = roots.iter().map(|root| homes[root.0]).collect();
    Ok(Prepared { lowered, homes, workspaces, slot_bytes: slots.bytes, guards, report })
}

/// What takes memory of the plan's own.
struct Tenant {
    who: Who,
    name: String,
    elements: u64,
    life: Life,
}

#[derive(Clone, Copy)]
enum Who {
    Value(ValueId),
    Workspace(usize),
}

/// Values without a home in an arena and workspaces, each from the first step that binds it to the last.
fn tenants(
    graph: &Graph,
    roots: &[ValueId],
    homes: &[Option<Home>],
    lowered: &Lowered,
    band: u64,
) -> Vec<Tenant> {
    let mut values: Vec<Option<(usize, usize)>> = vec![None; roots.len()];
    let mut workspaces = vec![(0, 0); lowered.workspaces.len()];
    for (number, step) in lowered.steps.iter().enumerate() {
        for place in &step.places {
            match *place {
                Place::Value(id) => values[roots[id.0].0].get_or_insert((number, number)).1 = number,
                Place::Workspace(index) if workspaces[index] == (0, 0) => {
                    workspaces[index] = (number, number)
                }
                Place::Workspace(index) => workspaces[index].1 = number,
                _ => {}
            }
        }
    }
    // What the caller writes or reads is not shared: it may be written once and run many times.
    for (value, root) in graph.values().iter().zip(roots) {
        if value.output || value.role == Role::Input {
            values[root.0] = Some((0, usize::MAX));
        }
    }
    let life = |elements: u64, (first, last)| Life {
        bytes: (4 * elements).next_multiple_of(16) + band,
        first,
        last,
    };
    let mut tenants = Vec::new();
    for (index, value) in graph.values().iter().enumerate() {
        if let (Some(span), None, ValueId(root)) = (values[index], homes[index], roots[index])
            && root == index
        {
            let elements = value.shape.elements() as u64;
            let who = Who::Value(ValueId(index));
            tenants.push(Tenant { who, name: value.name.clone(), elements, life: life(elements, span) });
        }
    }
    for (index, (&bytes, &span)) in lowered.workspaces.iter().zip(&workspaces).enumerate() {
        let name = format!("workspace of {}", lowered.steps[span.0].label);
        tenants.push(Tenant {
            who: Who::Workspace(index),
            name,
            elements: bytes / 4,
            life: life(bytes / 4, span),
        });
    }
    tenants
}

/// Parameters live in the weights' arena, and what an update reads in the gradients'.
fn arena_homes(graph: &Graph, layout: &Layout, roots: &[ValueId]) -> Result<Vec<Option<Home>>> {
    let mut homes = vec![None; graph.values().len()];
    for (index, value) in graph.values().iter().enumerate() {
        if let Role::Parameter(id) = value.role {
            homes[index] = Some(Home::Weights(layout.spots()[id.0]));
        }
    }
    for node in graph.nodes() {
        let Op::Update(_, targets) = &node.op else { continue };
        for (gradient, target) in node.inputs.iter().zip(targets) {
            let home = &mut homes[roots[gradient.0].0];
            let spot = Home::Gradients(layout.spots()[target.parameter.0]);
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
    check_gradients(graph, layout, roots, &homes)?;
    // One arena cannot be bound for reading and for writing in one dispatch.
    for node in graph.nodes() {
        let chunk = |id: &ValueId| match homes[roots[id.0].0] {
            Some(Home::Gradients(spot)) if !matches!(node.op, Op::Update(..) | Op::Reshape(_)) => {
                Some(spot.chunk)
            }
            _ => None,
        };
        let clash = node
            .inputs
            .iter()
            .filter_map(chunk)
            .any(|c| node.outputs.iter().filter_map(chunk).any(|o| o == c));
        if clash {
            let expected = "a gradient that is not computed from another gradient of the update";
            return Err(Error::argument(
                &node.label,
                expected,
                "one that is; update it in a graph of its own",
            ));
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
        if accumulates(graph) {
            persistent.push(BufferUse { name: "accumulated gradients".into(), bytes: arena });
        }
        persistent.extend(slots.iter().map(|s| BufferUse { name: (*s).into(), bytes: arena }));
    }
    persistent.push(BufferUse { name: "read back, digests".into(), bytes: upkeep_bytes(layout) });
    let uniforms = UNIFORM_STRIDE * lowered.steps.len().max(1) as u64 + size_of::<StepScalars>() as u64;
    let own = uniforms + SUMS_BYTES + READ_SLOTS as u64 * READ_BYTES;
    let slots =
        slot_bytes.iter().enumerate().map(|(i, &bytes)| BufferUse { name: format!("slot {i}"), bytes });
    let upkeep = BufferUse { name: "uniforms, read back".into(), bytes: own };
    Ok(PlanReport {
        adapter: adapter.name.clone(),
        family: family.to_string(),
        batch: graph.batch(),
        persistent,
        per_step: slots.chain([upkeep]).collect(),
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
    let without_gradients = store.inner.gradients.is_empty() && !store.parameters().is_empty();
    if needs.is_some_and(|slots| without_gradients || slots != store.slots()) {
        return Err(Error::argument(
            "store",
            "state for the graph's update rule",
            format!("{:?}", store.slots()),
        ));
    }
    if accumulates(graph) && store.inner.accumulated.is_empty() {
        return Err(Error::argument("store", "one made for a graph that accumulates gradients", "another"));
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
    let ring = Mutex::new(ReadRing::new(gpu, "read back", READ_SLOTS, READ_BYTES)?);
    Ok(Plan {
        gpu: gpu.clone(),
        graph: graph.clone(),
        store: store.clone(),
        values: prepared.homes,
        slots,
        scalars,
        sums,
        _params: params,
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
        let sizes = resources.iter().skip(2).map(|resource| match resource {
            wgpu::BindingResource::Buffer(buffer) => buffer.size.map_or(0, std::num::NonZeroU64::get),
            _ => 0,
        });
        let bytes = sizes.sum();
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
        Ok(Command { label, pipeline, bind_group, groups: step.launch.groups, bytes })
    }

    fn resource(&self, place: Place, label: &str) -> Result<wgpu::BindingResource<'_>> {
        let store = &self.store.inner;
        let whole = |buffer: &'_ GpuBuffer| (0, buffer.bytes());
        let (buffer, (offset, bytes)) = match place {
            Place::Weights(chunk) => (&store.weights[chunk], whole(&store.weights[chunk])),
            Place::Gradients(chunk) => (&store.gradients[chunk], whole(&store.gradients[chunk])),
            Place::Accumulated(chunk) => (&store.accumulated[chunk], whole(&store.accumulated[chunk])),
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
