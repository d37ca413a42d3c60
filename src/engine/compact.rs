//! Some elements of an arena in one list, which ranks exchange.

use super::encode::{Command, bind_group, encode, range};
use super::store::Store;
use crate::compiler::ArenaId;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuBuffer, ReadRing};
use crate::graph::{ParameterId, StepScalars};
use crate::kernels::copy_elements;

/// Selected elements of an arena of a store, in the order of the parameters. The device collects them, so that only they
/// are read and written.
pub(crate) struct CompactElements {
    gpu: Gpu,
    chunks: Vec<Chunk>,
    ring: ReadRing,
    count: usize,
}

/// The selected elements in one buffer of the arena.
struct Chunk {
    list: GpuBuffer,
    collect: Command,
    distribute: Command,
}

impl CompactElements {
    /// Selects elements by their indices in each parameter; parameters that have none may be absent.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`], [`Error::OutOfMemory`], [`Error::DeviceLost`]; [`Error::GradientNotKept`].
    pub fn new(
        gpu: &Gpu,
        store: &Store,
        arena: ArenaId,
        selected: impl IntoIterator<Item = (ParameterId, Vec<usize>)>,
    ) -> Result<Self> {
        let arena = store.arena(arena);
        let mut indices = vec![Vec::new(); arena.len()];
        for (id, own) in selected {
            let (Some(range), Some(parameter)) =
                (store.layout().ranges().get(id.index()), store.parameters().get(id.index()))
            else {
                continue;
            };
            let Some(chunk) = indices.get_mut(range.chunk) else {
                return Err(Error::GradientNotKept { path: parameter.path.clone() });
            };
            // A binding has less than 2^32 elements.
            chunk.extend(own.into_iter().map(|index| (range.first + index) as u32));
        }
        let scalars = gpu.uniform_buffer("copy scalars", size_of::<StepScalars>() as u64)?;
        let mut chunks = Vec::new();
        for (indices, tensor) in indices.iter().zip(arena).filter(|(indices, _)| !indices.is_empty()) {
            let bytes: &[u8] = bytemuck::cast_slice(indices);
            let numbers = gpu.storage_buffer("numbers of exchanged elements", bytes.len() as u64)?;
            gpu.write(&numbers, 0, bytes)?;
            let list = gpu.storage_buffer("exchanged elements", bytes.len() as u64)?;
            let copy = |back| -> Result<Command> {
                let launch = copy_elements(indices.len(), back);
                let params = gpu.uniform_buffer("copy params", launch.params.len() as u64)?;
                gpu.write(&params, 0, &launch.params)?;
                let (name, shader) = (launch.kernel.name, launch.shader());
                let pipeline = gpu.pipeline(name, &shader)?;
                let buffers = [&params, &scalars, &numbers, tensor, &list];
                let resources = buffers.map(|buffer| range(buffer, 0, buffer.bytes())).to_vec();
                let bind_group = gpu
                    .error_scope(name, 0, || bind_group(gpu.device(), name, &pipeline, &shader, resources))?;
                Ok(Command { label: name.to_owned(), pipeline, bind_group, groups: launch.groups })
            };
            chunks.push(Chunk { collect: copy(false)?, distribute: copy(true)?, list });
        }
        let largest = chunks.iter().map(|chunk| chunk.list.bytes()).max().unwrap_or(0);
        let ring = ReadRing::new(gpu, "read back exchanged elements", chunks.len(), largest)?;
        Ok(CompactElements { gpu: gpu.clone(), chunks, ring, count: indices.iter().map(Vec::len).sum() })
    }

    /// The number of selected elements.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Begins to read the elements after the commands that `before` records, without waiting for other submissions.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn begin(&mut self, before: &dyn Fn(&mut wgpu::CommandEncoder)) -> Result<()> {
        if self.chunks.is_empty() {
            return self.gpu.submit_part("step", before).map(drop);
        }
        for (number, Chunk { list, collect, .. }) in self.chunks.iter().enumerate() {
            let record = |encoder: &mut wgpu::CommandEncoder| {
                if number == 0 {
                    before(encoder);
                }
                encode(encoder, std::slice::from_ref(collect), None);
            };
            self.ring.begin_after(&self.gpu, list, 0, list.bytes(), Some(&record))?;
        }
        Ok(())
    }

    /// Waits for the elements that [`CompactElements::begin`] reads, and appends them to `values`.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn finish(&mut self, values: &mut Vec<f32>) -> Result<()> {
        let mut append =
            |bytes: &[u8]| values.extend(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)));
        while self.ring.finish(&self.gpu, &mut append)?.is_some() {}
        Ok(())
    }

    /// Writes as many values, by which [`CompactElements::distribute`] replaces the elements.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn write(&self, mut values: &[f32]) -> Result<()> {
        for Chunk { list, .. } in &self.chunks {
            let count = usize::try_from(list.bytes() / 4).unwrap_or(usize::MAX).min(values.len());
            let (own, rest) = values.split_at(count);
            self.gpu.write(list, 0, bytemuck::cast_slice(own))?;
            values = rest;
        }
        Ok(())
    }

    /// Records the replacement of the elements by the values that were written.
    pub fn distribute(&self, encoder: &mut wgpu::CommandEncoder) {
        for Chunk { distribute, .. } in &self.chunks {
            encode(encoder, std::slice::from_ref(distribute), None);
        }
    }
}
