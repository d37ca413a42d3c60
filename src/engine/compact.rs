//! The gradients of some elements in one list, which ranks exchange.

use super::encode::{Command, bind_group, encode, range};
use super::store::Store;
use crate::compiler::ArenaId;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, GpuBuffer};
use crate::graph::{ParameterId, StepScalars};
use crate::kernels::copy_elements;

/// The gradients of selected elements of a store, in the order of the parameters. They are collected on the device, so
/// that only they are read and written.
pub(crate) struct CompactGradients {
    gpu: Gpu,
    /// Its buffers, and staging buffers.
    store: Store,
    chunks: Vec<Chunk>,
}

/// The selected elements in one buffer of the arena.
struct Chunk {
    list: GpuBuffer,
    /// Copies into the list, and back.
    copies: [Command; 2],
}

impl CompactGradients {
    /// Selects elements by their indices in each parameter; parameters that have none may be absent.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`], [`Error::OutOfMemory`], [`Error::DeviceLost`]; [`Error::GradientNotKept`].
    pub fn new(
        gpu: &Gpu,
        store: &Store,
        selected: impl Iterator<Item = (ParameterId, Vec<usize>)>,
    ) -> Result<Self> {
        let arena = store.arena(ArenaId::Gradients);
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
            let numbers = gpu.storage_buffer("trainable elements", bytes.len() as u64)?;
            gpu.write(&numbers, 0, bytes)?;
            let list = gpu.storage_buffer("gradients of trainable elements", bytes.len() as u64)?;
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
            let copies = [copy(false)?, copy(true)?];
            chunks.push(Chunk { list, copies });
        }
        Ok(CompactGradients { gpu: gpu.clone(), store: store.clone(), chunks })
    }

    /// Reads the gradients. Waits for the device.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn read(&self) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        let mut ring = self.store.ring();
        for Chunk { list, copies: [collect, _] } in &self.chunks {
            let commands = std::slice::from_ref(collect);
            self.gpu.submit("collect gradients", |encoder| encode(encoder, commands, None))?;
            ring.read_all(&self.gpu, list, 0, list.bytes(), |piece| {
                values.extend(piece.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            })?;
        }
        Ok(values)
    }

    /// Replaces the gradients by as many values as [`CompactGradients::read`] returns.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn write(&self, mut values: &[f32]) -> Result<()> {
        for Chunk { list, copies: [_, distribute] } in &self.chunks {
            let count = usize::try_from(list.bytes() / 4).unwrap_or(usize::MAX).min(values.len());
            let (own, rest) = values.split_at(count);
            self.gpu.write(list, 0, bytemuck::cast_slice(own))?;
            let commands = std::slice::from_ref(distribute);
            self.gpu.submit("distribute gradients", |encoder| encode(encoder, commands, None))?;
            values = rest;
        }
        Ok(())
    }
}
