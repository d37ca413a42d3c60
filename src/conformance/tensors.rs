//! The tensors of a run of a case: their digest, and a copy of them if they are asked for.

use crate::digest::Fnv1a;

/// A tensor of a case: an operand, an expected result, a bound or a result of the device.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tensor {
    /// What it is, such as `conv2d, 2 rows: expected`.
    pub name: String,
    /// Its extents; the first is the batch if it has one.
    pub shape: Vec<usize>,
    /// Its elements, row-major.
    pub values: Vec<f64>,
}

/// Collects the tensors of a run.
#[derive(Default)]
pub(super) struct Tensors {
    digest: Fnv1a,
    copies: Option<Vec<Tensor>>,
}

impl Tensors {
    /// Collects copies, too.
    pub fn with_copies() -> Self {
        Tensors { digest: Fnv1a::default(), copies: Some(Vec::new()) }
    }

    /// Adds the bits of a result to the digest.
    pub fn hash(&mut self, bits: &[u32]) {
        bits.iter().for_each(|word| self.digest.bytes(&word.to_le_bytes()));
    }

    /// Adds a copy of a tensor.
    pub fn copy(&mut self, name: &str, shape: &[usize], values: &[f64]) {
        if let Some(copies) = &mut self.copies {
            copies.push(Tensor { name: name.to_owned(), shape: shape.to_vec(), values: values.to_vec() });
        }
    }

    pub fn digest(&self) -> u64 {
        self.digest.value()
    }

    pub fn into_copies(self) -> Vec<Tensor> {
        self.copies.unwrap_or_default()
    }
}
