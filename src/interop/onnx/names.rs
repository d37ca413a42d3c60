//! Names of layers, from those of the nodes of a file.

use super::proto::Node;

/// Returns a name that can be the name of a layer.
pub(super) fn clean(name: &str) -> String {
    let replaced: String = name
        .chars()
        .map(|c| match c {
            '/' | ':' => '.',
            '*' | '?' | '=' => '_',
            c if c.is_control() => '_',
            c => c,
        })
        .collect();
    let parts: Vec<_> = replaced.split('.').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "layer".to_owned() } else { parts.join(".") }
}

/// Returns the components of a node's name. PyTorch's exporter repeats modules in it, as in
/// `/layer1/layer1.0/conv1/Conv`, whose components are `layer1.0`, `conv1`, `Conv`.
fn components(node: &Node) -> Vec<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in node.name.split('/').filter(|part| !part.is_empty()) {
        if parts.last().is_some_and(|last| part.strip_prefix(last).is_some_and(|rest| rest.starts_with('.')))
        {
            parts.pop();
        }
        parts.push(part);
    }
    parts.into_iter().map(ToOwned::to_owned).collect()
}

/// Returns the name for a layer without parameters: the node's, in small letters at its end.
pub(super) fn path_of(node: &Node, index: usize) -> String {
    let mut parts = components(node);
    match parts.last_mut() {
        Some(last) => *last = last.to_lowercase(),
        None => parts.push(format!("{}{index}", node.op.to_lowercase())),
    }
    parts.join(".")
}

/// Returns the name for a layer with parameters: the module of the node.
pub(super) fn module_of(node: &Node, index: usize) -> String {
    let mut parts = components(node);
    if parts.len() > 1 {
        parts.pop();
    }
    if parts.is_empty() { format!("{}{index}", node.op.to_lowercase()) } else { parts.join(".") }
}
