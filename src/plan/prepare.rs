//! Everything about a plan that is decided before anything is created: kernels, memory, and what they add up to.

use super::alias::roots;
use super::cost::CostModel;
use super::gradients::{accumulates, check_gradients};
use super::liveness::{Life, separate, share};
use super::lower::{Limits, Lowered, Place, Savings, lower, savings};
use super::report::{Avoided, BufferUse, DispatchUse, PlanReport};
use super::store::{READ_BYTES, READ_SLOTS, state_slots, upkeep_bytes};
use super::{Home, Layout, PlanOptions};
use crate::error::{Error, Result};
use crate::gpu::AdapterReport;
use crate::graph::{Graph, Op, Role, StepScalars, ValueId};
use crate::kernels::{GemmFamily, Launch, SUMS_BYTES};

/// Uniform bindings begin at multiples of this on every device; no kernel's parameters are larger.
pub(super) const UNIFORM_STRIDE: u64 = 256;

/// Bytes of a guard band.
pub(super) const GUARD_BYTES: u64 = 256;

/// A band behind a tensor: its slot, where the tensor's last element ends, and the tensor's name.
pub(super) struct Guard {
    pub slot: usize,
    pub begin: u64,
    pub bytes: u64,
    pub name: String,
}

/// Everything decided before anything is created.
pub(super) struct Prepared {
    pub lowered: Lowered,
    pub savings: Savings,
    pub homes: Vec<Option<Home>>,
    /// Slot of each workspace.
    pub workspaces: Vec<usize>,
    pub slot_bytes: Vec<u64>,
    pub guards: Vec<Guard>,
    pub report: PlanReport,
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

pub(super) fn prepare(
    graph: &Graph,
    layout: &Layout,
    adapter: &AdapterReport,
    options: &PlanOptions,
) -> Result<Prepared> {
    let family = options.family.unwrap_or_else(|| GemmFamily::choose(adapter));
    if !family.is_supported(adapter) {
        let mut expected = format!("one that {} can run", adapter.name);
        if matches!(family, GemmFamily::Cooperative { .. }) && adapter.cooperative_matrix.is_none() {
            expected +=
                " (with matrix units only if `GpuOptions::cooperative_matrix` opened it, and it has any)";
        }
        return Err(Error::argument("gemm family", expected, family));
    }
    let limits = limits(adapter, options);
    let max_binding = limits.max_binding;
    let frozen = saved(graph, adapter, options)?;
    let lowered = lower(graph, layout, limits, &frozen)?;
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
    let mut report = report(graph, layout, adapter, family, &lowered, &slots.bytes)?;
    if !options.masks.is_empty() {
        let whole = savings(graph, &[], options.gradient_strategy, &limits.conditions(graph.batch()));
        report.avoided = avoided(&lower(graph, layout, limits, &whole)?, &lowered);
    }
    let homes = roots.iter().map(|root| homes[root.0]).collect();
    Ok(Prepared { lowered, savings: frozen, homes, workspaces, slot_bytes: slots.bytes, guards, report })
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
    let lists: u64 = lowered.lists.iter().map(|list| 4 * list.len() as u64).sum();
    let own = uniforms + lists + SUMS_BYTES + READ_SLOTS as u64 * READ_BYTES;
    let slots =
        slot_bytes.iter().enumerate().map(|(i, &bytes)| BufferUse { name: format!("slot {i}"), bytes });
    let upkeep = BufferUse { name: "uniforms, lists, read back".into(), bytes: own };
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
                algorithm: s.algorithm,
                kernel: s.launch.kernel.name,
                groups: s.launch.groups,
                flops: s.launch.flops,
            })
            .collect(),
        avoided: Vec::new(),
    })
}

fn limits(adapter: &AdapterReport, options: &PlanOptions) -> Limits {
    Limits {
        family: options.family.unwrap_or_else(|| GemmFamily::choose(adapter)),
        max_binding: adapter.max_binding.min(adapter.max_buffer),
        workspace_bytes: options.workspace_bytes,
        explicit: options.explicit_columns,
        winograd: options.winograd,
        cost: options.cost_model.unwrap_or_else(|| CostModel::of(adapter)),
    }
}

/// What frozen elements save, if the options tell of any.
pub(super) fn saved(graph: &Graph, adapter: &AdapterReport, options: &PlanOptions) -> Result<Savings> {
    let parameters = graph.parameters();
    if !options.masks.is_empty() {
        if options.masks.len() != parameters.len() {
            let expected = format!("{} masks, one a parameter", parameters.len());
            return Err(Error::argument("PlanOptions::masks", expected, options.masks.len()));
        }
        for (mask, parameter) in options.masks.iter().zip(parameters) {
            let expected = parameter.shape.elements();
            if mask.len() != expected {
                return Err(Error::MaskMismatch { path: parameter.path.clone(), expected, got: mask.len() });
            }
        }
    }
    let conditions = limits(adapter, options).conditions(graph.batch());
    Ok(savings(graph, &options.masks, options.gradient_strategy, &conditions))
}

/// By operation: what the first would compute and the second does not.
fn avoided(whole: &Lowered, done: &Lowered) -> Vec<Avoided> {
    let mut all: Vec<Avoided> = Vec::new();
    for step in &whole.steps {
        match all.iter_mut().find(|a| a.label == step.label) {
            Some(found) => found.flops += step.launch.flops,
            None => all.push(Avoided { label: step.label.clone(), flops: step.launch.flops }),
        }
    }
    for step in &done.steps {
        if let Some(found) = all.iter_mut().find(|a| a.label == step.label) {
            found.flops = found.flops.saturating_sub(step.launch.flops);
        }
    }
    all.retain(|a| a.flops > 0);
    all
}
