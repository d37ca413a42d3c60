//! Attributes of nodes, with their defaults.

use super::proto::{Attribute, Node, Read};

/// Returns the decimal fraction that is stored as this f32, such as 0.1.
pub(super) fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}

pub(super) fn extent(value: i64) -> Read<usize> {
    usize::try_from(value).map_err(|_| format!("expected a number from 0, got {value}"))
}

pub(super) fn int(node: &Node, name: &str, default: i64) -> Read<i64> {
    match node.attributes.get(name) {
        None => Ok(default),
        Some(Attribute::Int(value)) => Ok(*value),
        Some(other) => Err(format!("attribute {name}: expected an integer, got {other:?}")),
    }
}

pub(super) fn float(node: &Node, name: &str, default: f64) -> Read<f64> {
    match node.attributes.get(name) {
        None => Ok(default),
        Some(Attribute::Float(value)) => Ok(decimal(*value)),
        Some(other) => Err(format!("attribute {name}: expected a float, got {other:?}")),
    }
}

pub(super) fn text<'a>(node: &Node<'a>, name: &str, default: &'a str) -> Read<&'a str> {
    match node.attributes.get(name) {
        None => Ok(default),
        Some(Attribute::Text(value)) => Ok(value),
        Some(other) => Err(format!("attribute {name}: expected text, got {other:?}")),
    }
}

/// Two integers of 0 or more, for rows and columns; `None` if they are left out.
pub(super) fn pair(node: &Node, name: &str) -> Read<Option<[usize; 2]>> {
    match node.attributes.get(name) {
        None => Ok(None),
        Some(Attribute::Ints(values)) => match *values.as_slice() {
            [rows, columns] => Ok(Some([extent(rows)?, extent(columns)?])),
            _ => {
                Err(format!("attribute {name}: expected two integers, for rows and columns, got {values:?}"))
            }
        },
        Some(other) => Err(format!("attribute {name}: expected integers, got {other:?}")),
    }
}
