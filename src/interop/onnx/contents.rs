//! What an ONNX file contains, whether or not it can be read as a model.

use super::proto::{File, Node, Read, Value};
use crate::interop::contents::{FileContents, TensorEntry, ValueEntry};
use std::collections::HashSet;

pub(in crate::interop) fn contents(bytes: &[u8]) -> Read<FileContents> {
    let file = File::new(bytes)?;
    let tensor = |tensor: &super::proto::Tensor| TensorEntry {
        name: tensor.name.to_owned(),
        dtype: tensor.short_type(),
        shape: tensor.dims.clone(),
    };
    let mut found = FileContents { format: "ONNX", ..FileContents::default() };
    found.tensors = file.initializers.iter().map(tensor).collect();
    for node in &file.nodes {
        *found.operators.entry(operator(node)).or_default() += 1;
    }
    let value = |value: &Value| ValueEntry { name: value.name.to_owned(), shape: value.shape.clone() };
    // Before version 4 of the format, initializers are listed as inputs, too.
    let stored: HashSet<_> = file.initializers.iter().map(|tensor| tensor.name).collect();
    found.inputs = file.inputs.iter().filter(|input| !stored.contains(input.name)).map(value).collect();
    found.outputs = file.outputs.iter().map(value).collect();
    Ok(found)
}

/// Returns the name of a node's operator, with its domain unless it is ONNX's own.
pub(super) fn operator(node: &Node) -> String {
    match node.domain {
        "" | "ai.onnx" => node.op.to_owned(),
        domain => format!("{domain}.{}", node.op),
    }
}
