//! Digests of weights and state, computed on the device.

use super::store::{Digest, Digester, segments};
use super::{Layout, Store};
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer};
use crate::graph::StepScalars;
use crate::kernels::{Launch, digest};

/// Which arena to digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arena {
    /// The weights.
    Weights,
    /// A state slot, by its number.
    State(usize),
}

/// Which elements to digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// All of them.
    All,
    /// Frozen ones.
    Frozen,
}

impl Digester {
    pub(super) fn new(gpu: &Gpu, layout: &Layout) -> Result<Self> {
        let mut digester = Digester {
            segments: Vec::new(),
            owners: Vec::new(),
            results: Vec::new(),
            params: Vec::new(),
            scalars: gpu.uniform_buffer("digest scalars", size_of::<StepScalars>() as u64)?,
        };
        for chunk in segments(layout) {
            let (table, owners): (Vec<_>, Vec<_>) = chunk.into_iter().unzip();
            let bytes: &[u8] = bytemuck::cast_slice(&table);
            let buffer = gpu.storage_buffer("digest segments", bytes.len() as u64)?;
            gpu.write(&buffer, 0, bytes)?;
            let mut params = Vec::new();
            for all in [false, true] {
                let launch = digest(table.len(), all);
                let uniform = gpu.uniform_buffer("digest params", launch.params.len() as u64)?;
                gpu.write(&uniform, 0, &launch.params)?;
                params.push((launch, uniform));
            }
            digester.results.push(gpu.storage_buffer("digests", 8 * table.len() as u64)?);
            digester.segments.push(buffer);
            digester.owners.push(owners);
            digester.params.push(params);
        }
        Ok(digester)
    }
}

impl Store {
    /// A digest for each parameter, over the u32 bits of its elements in one arena. Waits for the device.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`], [`crate::Error::Timeout`].
    pub fn digests(&self, arena: Arena, elements: Elements) -> Result<Vec<Digest>> {
        let inner = &self.inner;
        let buffers = match arena {
            Arena::Weights => &inner.weights,
            Arena::State(slot) => self.state(slot)?,
        };
        let mut digests = vec![Digest::default(); inner.parameters.len()];
        for (chunk, buffer) in buffers.iter().enumerate() {
            let (launch, params) = &inner.digester.params[chunk][usize::from(elements == Elements::All)];
            self.dispatch(launch, params, chunk, buffer)?;
            let mut words: Vec<u32> = Vec::new();
            let results = &inner.digester.results[chunk];
            self.ring().read_all(&inner.gpu, results, 0, results.bytes(), |piece| {
                words.extend(piece.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
            })?;
            for (pair, &owner) in words.chunks_exact(2).zip(&inner.digester.owners[chunk]) {
                digests[owner].add(pair[0], pair[1]);
            }
        }
        Ok(digests)
    }

    fn dispatch(
        &self,
        launch: &Launch,
        params: &GpuBuffer,
        chunk: usize,
        elements: &GpuBuffer,
    ) -> Result<()> {
        let inner = &self.inner;
        let shader = launch.shader();
        let pipeline = inner.gpu.pipeline(launch.kernel.name, &shader)?;
        let digester = &inner.digester;
        let buffers = [
            params,
            &digester.scalars,
            &digester.segments[chunk],
            &inner.masks[chunk],
            elements,
            &digester.results[chunk],
        ];
        let entries: Vec<_> = buffers
            .iter()
            .zip(&shader.bindings)
            .map(|(b, &(binding, _))| wgpu::BindGroupEntry { binding, resource: b.raw().as_entire_binding() })
            .collect();
        let group = inner.gpu.error_scope(launch.kernel.name, 0, || {
            inner.gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some(launch.kernel.name),
                layout: &pipeline.layout,
                entries: &entries,
            })
        })?;
        inner.gpu.submit(launch.kernel.name, |encoder| {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            pass.set_pipeline(&pipeline.raw);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(launch.groups[0], launch.groups[1], launch.groups[2]);
        })?;
        Ok(())
    }
}

impl Digest {
    fn add(&mut self, low: u32, high: u32) {
        self.low = self.low.wrapping_add(low);
        self.high = self.high.wrapping_add(high);
    }

    /// The same digest of (index, bits) pairs on the host; twin of `mix` in `shaders/digest.wgsl`.
    pub fn of(elements: impl IntoIterator<Item = (usize, u32)>) -> Self {
        let mut digest = Digest::default();
        for (index, bits) in elements {
            let index = index as u32;
            digest.add(mix(index, bits, 0x68bc_21eb), mix(index, bits, 0x02e5_be93));
        }
        digest
    }

    /// Both sums as one number.
    pub fn value(&self) -> u64 {
        u64::from(self.high) << 32 | u64::from(self.low)
    }
}

fn mix(index: u32, bits: u32, salt: u32) -> u32 {
    let mut x = bits ^ index.wrapping_mul(0x9e37_79b9).wrapping_add(salt);
    x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_anywhere_changes_both_sums() {
        let elements: Vec<u32> = (0..50).map(|i: u32| i.wrapping_mul(0x0101_0101)).collect();
        let whole = Digest::of(elements.iter().copied().enumerate());
        for index in 0..50 {
            for bit in 0..32 {
                let mut changed = elements.clone();
                changed[index] ^= 1 << bit;
                let digest = Digest::of(changed.into_iter().enumerate());
                assert!(digest.low != whole.low && digest.high != whole.high);
            }
        }
        let mut swapped = elements.clone();
        swapped.swap(3, 4);
        assert_ne!(Digest::of(swapped.into_iter().enumerate()), whole);
    }
}
