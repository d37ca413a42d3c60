//! Parameter store: weights, gradients, optimizer state and masks, each in an arena. It outlives the plans
//! that use it.

use super::encode::{Command, bind_group, encode, range};
use crate::compiler::{
    ArenaId, ArenaRange, Layout, READ_BYTES, READ_SLOTS, accumulates, layout_on, segments, state_slots,
};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuBuffer, ReadRing};
use crate::graph::{Graph, Parameter, ParameterId, StepScalars};
use crate::kernels::{Digest, digest};
use crate::mask::Mask;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bits that fill guard bands, and the padding between tensors in arenas that are checked for writes out of
/// bounds. Read as a float it is a NaN whose payload no kernel produces.
pub(super) const GUARD_WORD: u32 = 0x7fa5_5aa5;

/// Parameters, their masks and their optimizer state on a device. Clones are cheap and share the same
/// buffers.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    /// Arena of the number of steps that each element missed; `None` if no element missed any.
    missed_steps: Option<Arc<Vec<GpuBuffer>>>,
}

struct Inner {
    gpu: Gpu,
    parameters: Vec<Parameter>,
    layout: Layout,
    slots: &'static [&'static str],
    weights: Vec<GpuBuffer>,
    /// Arena of gradients; empty if the graph has no update.
    gradients: Vec<GpuBuffer>,
    /// Arena of accumulated gradients; empty unless the graph accumulates gradients.
    accumulated: Vec<GpuBuffer>,
    state: Vec<Vec<GpuBuffer>>,
    masks: Vec<GpuBuffer>,
    digester: Digester,
    ring: Mutex<ReadRing>,
}

/// An arena whose digests can be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arena {
    /// The weights.
    Weights,
    /// A state slot, by its number in [`Store::slots`].
    State(usize),
}

/// Selects the elements that a digest covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// All elements.
    All,
    /// The frozen elements.
    Frozen,
}

/// Buffers of the digest kernel, for all chunks of an arena.
struct Digester {
    chunks: Vec<DigestChunk>,
    scalars: GpuBuffer,
}

/// Buffers of the digest kernel for one chunk of an arena.
struct DigestChunk {
    segments: GpuBuffer,
    /// For each segment, the index of the parameter that it belongs to.
    owners: Vec<usize>,
    results: GpuBuffer,
    /// Kernel parameters: first for digests of the frozen elements, then for digests of all elements.
    params: [GpuBuffer; 2],
}

impl Digester {
    fn new(gpu: &Gpu, layout: &Layout) -> Result<Self> {
        let scalars = gpu.uniform_buffer("digest scalars", size_of::<StepScalars>() as u64)?;
        let mut chunks = Vec::new();
        for chunk in segments(layout) {
            let (table, owners): (Vec<_>, Vec<_>) = chunk.into_iter().unzip();
            let bytes: &[u8] = bytemuck::cast_slice(&table);
            let segments = gpu.storage_buffer("digest segments", bytes.len() as u64)?;
            gpu.write(&segments, 0, bytes)?;
            let params = |all: bool| {
                let launch = digest(table.len(), all);
                let uniform = gpu.uniform_buffer("digest params", launch.params.len() as u64)?;
                gpu.write(&uniform, 0, &launch.params)?;
                Ok(uniform)
            };
            let results = gpu.storage_buffer("digests", 8 * table.len() as u64)?;
            chunks.push(DigestChunk { segments, owners, results, params: [params(false)?, params(true)?] });
        }
        Ok(Digester { chunks, scalars })
    }
}

impl Store {
    /// Creates a store for a graph's parameters, with the state of its update rule if it has one.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`], [`Error::OutOfMemory`]; [`Error::InvalidArgument`] for updates that need
    /// different state tensors.
    pub fn new(gpu: &Gpu, graph: &Graph) -> Result<Self> {
        let parameters = graph.parameters().to_vec();
        let layout = layout_on(graph, gpu.report())?;
        let (slots, gradients) = match state_slots(graph)? {
            Some(slots) => (slots, arena(gpu, "gradients", &layout, 32)?),
            None => (&[] as &[_], Vec::new()),
        };
        let accumulated =
            if accumulates(graph) { arena(gpu, "accumulated gradients", &layout, 32)? } else { Vec::new() };
        let state = slots.iter().map(|slot| arena(gpu, slot, &layout, 32)).collect::<Result<_>>()?;
        let inner = Inner {
            weights: arena(gpu, "weights", &layout, 32)?,
            masks: arena(gpu, "masks", &layout, 1)?,
            digester: Digester::new(gpu, &layout)?,
            ring: Mutex::new(ReadRing::new(gpu, "read back", READ_SLOTS, READ_BYTES)?),
            gpu: gpu.clone(),
            parameters,
            layout,
            slots,
            gradients,
            accumulated,
            state,
        };
        let store = Store { inner: Arc::new(inner), missed_steps: None };
        store.clear_masks()?;
        Ok(store)
    }

    /// Returns the parameters, in order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.inner.parameters
    }

    /// Returns the names of the optimizer's state tensors.
    pub fn slots(&self) -> &'static [&'static str] {
        self.inner.slots
    }

    /// Returns the id of the parameter with this path.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`].
    pub fn find(&self, path: &str) -> Result<ParameterId> {
        let found = self.inner.parameters.iter().position(|p| p.path == path);
        let paths = || self.inner.parameters.iter().map(|p| p.path.as_str());
        found.map(ParameterId).ok_or_else(|| Error::unknown_parameter(path, paths()))
    }

    /// Writes the mask of a parameter, which applies from the next run on.
    ///
    /// # Errors
    /// [`Error::MaskMismatch`].
    pub fn write_mask(&self, id: ParameterId, mask: &Mask) -> Result<()> {
        let (parameter, range) = self.range(id)?;
        if mask.len() != range.len {
            return Err(Error::MaskMismatch {
                path: parameter.path.clone(),
                expected: range.len,
                got: mask.len(),
            });
        }
        let bytes = bytemuck::cast_slice(mask.words());
        self.inner.gpu.write(&self.inner.masks[range.chunk], range.first as u64 / 8, bytes)
    }

    /// Reads the mask of a parameter from the device.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn read_mask(&self, id: ParameterId) -> Result<Mask> {
        let (_, range) = self.range(id)?;
        let words = ArenaRange { chunk: range.chunk, first: range.first / 32, len: range.len.div_ceil(32) };
        Mask::from_words(self.read(&self.inner.masks, words)?, range.len)
    }

    /// Reads the bits of a parameter. Waits for the device.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn read_weights(&self, id: ParameterId) -> Result<Vec<u32>> {
        let (_, range) = self.range(id)?;
        self.read(&self.inner.weights, range)
    }

    /// Writes the bits of a parameter, also those of frozen elements.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`].
    pub fn write_weights(&self, id: ParameterId, bits: &[u32]) -> Result<()> {
        let (parameter, range) = self.range(id)?;
        self.write(&self.inner.weights, parameter, range, bits)
    }

    /// Reads the bits of one of a parameter's state tensors, by its number in [`Store::slots`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a number out of range.
    pub fn read_state(&self, slot: usize, id: ParameterId) -> Result<Vec<u32>> {
        let (_, range) = self.range(id)?;
        self.read(self.state(slot)?, range)
    }

    /// Writes the bits of one of a parameter's state tensors.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], [`Error::InvalidArgument`].
    pub fn write_state(&self, slot: usize, id: ParameterId, bits: &[u32]) -> Result<()> {
        let (parameter, range) = self.range(id)?;
        self.write(self.state(slot)?, parameter, range, bits)
    }

    /// Returns this store with an arena of missed steps, all 0, for plans with `PlanOptions::missed_steps`.
    /// Shares all other buffers with this store.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`], [`Error::OutOfMemory`]: this store is not changed.
    pub fn with_missed_steps(&self) -> Result<Self> {
        let missed_steps = arena(&self.inner.gpu, "missed steps", &self.inner.layout, 32)?;
        Ok(Store { inner: Arc::clone(&self.inner), missed_steps: Some(Arc::new(missed_steps)) })
    }

    /// Whether the store has an arena of missed steps.
    pub fn has_missed_steps(&self) -> bool {
        self.missed_steps.is_some()
    }

    /// Writes the number of steps that each element of a parameter missed because it was frozen, modulo 2^32.
    /// The bias correction of Adam does not count them.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`]; [`Error::InvalidArgument`] without [`Store::with_missed_steps`].
    pub fn write_missed_steps(&self, id: ParameterId, missed: &[u32]) -> Result<()> {
        let (parameter, range) = self.range(id)?;
        let Some(arena) = &self.missed_steps else {
            let expected = "a store with missed steps (Store::with_missed_steps)";
            return Err(Error::argument("store", expected, "a store without missed steps"));
        };
        self.write(arena, parameter, range, missed)
    }

    /// Reads the bits of a parameter's gradient from the last run. Waits for the device.
    ///
    /// # Errors
    /// [`Error::GradientNotKept`] if the store was created for a graph without an update.
    pub fn read_gradient(&self, id: ParameterId) -> Result<Vec<u32>> {
        let (parameter, range) = self.range(id)?;
        if self.inner.gradients.is_empty() {
            return Err(Error::GradientNotKept { path: parameter.path.clone() });
        }
        self.read(&self.inner.gradients, range)
    }

    fn range(&self, id: ParameterId) -> Result<(&Parameter, ArenaRange)> {
        match (self.inner.parameters.get(id.0), self.inner.layout.ranges().get(id.0)) {
            (Some(parameter), Some(range)) => Ok((parameter, *range)),
            _ => Err(Error::argument("parameter", "a parameter of this store", format!("number {}", id.0))),
        }
    }

    fn state(&self, slot: usize) -> Result<&[GpuBuffer]> {
        let slots = &self.inner.state;
        let unknown = || {
            let expected =
                format!("less than {}, the number of state tensors of the update rule", slots.len());
            Error::argument("state slot", expected, slot)
        };
        slots.get(slot).map(Vec::as_slice).ok_or_else(unknown)
    }

    pub(super) fn ring(&self) -> MutexGuard<'_, ReadRing> {
        self.inner.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, arena: &[GpuBuffer], range: ArenaRange) -> Result<Vec<u32>> {
        let mut bits = Vec::with_capacity(range.len);
        let (offset, bytes) = (4 * range.first as u64, 4 * range.len as u64);
        self.ring().read_all(&self.inner.gpu, &arena[range.chunk], offset, bytes, |piece| {
            bits.extend(piece.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        })?;
        Ok(bits)
    }

    fn write(
        &self,
        arena: &[GpuBuffer],
        parameter: &Parameter,
        range: ArenaRange,
        bits: &[u32],
    ) -> Result<()> {
        if bits.len() != range.len {
            let expected = format!("{} elements {}", range.len, parameter.shape);
            return Err(Error::shape(&parameter.path, expected, bits.len()));
        }
        self.inner.gpu.write(&arena[range.chunk], 4 * range.first as u64, bytemuck::cast_slice(bits))
    }

    /// Resets all masks: only the padding between tensors is frozen, so that it is never written.
    fn clear_masks(&self) -> Result<()> {
        for buffer in &self.inner.masks {
            let ones = vec![u8::MAX; usize::try_from(buffer.bytes()).unwrap_or(0)];
            self.inner.gpu.write(buffer, 0, &ones)?;
        }
        for id in 0..self.inner.parameters.len() {
            let id = ParameterId(id);
            let (_, range) = self.range(id)?;
            self.write_mask(id, &Mask::none_of(range.len))?;
        }
        Ok(())
    }

    /// Returns the parameter that contains a group of four elements, as [`super::Rejected::group`] counts them.
    pub fn parameter_of_group(&self, group: u32) -> Option<ParameterId> {
        self.inner.layout.parameter_of_group(usize::try_from(group).ok()?).map(ParameterId::of)
    }

    /// Returns the layout of the arenas.
    pub(super) fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    pub(super) fn has_gradients(&self) -> bool {
        !self.inner.gradients.is_empty()
    }

    pub(super) fn accumulates(&self) -> bool {
        !self.inner.accumulated.is_empty()
    }

    /// Returns the chunks (buffers) of an arena.
    pub(super) fn arena(&self, id: ArenaId) -> &[GpuBuffer] {
        let inner = &self.inner;
        match id {
            ArenaId::Weights => &inner.weights,
            ArenaId::Gradients => &inner.gradients,
            ArenaId::Accumulated => &inner.accumulated,
            ArenaId::Masks => &inner.masks,
            ArenaId::MissedSteps => self.missed_steps.as_deref().map_or(&[], Vec::as_slice),
            ArenaId::State(slot) => &inner.state[slot],
        }
    }

    /// Computes on the device a digest of each parameter, over the bits of its elements in one arena. Waits
    /// for the device.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a slot out of range; [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn digests(&self, arena: Arena, elements: Elements) -> Result<Vec<Digest>> {
        let inner = &self.inner;
        let buffers = match arena {
            Arena::Weights => &inner.weights,
            Arena::State(slot) => self.state(slot)?,
        };
        let mut digests = vec![Digest::default(); inner.parameters.len()];
        // Keep the ring locked until the results are read: every call writes its results to the same buffers,
        // so two calls must not overlap.
        let mut ring = self.ring();
        for (number, (chunk, buffer)) in inner.digester.chunks.iter().zip(buffers).enumerate() {
            let params = &chunk.params[usize::from(elements == Elements::All)];
            let command = self.digest_command(number, chunk, params, buffer, elements)?;
            inner.gpu.submit("digest", |encoder| encode(encoder, &[command], None))?;
            let mut words: Vec<u32> = Vec::new();
            ring.read_all(&inner.gpu, &chunk.results, 0, chunk.results.bytes(), |piece| {
                words.extend(piece.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            })?;
            for (pair, &owner) in words.chunks_exact(2).zip(&chunk.owners) {
                digests[owner].add(pair[0], pair[1]);
            }
        }
        Ok(digests)
    }

    /// The shader of [`Store::digests`] over frozen elements.
    #[cfg(target_family = "wasm")]
    pub(crate) fn digest_shader(&self) -> crate::gpu::Shader {
        digest(1, false).shader()
    }

    fn digest_command(
        &self,
        number: usize,
        chunk: &DigestChunk,
        params: &GpuBuffer,
        buffer: &GpuBuffer,
        elements: Elements,
    ) -> Result<Command> {
        let inner = &self.inner;
        let launch = digest(chunk.owners.len(), elements == Elements::All);
        let (name, shader) = (launch.kernel.name, launch.shader());
        let pipeline = inner.gpu.pipeline(name, &shader)?;
        let masks = &inner.masks[number];
        let buffers = [params, &inner.digester.scalars, &chunk.segments, masks, buffer, &chunk.results];
        let resources = buffers.map(|buffer| range(buffer, 0, buffer.bytes())).to_vec();
        let device = inner.gpu.device();
        let bind_group =
            inner.gpu.error_scope(name, 0, || bind_group(device, name, &pipeline, &shader, resources))?;
        Ok(Command { label: name.to_owned(), pipeline, bind_group, groups: launch.groups })
    }

    /// Fills the padding between tensors with [`GUARD_WORD`], in weights, gradients and state.
    pub(crate) fn guard_padding(&self) -> Result<()> {
        for (_, arena) in self.float_arenas() {
            for range in self.inner.layout.ranges() {
                let (offset, count) = padding(range);
                if count > 0 {
                    let words = vec![GUARD_WORD; count];
                    self.inner.gpu.write(&arena[range.chunk], offset, bytemuck::cast_slice(&words))?;
                }
            }
        }
        Ok(())
    }

    /// Checks that the padding between tensors still contains [`GUARD_WORD`], written by
    /// [`Store::guard_padding`].
    ///
    /// # Errors
    /// [`Error::Validation`] that names the arena and the tensor.
    pub(crate) fn check_padding(&self) -> Result<()> {
        for (name, arena) in self.float_arenas() {
            for (parameter, range) in self.inner.parameters.iter().zip(self.inner.layout.ranges()) {
                let (offset, count) = padding(range);
                let mut intact = true;
                let expected = GUARD_WORD.to_le_bytes();
                let (chunk, bytes) = (&arena[range.chunk], 4 * count as u64);
                self.ring().read_all(&self.inner.gpu, chunk, offset, bytes, |piece| {
                    intact &= piece.chunks_exact(4).all(|word| word == expected);
                })?;
                if !intact {
                    let kernel = format!("{} in the arena of {name}", parameter.path);
                    let message = "wrote into the padding beyond its end".to_owned();
                    return Err(Error::Validation { kernel, message, source: None });
                }
            }
        }
        Ok(())
    }

    /// Returns all existing arenas of floats, with their names.
    fn float_arenas(&self) -> impl Iterator<Item = (&'static str, &Vec<GpuBuffer>)> {
        let inner = &self.inner;
        let weights_and_gradients = [
            ("weights", &inner.weights),
            ("gradients", &inner.gradients),
            ("accumulated gradients", &inner.accumulated),
        ];
        let existing = weights_and_gradients.into_iter().filter(|(_, arena)| !arena.is_empty());
        existing.chain(inner.slots.iter().copied().zip(&inner.state))
    }
}

/// Creates the buffers of an arena with `bits` bits per element.
fn arena(gpu: &Gpu, what: &str, layout: &Layout, bits: usize) -> Result<Vec<GpuBuffer>> {
    let chunk = |elements: &usize| gpu.storage_buffer(what, (elements * bits / 8) as u64);
    layout.chunks().iter().map(chunk).collect()
}

/// Returns the byte offset and the number of elements of the padding after a tensor.
fn padding(range: &ArenaRange) -> (u64, usize) {
    (4 * (range.first + range.len) as u64, Layout::padded_len(range) - range.len)
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("parameters", &self.inner.parameters).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::GpuOptions;
    use crate::graph::{Op, UpdateRule};
    use crate::shape::Shape;

    #[test]
    fn write_into_the_padding_is_reported() {
        let gpu = Gpu::new(GpuOptions::default()).unwrap();
        let mut graph = Graph::new(1).unwrap();
        let rule = UpdateRule::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
        let shape = Shape::new([5]).unwrap();
        graph.parameter("w", shape.clone()).unwrap();
        let gradient = graph.input("gradient", shape, crate::graph::DType::F32);
        graph.push(Op::Update(rule, vec![ParameterId(0).into()]), &[gradient], "update").unwrap();
        let store = Store::new(&gpu, &graph).unwrap();
        store.guard_padding().unwrap();
        store.check_padding().unwrap();
        for (name, arena) in store.float_arenas() {
            gpu.write(&arena[0], 4 * 5, &[0; 4]).unwrap();
            let error = store.check_padding().unwrap_err().to_string();
            assert!(error.contains(&format!("w in the arena of {name}")), "{error}");
            store.guard_padding().unwrap();
        }
        assert_eq!(store.float_arenas().count(), 3);
    }
}
