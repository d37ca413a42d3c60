//! Assigns memory: parameters and their gradients to arenas, everything else to slots by lifetime.

mod layout;
mod liveness;

pub(crate) use layout::segments;
pub use layout::{ArenaRange, Layout};

use super::ir::roots;
use super::lower::{Lowered, LoweredDispatch, Resource};
use super::program::{ArenaId, Binding, BufferId, Guard, Location};
use crate::error::{Error, Result};
use crate::graph::{Graph, Op, Role, ValueId};
use crate::kernels::SUMS_BYTES;
use liveness::{Lifetime, separate, share};

/// Bytes of the guard band after a tensor.
const GUARD_BYTES: u64 = 256;

/// Memory of a program: locations, slots and guard bands.
pub(super) struct Memory {
    /// Location of each value; `None` if no dispatch binds it.
    pub locations: Vec<Option<Location>>,
    /// The slot of each workspace.
    workspaces: Vec<usize>,
    /// The slot of the packed values.
    packed: usize,
    /// Bytes of each slot.
    pub slots: Vec<u64>,
    pub guards: Vec<Guard>,
}

/// Assigns arenas and slots.
///
/// # Errors
/// [`Error::LimitExceeded`] for a tensor larger than a binding; [`Error::InvalidArgument`] for gradients that
/// cannot be stored in the arena of gradients.
pub(super) fn assign(
    graph: &Graph,
    layout: &Layout,
    lowered: &Lowered,
    max_binding: u64,
    guard_bands: bool,
) -> Result<Memory> {
    let roots = roots(graph);
    let mut locations = arena_locations(graph, layout, &roots)?;
    let band = if guard_bands { GUARD_BYTES } else { 0 };
    let tensors = tensors(graph, &roots, &locations, lowered, band);
    if let Some(large) = tensors.iter().find(|tensor| tensor.lifetime.bytes > max_binding) {
        return Err(Error::LimitExceeded {
            what: large.name.clone(),
            needed: large.lifetime.bytes,
            available: max_binding,
            advice: smaller(graph, large, max_binding),
        });
    }
    let lifetimes: Vec<_> = tensors.iter().map(|tensor| tensor.lifetime).collect();
    let slots = if guard_bands { separate(&lifetimes) } else { share(&lifetimes) };
    let mut workspaces = vec![0; lowered.workspaces.len()];
    let mut packed = 0;
    let mut guards = Vec::new();
    for (tensor, &slot) in tensors.iter().zip(&slots.of) {
        match tensor.contents {
            Contents::Value(id) => locations[id.0] = Some(Location::Slot { slot, offset: 0 }),
            Contents::Workspace(number) => workspaces[number] = slot,
            Contents::Packed => {
                packed = slot;
                for &(id, first) in &lowered.packed {
                    locations[id.0] = Some(Location::Slot { slot, offset: 4 * first as u64 });
                }
            }
        }
        if guard_bands {
            let begin = 4 * tensor.elements;
            guards.push(Guard { slot, begin, bytes: slots.bytes[slot] - begin, name: tensor.name.clone() });
        }
    }
    if guard_bands {
        // The last packed value has the band after the buffer.
        for pair in lowered.packed.windows(2) {
            let value = graph.at(pair[0].0);
            let begin = 4 * (pair[0].1 + value.shape.elements()) as u64;
            let bytes = 4 * pair[1].1 as u64 - begin;
            guards.push(Guard { slot: packed, begin, bytes, name: value.name.clone() });
        }
    }
    let locations = roots.iter().map(|root| locations[root.0]).collect();
    Ok(Memory { locations, workspaces, packed, slots: slots.bytes, guards })
}

/// Advice for a tensor larger than a binding: the largest batch that fits, if one does.
fn smaller(graph: &Graph, tensor: &Tensor, max_binding: u64) -> String {
    let batched = |id: ValueId| graph.at(id).batched.then(|| graph.at(id).elements_per_row() as u64);
    let per_example = match tensor.contents {
        Contents::Value(id) => batched(id),
        Contents::Workspace(_) => Some(tensor.elements.div_ceil(graph.batch() as u64)),
        Contents::Packed => None,
    };
    match per_example.map(|elements| max_binding / 16 * 16 / (4 * elements).max(1)) {
        Some(0) => {
            "a single example does not fit: use smaller examples, or fewer channels or features".to_owned()
        }
        Some(rows) if rows < graph.batch() as u64 => format!("use a batch of at most {rows}"),
        _ => "use fewer channels or features".to_owned(),
    }
}

impl Memory {
    /// Returns the bindings of a dispatch.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a value without a location.
    pub fn bind(
        &self,
        graph: &Graph,
        layout: &Layout,
        lowered: &Lowered,
        dispatch: &LoweredDispatch,
    ) -> Result<Vec<Binding>> {
        let bind = |&resource: &Resource| self.binding(graph, layout, lowered, dispatch, resource);
        dispatch.resources.iter().map(bind).collect()
    }

    fn binding(
        &self,
        graph: &Graph,
        layout: &Layout,
        lowered: &Lowered,
        dispatch: &LoweredDispatch,
        resource: Resource,
    ) -> Result<Binding> {
        let arena = |id: ArenaId, chunk: usize| {
            let bits = if id == ArenaId::Masks { 1 } else { 32 };
            let elements = dispatch.launch.arena_elements.unwrap_or(layout.chunks()[chunk]) as u64;
            let bytes = layout.chunks()[chunk] as u64 * bits / 8;
            let accessed = (elements * bits).div_ceil(8);
            Binding { buffer: BufferId::Arena(id, chunk), offset: 0, bytes, accessed }
        };
        let whole = |buffer: BufferId, bytes: u64| Binding { buffer, offset: 0, bytes, accessed: bytes };
        // A tensor with a guard band is bound together with the band. Otherwise the shader's bounds checks
        // would discard or clamp a write beyond the tensor's end, and the guard band would not detect it.
        let slot = |slot: usize, offset: u64, bytes: u64| {
            let bands = self.guards.iter().filter(|guard| guard.slot == slot && guard.begin >= offset);
            let band = bands.min_by_key(|guard| guard.begin);
            let end = band.map_or(offset + bytes, |band| band.begin + band.bytes);
            Binding { buffer: BufferId::Slot(slot), offset, bytes: end - offset, accessed: bytes }
        };
        Ok(match resource {
            Resource::Weights(chunk) => arena(ArenaId::Weights, chunk),
            Resource::Gradients(chunk) => arena(ArenaId::Gradients, chunk),
            Resource::Accumulated(chunk) => arena(ArenaId::Accumulated, chunk),
            Resource::Masks(chunk) => arena(ArenaId::Masks, chunk),
            Resource::State(slot, chunk) => arena(ArenaId::State(slot), chunk),
            Resource::MissedSteps(chunk) => arena(ArenaId::MissedSteps, chunk),
            Resource::List(number) => whole(BufferId::List(number), 4 * lowered.lists[number].len() as u64),
            Resource::RunningSums => whole(BufferId::RunningSums, SUMS_BYTES),
            Resource::Workspace(number) => {
                slot(self.workspaces[number], 0, lowered.workspaces[number].next_multiple_of(16))
            }
            Resource::Packed => whole(BufferId::Slot(self.packed), self.slots[self.packed]),
            Resource::Value(id) => {
                let value = graph.at(id);
                let bytes = (4 * value.shape.elements() as u64).next_multiple_of(16);
                let of_arena = |id: ArenaId, range: ArenaRange| Binding {
                    buffer: BufferId::Arena(id, range.chunk),
                    offset: 4 * range.first as u64,
                    bytes,
                    accessed: bytes,
                };
                match self.locations[id.0] {
                    Some(Location::Slot { slot: number, offset }) => slot(number, offset, bytes),
                    Some(Location::Weights(range)) => of_arena(ArenaId::Weights, range),
                    Some(Location::Gradients(range)) => of_arena(ArenaId::Gradients, range),
                    None => {
                        return Err(Error::argument(
                            &dispatch.label,
                            "operands that are stored in memory",
                            &value.name,
                        ));
                    }
                }
            }
        })
    }
}

/// A tensor that is stored in a slot.
struct Tensor {
    contents: Contents,
    name: String,
    elements: u64,
    lifetime: Lifetime,
}

#[derive(Clone, Copy)]
enum Contents {
    Value(ValueId),
    Workspace(usize),
    Packed,
}

/// Returns all tensors that need a slot (workspaces and values that are not in an arena), with their
/// lifetimes.
fn tensors(
    graph: &Graph,
    roots: &[ValueId],
    locations: &[Option<Location>],
    lowered: &Lowered,
    band: u64,
) -> Vec<Tensor> {
    let mut values: Vec<Option<(usize, usize)>> = vec![None; roots.len()];
    let mut workspaces: Vec<Option<(usize, usize)>> = vec![None; lowered.workspaces.len()];
    let mut packed: Option<(usize, usize)> = None;
    let mut is_packed = vec![false; roots.len()];
    lowered.packed.iter().for_each(|(id, _)| is_packed[id.0] = true);
    for (number, dispatch) in lowered.dispatches.iter().enumerate() {
        for resource in &dispatch.resources {
            let span = match *resource {
                Resource::Value(id) if is_packed[roots[id.0].0] => &mut packed,
                Resource::Packed => &mut packed,
                Resource::Value(id) => &mut values[roots[id.0].0],
                Resource::Workspace(index) => &mut workspaces[index],
                _ => continue,
            };
            span.get_or_insert((number, number)).1 = number;
        }
    }
    // Inputs and outputs never share memory: the caller may write an input once for many runs, and may read
    // an output at any time after a run.
    for (value, root) in graph.values().iter().zip(roots) {
        if value.output || value.role == Role::Input {
            let span = if is_packed[root.0] { &mut packed } else { &mut values[root.0] };
            *span = Some((0, usize::MAX));
        }
    }
    let lifetime = |elements: u64, (first, last)| Lifetime {
        bytes: (4 * elements).next_multiple_of(16) + band,
        first,
        last,
    };
    let mut tensors = Vec::new();
    for (index, value) in graph.values().iter().enumerate() {
        if let (Some(span), None, ValueId(root)) = (values[index], locations[index], roots[index])
            && root == index
        {
            let elements = value.shape.elements() as u64;
            let contents = Contents::Value(ValueId(index));
            let lifetime = lifetime(elements, span);
            tensors.push(Tensor { contents, name: value.name.clone(), elements, lifetime });
        }
    }
    if let (Some(span), Some(&(last, first))) = (packed, lowered.packed.last()) {
        let last = graph.at(last);
        let elements = (first + last.shape.elements()) as u64;
        let lifetime = lifetime(elements, span);
        tensors.push(Tensor { contents: Contents::Packed, name: last.name.clone(), elements, lifetime });
    }
    for (index, (&bytes, &span)) in lowered.workspaces.iter().zip(&workspaces).enumerate() {
        let span = span.unwrap_or_default();
        let name = format!("workspace of {}", lowered.dispatches[span.0].label);
        let (contents, elements) = (Contents::Workspace(index), bytes / 4);
        tensors.push(Tensor { contents, name, elements, lifetime: lifetime(elements, span) });
    }
    tensors
}

/// Returns the locations of parameters (in the arena of weights) and of gradients that an update reads (in
/// the arena of gradients).
fn arena_locations(graph: &Graph, layout: &Layout, roots: &[ValueId]) -> Result<Vec<Option<Location>>> {
    let mut locations = vec![None; graph.values().len()];
    for (index, value) in graph.values().iter().enumerate() {
        if let Role::Parameter(id) = value.role {
            locations[index] = Some(Location::Weights(layout.ranges()[id.0]));
        }
    }
    for node in graph.nodes() {
        let Op::Update(_, targets) = &node.op else { continue };
        for (gradient, target) in node.inputs.iter().zip(targets) {
            let location = &mut locations[roots[gradient.0].0];
            let range = Location::Gradients(layout.ranges()[target.parameter.0]);
            if location.is_some_and(|existing| existing != range) {
                let got = format!("{}, which updates two", graph.at(*gradient).name);
                let expected =
                    "a gradient that updates one parameter; for another parameter, copy it with Graph::scale";
                return Err(Error::argument(&node.label, expected, got));
            }
            *location = Some(range);
        }
    }
    check_gradients(graph, layout, roots, &locations)?;
    Ok(locations)
}

/// Checks that all gradients of an update can be stored in the arena of gradients, as accumulation and
/// clipping require. A dispatch cannot bind one buffer both for reading and for writing, so no gradient of an
/// update may be computed from another one.
fn check_gradients(
    graph: &Graph,
    layout: &Layout,
    roots: &[ValueId],
    locations: &[Option<Location>],
) -> Result<()> {
    for node in graph.nodes() {
        if let Op::Accumulate(targets) | Op::Clip(_, targets) = &node.op {
            for (gradient, target) in node.inputs.iter().zip(targets) {
                let expected = Some(Location::Gradients(layout.ranges()[target.0]));
                if locations[roots[gradient.0].0] != expected {
                    let name = &graph.at(*gradient).name;
                    let expected = "gradients that an update of the graph reads; add an Op::Update of them";
                    return Err(Error::argument(&node.label, expected, name));
                }
            }
        }
        let chunk = |id: &ValueId| match locations[roots[id.0].0] {
            Some(Location::Gradients(range)) if !matches!(node.op, Op::Update(..) | Op::Reshape(_)) => {
                Some(range.chunk)
            }
            _ => None,
        };
        let mut read = node.inputs.iter().filter_map(chunk);
        if read.any(|read| node.outputs.iter().filter_map(chunk).any(|written| written == read)) {
            let expected = "a gradient that is not computed from another gradient of the update";
            return Err(Error::argument(
                &node.label,
                expected,
                "a gradient computed from another; update it in a separate graph",
            ));
        }
    }
    Ok(())
}
