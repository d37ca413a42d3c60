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
    /// Last gradient norm that [`crate::graph::Clip::Norm`] computed, before clipping; 0 if it has not
    /// computed one.
    pub gradient_norm: f32,
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
            gradient_norm: f32::from_bits(word(6)),
        }
    }
}
