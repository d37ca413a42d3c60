//! The gaps between tensors in the arenas: nothing may write there.

use super::compile::GUARD_WORD;
use super::{Layout, Spot, Store};
use crate::error::{Error, Result};
use crate::gpu::GpuBuffer;

impl Store {
    /// Fills all gaps with a known pattern, a NaN, in weights, gradients and state.
    pub(crate) fn guard_gaps(&self) -> Result<()> {
        for (_, arena) in self.arenas() {
            for spot in self.inner.layout.spots() {
                let (offset, count) = gap(spot);
                if count > 0 {
                    let words = vec![GUARD_WORD; count];
                    self.inner.gpu.write(&arena[spot.chunk], offset, bytemuck::cast_slice(&words))?;
                }
            }
        }
        Ok(())
    }

    /// Fails, naming arena and tensor, if a gap no longer holds what [`Store::guard_gaps`] wrote.
    pub(crate) fn check_gaps(&self) -> Result<()> {
        for (name, arena) in self.arenas() {
            for (parameter, spot) in self.inner.parameters.iter().zip(self.inner.layout.spots()) {
                let (offset, count) = gap(spot);
                let mut intact = true;
                let expected = GUARD_WORD.to_le_bytes();
                self.ring().read_all(
                    &self.inner.gpu,
                    &arena[spot.chunk],
                    offset,
                    4 * count as u64,
                    |piece| {
                        intact &= piece.chunks_exact(4).all(|word| word == expected);
                    },
                )?;
                if !intact {
                    let kernel = format!("{} in the arena of {name}", parameter.path);
                    let message = "wrote into the gap beyond its end".to_owned();
                    return Err(Error::Validation { kernel, message });
                }
            }
        }
        Ok(())
    }

    fn arenas(&self) -> impl Iterator<Item = (&'static str, &Vec<GpuBuffer>)> {
        let inner = &self.inner;
        let known = [("weights", &inner.weights), ("gradients", &inner.gradients)];
        known
            .into_iter()
            .filter(|(_, arena)| !arena.is_empty())
            .chain(
                [("accumulated gradients", &inner.accumulated)]
                    .into_iter()
                    .filter(|(_, arena)| !arena.is_empty()),
            )
            .chain(inner.slots.iter().copied().zip(&inner.state))
    }
}

/// Offset in bytes and number of elements of the gap behind a tensor.
fn gap(spot: &Spot) -> (u64, usize) {
    (4 * (spot.first + spot.len) as u64, Layout::room(spot) - spot.len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Gpu, GpuOptions};
    use crate::graph::{Graph, Op, ParameterId, UpdateRule};
    use crate::shape::Shape;

    #[test]
    fn a_write_into_a_gap_is_reported() {
        let gpu = Gpu::new(GpuOptions::default()).unwrap();
        let mut graph = Graph::new(1).unwrap();
        let rule = UpdateRule::Sgd { momentum: 0.9, nesterov: false, weight_decay: 0.0 };
        let shape = Shape::new([5]).unwrap();
        graph.parameter("w", shape.clone()).unwrap();
        let gradient = graph.input("gradient", shape, crate::graph::DType::F32);
        graph.push(Op::Update(rule, vec![ParameterId(0).into()]), &[gradient], "update").unwrap();
        let store = Store::new(&gpu, &graph).unwrap();
        store.guard_gaps().unwrap();
        store.check_gaps().unwrap();
        for (name, arena) in store.arenas() {
            gpu.write(&arena[0], 4 * 5, &[0; 4]).unwrap();
            let error = store.check_gaps().unwrap_err().to_string();
            assert!(error.contains(&format!("w in the arena of {name}")), "{error}");
            store.guard_gaps().unwrap();
        }
        assert_eq!(store.arenas().count(), 3);
    }
}
