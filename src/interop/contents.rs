//! What a file of another program contains: names, element types and shapes.

use std::collections::BTreeMap;

/// What a file contains, as [`contents`](super::contents()) returns it.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileContents {
    /// Format, such as `ONNX`.
    pub format: &'static str,
    /// Tensors, in the order of their names; those of an ONNX file in its order.
    pub tensors: Vec<TensorEntry>,
    /// Operators of an ONNX file with their numbers of nodes; those of other domains as `DOMAIN.OPERATOR`.
    pub operators: BTreeMap<String, usize>,
    /// Inputs of an ONNX file that are no tensors of the file.
    pub inputs: Vec<ValueEntry>,
    /// Outputs of an ONNX file.
    pub outputs: Vec<ValueEntry>,
}

/// A tensor in a file.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// Name.
    pub name: String,
    /// Element type, such as `f32`, `bf16`, `i64` or `bool`; `other` for one that is none of numbers.
    pub dtype: String,
    /// Extents, outermost first, in the file's layout.
    pub shape: Vec<usize>,
}

/// An input or output of an ONNX file.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueEntry {
    /// Name.
    pub name: String,
    /// Extents in ONNX's layout, `None` for one that is no number, such as the batch; `None` if the file has no shape.
    pub shape: Option<Vec<Option<usize>>>,
}
