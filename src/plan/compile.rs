//! Makes buffers, pipelines and bind groups for a lowered graph.

use super::gradients::accumulates;
use super::lower::{Place, Step};
use super::prepare::{Prepared, UNIFORM_STRIDE, prepare};
use super::store::{READ_BYTES, READ_SLOTS, state_slots};
use super::{Command, Home, Plan, PlanOptions, Store};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuBuffer, Job, ReadRing, Shader};
use crate::graph::{Graph, StepScalars};
use crate::kernels::{SUMS_BYTES, Variant};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// What a guard band holds: a NaN that no kernel makes.
pub(super) const GUARD_WORD: u32 = 0x7fa5_5aa5;

/// `sums`: those of a plan that this one goes on from.
pub(super) fn compile(
    gpu: &Gpu,
    graph: &Graph,
    store: &Store,
    options: &PlanOptions,
    sums: Option<Arc<GpuBuffer>>,
) -> Result<Plan> {
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
    let sums = match sums {
        Some(sums) => sums,
        None => Arc::new(gpu.storage_buffer("sums", SUMS_BYTES)?),
    };
    let mut lists = Vec::new();
    for (number, words) in prepared.lowered.lists.iter().enumerate() {
        let list = gpu.storage_buffer(&format!("list {number}"), 4 * words.len() as u64)?;
        gpu.write(&list, 0, bytemuck::cast_slice(words))?;
        lists.push(list);
    }
    let params = gpu.uniform_buffer("parameters", UNIFORM_STRIDE * steps.len().max(1) as u64)?;
    let mut bytes = vec![0; UNIFORM_STRIDE as usize * steps.len()];
    for (chunk, step) in bytes.chunks_exact_mut(UNIFORM_STRIDE as usize).zip(steps) {
        chunk[..step.launch.params.len()].copy_from_slice(&step.launch.params);
    }
    if !bytes.is_empty() {
        gpu.write(&params, 0, &bytes)?;
    }
    let shaders = shaders(steps);
    let first_run = StepScalars::forward(graph.batch());
    gpu.compile_ahead(steps.iter().zip(&shaders).map(|(step, shader)| Job {
        label: step.launch.kernel.name,
        shader: Arc::clone(shader),
        uniforms: [step.launch.params.clone(), bytemuck::bytes_of(&first_run).to_vec()],
    }));
    let binder = Binder {
        gpu,
        shaders: &shaders,
        graph,
        store,
        prepared: &prepared,
        slots: &slots,
        lists: &lists,
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
        options: options.clone(),
        savings: prepared.savings,
        _params: params,
        _lists: lists,
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

/// The shader of each step, every one made once.
fn shaders(steps: &[Step]) -> Vec<Arc<Shader>> {
    let mut known: HashMap<Variant, Arc<Shader>> = HashMap::new();
    let mut shader = |step: &Step| {
        let shader = known.entry(step.launch.variant()).or_insert_with(|| step.launch.shader().into());
        Arc::clone(shader)
    };
    steps.iter().map(&mut shader).collect()
}

struct Binder<'a> {
    gpu: &'a Gpu,
    shaders: &'a [Arc<Shader>],
    graph: &'a Graph,
    store: &'a Store,
    prepared: &'a Prepared,
    slots: &'a [GpuBuffer],
    lists: &'a [GpuBuffer],
    scalars: &'a GpuBuffer,
    sums: &'a GpuBuffer,
    params: &'a GpuBuffer,
}

impl Binder<'_> {
    fn command(&self, index: usize) -> Result<Command> {
        let step = &self.prepared.lowered.steps[index];
        let name = step.launch.kernel.name;
        let label = format!("{} ({name})", step.label);
        let shader = &self.shaders[index];
        let pipeline = self.gpu.pipeline(name, shader)?;
        let mut resources = vec![
            binding(self.params, UNIFORM_STRIDE * index as u64, UNIFORM_STRIDE),
            binding(self.scalars, 0, self.scalars.bytes()),
        ];
        for place in &step.places {
            resources.push(self.resource(*place, &label)?);
        }
        let bytes = step
            .places
            .iter()
            .zip(&resources[2..])
            .map(|(&place, resource)| bytes(step, place, resource))
            .sum();
        let entries: Vec<_> = resources
            .into_iter()
            .zip(&shader.bindings)
            .map(|(resource, &(binding, _))| wgpu::BindGroupEntry { binding, resource })
            .collect();
        let bind_group = self.gpu.error_scope(&label, 0, || {
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
            Place::List(number) => (&self.lists[number], whole(&self.lists[number])),
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

/// What a step goes over of a buffer.
fn bytes(step: &Step, place: Place, resource: &wgpu::BindingResource<'_>) -> u64 {
    let elements = step.launch.arena_elements.map(|elements| elements as u64);
    match (place, elements, resource) {
        (Place::Mask(_), Some(elements), _) => elements.div_ceil(8),
        (
            Place::Weights(_) | Place::Gradients(_) | Place::Accumulated(_) | Place::State(..),
            Some(elements),
            _,
        ) => 4 * elements,
        (_, _, wgpu::BindingResource::Buffer(buffer)) => buffer.size.map_or(0, std::num::NonZeroU64::get),
        _ => 0,
    }
}

fn binding(buffer: &GpuBuffer, offset: u64, bytes: u64) -> wgpu::BindingResource<'_> {
    wgpu::BindingResource::Buffer(wgpu::BufferBinding {
        buffer: buffer.raw(),
        offset,
        size: std::num::NonZeroU64::new(bytes),
    })
}
