//! The running sums of a plan's metrics.

use super::Plan;
use crate::error::Result;
use crate::gpu::ReadRing;
use crate::kernels::SUMS_BYTES;

/// Loss, correct answers and examples since the sums were last cleared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RunningSums {
    /// Sum of the examples' losses.
    pub loss: f32,
    /// Examples whose largest output is at their label.
    pub correct: u32,
    /// Examples.
    pub examples: u32,
    /// The sum of their labels' weights; 0 where classes have none.
    pub weight: f32,
    /// The first step, modulo 2^32, whose mean loss was NaN or infinite.
    pub non_finite_step: Option<u32>,
    /// The last norm of the gradients that [`crate::graph::Clip::Norm`] measured, before clipping; 0 before any.
    pub gradient_norm: f32,
}

impl Plan {
    /// Loss and accuracy since [`Plan::clear_sums`]; waits for the device.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`], [`crate::Error::Timeout`].
    pub fn sums(&self) -> Result<RunningSums> {
        let mut sums = RunningSums::from_bytes(&[]);
        self.ring()
            .read_all(&self.gpu, &self.sums, 0, SUMS_BYTES, |bytes| sums = RunningSums::from_bytes(bytes))?;
        Ok(sums)
    }

    /// Begins to read the sums into a ring of the caller's.
    pub(crate) fn begin_sums(&self, ring: &mut ReadRing) -> Result<()> {
        ring.begin(&self.gpu, &self.sums, 0, SUMS_BYTES)
    }

    /// Sets loss, correct answers, examples and weights to 0. A non-finite loss stays known.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`].
    pub fn clear_sums(&self) -> Result<()> {
        self.gpu.write(&self.sums, 0, &[0; 12])?;
        // Behind the flag and its step.
        self.gpu.write(&self.sums, 20, &[0; 4])
    }

    /// Forgets that a loss was not finite, so that updates go on.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`].
    pub fn clear_non_finite(&self) -> Result<()> {
        self.gpu.write(&self.sums, 12, &[0; 8])
    }
}

impl RunningSums {
    /// Reads the device's layout (`metrics.wgsl`); missing bytes count as 0.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let word = |i: usize| {
            let at = bytes.get(4 * i..4 * i + 4).unwrap_or(&[0; 4]);
            u32::from_le_bytes([at[0], at[1], at[2], at[3]])
        };
        RunningSums {
            loss: f32::from_bits(word(0)),
            correct: word(1),
            examples: word(2),
            weight: f32::from_bits(word(5)),
            non_finite_step: (word(3) != 0).then(|| word(4)),
            gradient_norm: f32::from_bits(word(6)),
        }
    }
}
