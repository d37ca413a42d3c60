//! Weights read from a file of another program.

use crate::error::Error;
use safetensors::tensor::Dtype;
use std::path::Path;

/// Element type and shape of a tensor in a file.
pub(super) struct Stored {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
}

/// Weights for a model that were read from a file of another program.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// Paths and values of the parameters found, in the model's order and layouts, for
    /// [`Trainer::set_parameters`](crate::Trainer::set_parameters).
    pub parameters: Vec<(String, Vec<f32>)>,
    /// Names in the file's terms that parameters of the model have, but that the file lacks.
    pub missing: Vec<String>,
    /// Names of floating-point tensors in the file that no parameter has.
    pub unused: Vec<String>,
}

impl Weights {
    /// The error for a file without a tensor of the model; `advice` says what to try.
    pub(super) fn nothing_found(self, file: &Path, advice: &str) -> Error {
        let [expected, got] =
            [self.missing, self.unused].map(|names| names.into_iter().take(4).collect::<Vec<_>>());
        let why = format!("expected tensors such as {expected:?}, got {got:?}; {advice}");
        Error::Checkpoint { path: file.to_owned(), why, source: None }
    }
}
