//! Values to and from the device.

use super::compile::GUARD_WORD;
use super::{Home, Plan};
use crate::error::{Error, Result};
use crate::gpu::{GpuBuffer, ReadRing};
use crate::graph::{DType, Role, ValueId};
use std::sync::{MutexGuard, PoisonError};

impl Plan {
    /// Writes floats into an input or a parameter: the first rows of a batched one, all elements of another.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a wrong number of elements, [`Error::InvalidArgument`] for a value that is computed,
    /// not of this graph, or of another type.
    pub fn write_f32(&self, value: ValueId, data: &[f32]) -> Result<()> {
        self.write(value, DType::F32, data.len(), bytemuck::cast_slice(data))
    }

    /// [`Plan::write_f32`] for unsigned integers.
    ///
    /// # Errors
    /// As [`Plan::write_f32`].
    pub fn write_u32(&self, value: ValueId, data: &[u32]) -> Result<()> {
        self.write(value, DType::U32, data.len(), bytemuck::cast_slice(data))
    }

    /// Reads floats: an input, a parameter, a gradient that an update reads, or a value marked as output.
    /// Waits for the device.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for any other value or another type; [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn read_f32(&self, value: ValueId) -> Result<Vec<f32>> {
        Ok(self.read(value, DType::F32)?.into_iter().map(f32::from_bits).collect())
    }

    /// [`Plan::read_f32`] for unsigned integers.
    ///
    /// # Errors
    /// As [`Plan::read_f32`].
    pub fn read_u32(&self, value: ValueId) -> Result<Vec<u32>> {
        self.read(value, DType::U32)
    }

    /// Looks at the bands behind all tensors; only for a plan compiled with guard bands.
    ///
    /// # Errors
    /// [`Error::Validation`] that names the first tensor beyond whose end something was written.
    pub fn check_guards(&self) -> Result<()> {
        for guard in &self.guards {
            let words = self.read_words(&self.slots[guard.slot], guard.begin, guard.bytes)?;
            if let Some(at) = words.iter().position(|&w| w != GUARD_WORD) {
                let message = format!("wrote {:#010x} {} elements beyond its end", words[at], at);
                return Err(Error::Validation { kernel: guard.name.clone(), message });
            }
        }
        Ok(())
    }

    fn home(&self, value: ValueId, dtype: DType) -> Result<(&GpuBuffer, u64)> {
        let Some(info) = self.graph.values().get(value.0) else {
            return Err(Error::argument("value", "one of this graph", format!("number {}", value.0)));
        };
        if info.dtype != dtype {
            return Err(Error::argument(&info.name, format!("{:?}", info.dtype), format!("{dtype:?}")));
        }
        match self.values[value.0] {
            Some(Home::Slot(slot)) => Ok((&self.slots[slot], 0)),
            Some(Home::Weights(spot)) => Ok((&self.store.inner.weights[spot.chunk], 4 * spot.first as u64)),
            Some(Home::Gradients(spot)) => {
                Ok((&self.store.inner.gradients[spot.chunk], 4 * spot.first as u64))
            }
            None => Err(Error::argument(
                &info.name,
                "a value that is kept (Graph::mark_output)",
                "one that is not",
            )),
        }
    }

    fn write(&self, value: ValueId, dtype: DType, count: usize, bytes: &[u8]) -> Result<()> {
        let (buffer, offset) = self.home(value, dtype)?;
        let info = self.graph.at(value);
        if info.role == Role::Computed {
            return Err(Error::argument(&info.name, "an input or a parameter", "a computed value"));
        }
        let row = info.elements_per_row();
        let fits = if info.batched {
            count > 0 && count.is_multiple_of(row) && count <= info.shape.elements()
        } else {
            count == row
        };
        if !fits {
            let rows = if info.batched { "rows of " } else { "" };
            let expected = format!("{rows}{row} elements, {} in all", info.shape);
            return Err(Error::shape(&info.name, expected, format!("{count} elements")));
        }
        self.gpu.write(buffer, offset, bytes)
    }

    fn read(&self, value: ValueId, dtype: DType) -> Result<Vec<u32>> {
        let (buffer, offset) = self.home(value, dtype)?;
        let info = self.graph.at(value);
        let shared = matches!(self.values[value.0], Some(Home::Slot(_)))
            && info.role == Role::Computed
            && !info.output;
        if shared {
            return Err(Error::argument(
                &info.name,
                "a value that is kept (Graph::mark_output)",
                "one that is not",
            ));
        }
        self.read_words(buffer, offset, 4 * info.shape.elements() as u64)
    }

    pub(super) fn ring(&self) -> MutexGuard<'_, ReadRing> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read_words(&self, buffer: &GpuBuffer, offset: u64, bytes: u64) -> Result<Vec<u32>> {
        let mut words = Vec::with_capacity((bytes / 4) as usize);
        self.ring().read_all(&self.gpu, buffer, offset, bytes, |piece| {
            words.extend(piece.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        })?;
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, GpuOptions};
    use crate::graph::{Graph, Op, StepScalars};
    use crate::plan::PlanOptions;

    #[test]
    fn a_write_beyond_a_tensor_is_reported() {
        let gpu = Gpu::new(GpuOptions::default()).unwrap();
        let mut graph = Graph::new(3).unwrap();
        let x = graph.batch_input("x", &[5], DType::F32).unwrap();
        let y = graph.push_one(Op::Relu, &[x], "the relu").unwrap();
        graph.mark_output(y).unwrap();
        let plan = Plan::compile(&gpu, &graph, &PlanOptions::default().guard_bands(true)).unwrap();
        plan.run(StepScalars::forward(3)).unwrap();
        plan.check_guards().unwrap();
        for guard in &plan.guards {
            // The last word of the band, then the first: right behind the tensor.
            for offset in [guard.begin + guard.bytes - 4, guard.begin] {
                gpu.write(&plan.slots[guard.slot], offset, &[0; 4]).unwrap();
                let error = plan.check_guards().unwrap_err().to_string();
                assert!(error.contains(&guard.name), "{error}");
                gpu.write(&plan.slots[guard.slot], offset, &GUARD_WORD.to_le_bytes()).unwrap();
            }
        }
        assert_eq!(plan.guards.len(), 2);
        plan.check_guards().unwrap();
    }
}
