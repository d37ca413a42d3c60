//! What outlives plans: weights, gradients, optimizer state and masks, each in an arena.

use super::gradients::accumulates;
use super::{Layout, Spot};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuBuffer, ReadRing};
use crate::graph::{Graph, Op, Parameter, ParameterId, StepScalars};
use crate::kernels::{Launch, SEGMENT_ELEMENTS, Segment, digest};
use crate::mask::Mask;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parameters, their masks and their optimizer state on a device. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub gpu: Gpu,
    pub parameters: Vec<Parameter>,
    pub layout: Layout,
    pub slots: &'static [&'static str],
    pub weights: Vec<GpuBuffer>,
    pub gradients: Vec<GpuBuffer>,
    /// Empty unless the graph accumulates.
    pub accumulated: Vec<GpuBuffer>,
    pub state: Vec<Vec<GpuBuffer>>,
    pub masks: Vec<GpuBuffer>,
    pub digester: Digester,
    pub ring: Mutex<ReadRing>,
}

/// Two sums over a hash of (index, bits) of a tensor's elements; see `shaders/digest.wgsl`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// The first.
    pub low: u32,
    /// The second, salted otherwise.
    pub high: u32,
}

pub(super) struct Digester {
    pub segments: Vec<GpuBuffer>,
    /// The parameter of each segment, for each chunk.
    pub owners: Vec<Vec<usize>>,
    pub results: Vec<GpuBuffer>,
    /// For each chunk: of frozen elements, of all.
    pub params: Vec<Vec<(Launch, GpuBuffer)>>,
    pub scalars: GpuBuffer,
}

/// Read-back slots of a store or a plan, and the bytes of one; larger reads go in pieces.
pub(super) const READ_SLOTS: usize = 3;
pub(super) const READ_BYTES: u64 = 256 << 10;

/// Bytes of a store's read-back and digest buffers.
pub(super) fn upkeep_bytes(layout: &Layout) -> u64 {
    let params = 2 * digest(1, true).params.len();
    let of_chunk =
        |chunk: &Vec<(Segment, usize)>| chunk.len() * (size_of::<Segment>() + size_of::<Digest>()) + params;
    let digests: usize = segments(layout).iter().map(of_chunk).sum();
    READ_SLOTS as u64 * READ_BYTES + (size_of::<StepScalars>() + digests) as u64
}

fn arena(gpu: &Gpu, what: &str, layout: &Layout, bits: usize) -> Result<Vec<GpuBuffer>> {
    let one = |elements: &usize| gpu.storage_buffer(what, (elements * bits / 8) as u64);
    layout.chunks().iter().map(one).collect()
}

impl Store {
    /// A store for the graph's parameters, with state for its update rule if it has one.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`], [`Error::OutOfMemory`]; [`Error::InvalidArgument`] for two rules that need different state.
    pub fn new(gpu: &Gpu, graph: &Graph) -> Result<Self> {
        let parameters = graph.parameters().to_vec();
        let limit = gpu.report().max_binding.min(gpu.report().max_buffer);
        let layout = Layout::new(&parameters, limit)?;
        let slots = state_slots(graph)?;
        let (slots, gradients) = match slots {
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
        let store = Store { inner: Arc::new(inner) };
        store.clear_masks()?;
        Ok(store)
    }

    /// The parameters, in order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.inner.parameters
    }

    /// Names of the optimizer's state tensors.
    pub fn slots(&self) -> &'static [&'static str] {
        self.inner.slots
    }

    /// The number of a parameter.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`].
    pub fn find(&self, path: &str) -> Result<ParameterId> {
        let found = self.inner.parameters.iter().position(|p| p.path == path);
        found.map(ParameterId).ok_or_else(|| Error::UnknownParameter {
            path: path.to_owned(),
            similar: self.inner.parameters.iter().map(|p| p.path.clone()).take(8).collect(),
        })
    }

    /// Sets which elements of a parameter are frozen, from the next run on.
    ///
    /// # Errors
    /// [`Error::MaskMismatch`].
    pub fn write_mask(&self, id: ParameterId, mask: &Mask) -> Result<()> {
        let (parameter, spot) = self.spot(id)?;
        if mask.len() != spot.len {
            return Err(Error::MaskMismatch {
                path: parameter.path.clone(),
                expected: spot.len,
                got: mask.len(),
            });
        }
        let bytes = bytemuck::cast_slice(mask.words());
        self.inner.gpu.write(&self.inner.masks[spot.chunk], spot.first as u64 / 8, bytes)
    }

    /// Which elements of a parameter the device takes for frozen.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn read_mask(&self, id: ParameterId) -> Result<Mask> {
        let (_, spot) = self.spot(id)?;
        let words = Spot { chunk: spot.chunk, first: spot.first / 32, len: spot.len.div_ceil(32) };
        Mask::from_words(self.read(&self.inner.masks, words)?, spot.len)
    }

    /// A parameter's bits.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn read_weights(&self, id: ParameterId) -> Result<Vec<u32>> {
        let (_, spot) = self.spot(id)?;
        self.read(&self.inner.weights, spot)
    }

    /// Writes a parameter's bits, frozen ones too.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`].
    pub fn write_weights(&self, id: ParameterId, bits: &[u32]) -> Result<()> {
        let (parameter, spot) = self.spot(id)?;
        self.write(&self.inner.weights, parameter, spot, bits)
    }

    /// The bits of one of a parameter's state tensors, by its number in [`Store::slots`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a number out of range.
    pub fn read_state(&self, slot: usize, id: ParameterId) -> Result<Vec<u32>> {
        let (_, spot) = self.spot(id)?;
        self.read(self.state(slot)?, spot)
    }

    /// Writes the bits of one of a parameter's state tensors.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], [`Error::InvalidArgument`].
    pub fn write_state(&self, slot: usize, id: ParameterId, bits: &[u32]) -> Result<()> {
        let (parameter, spot) = self.spot(id)?;
        self.write(self.state(slot)?, parameter, spot, bits)
    }

    /// The bits of a parameter's gradient as the last run left them.
    ///
    /// # Errors
    /// [`Error::GradientNotKept`] if the store was made for a graph without an update.
    pub fn read_gradient(&self, id: ParameterId) -> Result<Vec<u32>> {
        let (parameter, spot) = self.spot(id)?;
        if self.inner.gradients.is_empty() {
            return Err(Error::GradientNotKept { path: parameter.path.clone() });
        }
        self.read(&self.inner.gradients, spot)
    }

    pub(super) fn spot(&self, id: ParameterId) -> Result<(&Parameter, Spot)> {
        match (self.inner.parameters.get(id.0), self.inner.layout.spots().get(id.0)) {
            (Some(parameter), Some(spot)) => Ok((parameter, *spot)),
            _ => Err(Error::argument("parameter", "one of this store", format!("number {}", id.0))),
        }
    }

    pub(super) fn state(&self, slot: usize) -> Result<&[GpuBuffer]> {
        let slots = &self.inner.state;
        let unknown = || Error::argument("state slot", format!("less than {}", slots.len()), slot);
        slots.get(slot).map(Vec::as_slice).ok_or_else(unknown)
    }

    pub(super) fn ring(&self) -> MutexGuard<'_, ReadRing> {
        self.inner.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, arena: &[GpuBuffer], spot: Spot) -> Result<Vec<u32>> {
        let mut bits = Vec::with_capacity(spot.len);
        let (offset, bytes) = (4 * spot.first as u64, 4 * spot.len as u64);
        self.ring().read_all(&self.inner.gpu, &arena[spot.chunk], offset, bytes, |piece| {
            bits.extend(piece.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        })?;
        Ok(bits)
    }

    fn write(&self, arena: &[GpuBuffer], parameter: &Parameter, spot: Spot, bits: &[u32]) -> Result<()> {
        if bits.len() != spot.len {
            let expected = format!("{} elements {}", spot.len, parameter.shape);
            return Err(Error::shape(&parameter.path, expected, bits.len()));
        }
        self.inner.gpu.write(&arena[spot.chunk], 4 * spot.first as u64, bytemuck::cast_slice(bits))
    }

    /// Nothing frozen, but the gaps between tensors: those are never written.
    fn clear_masks(&self) -> Result<()> {
        for buffer in &self.inner.masks {
            let ones = vec![u8::MAX; usize::try_from(buffer.bytes()).unwrap_or(0)];
            self.inner.gpu.write(buffer, 0, &ones)?;
        }
        for id in 0..self.inner.parameters.len() {
            let id = ParameterId(id);
            let (_, spot) = self.spot(id)?;
            self.write_mask(id, &Mask::none(spot.len))?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("parameters", &self.inner.parameters).finish_non_exhaustive()
    }
}

/// State tensors of the graph's update; `None` without one.
pub(super) fn state_slots(graph: &Graph) -> Result<Option<&'static [&'static str]>> {
    let mut found: Option<&'static [&'static str]> = None;
    for node in graph.nodes() {
        if let Op::Update(rule, _) = &node.op {
            match found {
                Some(slots) if slots != rule.slots() => {
                    return Err(Error::argument(&node.label, "one kind of state for all updates", "two"));
                }
                _ => found = Some(rule.slots()),
            }
        }
    }
    Ok(found)
}

/// The parameters cut into segments, chunk by chunk: (segment, parameter).
pub(super) fn segments(layout: &Layout) -> Vec<Vec<(Segment, usize)>> {
    let mut all = vec![Vec::new(); layout.chunks().len()];
    for (parameter, spot) in layout.spots().iter().enumerate() {
        for index in (0..spot.len).step_by(SEGMENT_ELEMENTS) {
            let segment = Segment {
                first: (spot.first + index) as u32,
                index: index as u32,
                count: SEGMENT_ELEMENTS.min(spot.len - index) as u32,
            };
            all[spot.chunk].push((segment, parameter));
        }
    }
    all
}
