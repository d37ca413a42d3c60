//! Tensors with notes in a safetensors file.
//!
//! A file of this crate has its notes as `name = value` lines in the header's entry `frazil`. The note `content` is a
//! checksum over all other notes and all tensors, so that no damage goes unseen. Files of other programs, without notes,
//! can be read for their weights.

mod digest;
mod read;
mod write;

pub(crate) use digest::Fold;

use safetensors::tensor::Dtype;
use std::collections::BTreeMap;

/// The version of the names and notes in a file.
pub const VERSION: &str = "1";

/// The header's entry that holds the notes.
const ENTRY: &str = "frazil";

/// How masks are stored, for readers of the file.
const POLARITY: &str = "u32 words, element i in bit i % 32 of word i / 32, 1 = frozen";

/// A tensor in host memory, by its bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bits: Vec<u32>,
}

impl Tensor {
    /// Floats, by their bits.
    pub fn f32_bits(shape: Vec<usize>, bits: Vec<u32>) -> Self {
        Tensor { dtype: Dtype::F32, shape, bits }
    }

    /// Unsigned integers.
    pub fn u32(shape: Vec<usize>, bits: Vec<u32>) -> Self {
        Tensor { dtype: Dtype::U32, shape, bits }
    }

    /// `f32` or `u32`.
    pub fn dtype(&self) -> &'static str {
        if self.dtype == Dtype::F32 { "f32" } else { "u32" }
    }

    /// The extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements' bits, row-major.
    pub fn bits(&self) -> &[u32] {
        &self.bits
    }
}

/// What is in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    notes: BTreeMap<String, String>,
    tensors: Vec<(String, Tensor)>,
}

impl Checkpoint {
    /// Adds a note to the file's header; neither name nor value may hold a line break.
    pub fn note(&mut self, name: &str, value: impl ToString) {
        self.notes.insert(name.to_owned(), value.to_string());
    }

    /// Adds a tensor.
    pub fn push(&mut self, name: String, tensor: Tensor) {
        self.tensors.push((name, tensor));
    }

    /// All notes; empty for a file of another program.
    pub fn notes(&self) -> &BTreeMap<String, String> {
        &self.notes
    }

    /// All tensors with their names; those of a file that was read are sorted by name.
    pub fn tensors(&self) -> &[(String, Tensor)] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor)
    }
}
