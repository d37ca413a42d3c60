//! The running sums of the metrics, on the host.

/// Sums of the metrics of all runs since the sums were last cleared.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RunningSums {
    /// The sum of the examples' losses.
    pub loss: f32,
    /// Number of examples whose prediction (the largest output) is their label.
    pub correct: u32,
    /// Number of examples.
    pub examples: u32,
    /// The sum of the class weights of the examples' labels; 0 without class weights.
    pub weight: f32,
    /// The first step, modulo 2^32, whose mean loss was NaN or infinite.
    pub non_finite_step: Option<u32>,
    /// The first update with a result that was NaN or infinite.
    pub rejected: Option<Rejected>,
    /// Last gradient norm that [`crate::graph::Clip::Norm`] computed, before clipping; 0 if it has not
    /// computed one.
    pub gradient_norm: f32,
}

/// An update with results that were NaN or infinite: these elements kept their weights and state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejected {
    /// The step, modulo 2^32.
    pub step: u32,
    /// The lowest group of four elements with such a result, counted over all chunks of the arena.
    pub group: u32,
}

impl RunningSums {
    /// Parses the bytes of the struct `Sums` of `metrics.wgsl`, as read from the device; missing bytes count
    /// as 0.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let word = |i: usize| {
            let word = bytes.get(4 * i..4 * i + 4).unwrap_or(&[0; 4]);
            u32::from_le_bytes([word[0], word[1], word[2], word[3]])
        };
        RunningSums {
            loss: f32::from_bits(word(0)),
            correct: word(1),
            examples: word(2),
            weight: f32::from_bits(word(5)),
            non_finite_step: (word(3) != 0).then(|| word(4)),
            rejected: (word(8) != 0).then(|| Rejected { step: word(9), group: u32::MAX - word(8) }),
            gradient_norm: f32::from_bits(word(6)),
        }
    }
}
