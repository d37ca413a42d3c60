//! What operations ask of their operands.

use crate::error::{Error, Result};
use crate::graph::{DType, Value};

/// An operation's operands, with what all operations ask of theirs.
pub(super) struct Operands<'a> {
    pub label: &'a str,
    pub values: Vec<&'a Value>,
}

impl<'a> Operands<'a> {
    pub fn count(&self, n: usize) -> Result<()> {
        if self.values.len() == n {
            return Ok(());
        }
        Err(Error::argument(self.label, format!("{n} operands"), self.values.len()))
    }

    pub fn float(&self, index: usize) -> Result<&'a Value> {
        self.of(index, DType::F32)
    }

    pub fn of(&self, index: usize, dtype: DType) -> Result<&'a Value> {
        let value = self.values[index];
        if value.dtype == dtype {
            return Ok(value);
        }
        Err(Error::argument(
            format!("{}: {}", self.label, value.name),
            format!("{dtype:?}"),
            format!("{:?}", value.dtype),
        ))
    }

    /// Operand `index` must have the batch as its first axis: its kernels work example by example.
    pub fn batched(&self, index: usize) -> Result<()> {
        if self.values[index].batched {
            return Ok(());
        }
        let name = &self.values[index].name;
        Err(Error::argument(
            format!("{}: {name}", self.label),
            "a value with a batch axis (Graph::batch_input)",
            "one without",
        ))
    }

    /// Operand `index` must have these extents; a leading `None` stands for any batch.
    pub fn shape(&self, index: usize, expected: &[Option<usize>]) -> Result<()> {
        let value = self.values[index];
        let extents = value.shape.extents();
        let fits = extents.len() == expected.len()
            && extents.iter().zip(expected).all(|(a, e)| e.is_none_or(|e| e == *a));
        if fits {
            return Ok(());
        }
        let words: Vec<_> = expected.iter().map(|e| e.map_or("n".to_owned(), |e| e.to_string())).collect();
        Err(Error::shape(
            format!("{}: {}", self.label, value.name),
            format!("[{}]", words.join(", ")),
            &value.shape,
        ))
    }

    /// Two operands must have the same first extent and agree on whether it is the batch.
    pub fn same_rows(&self, a: usize, b: usize) -> Result<()> {
        let (va, vb) = (self.values[a], self.values[b]);
        if va.shape.extents().first() == vb.shape.extents().first() && va.batched == vb.batched {
            return Ok(());
        }
        Err(Error::shape(self.label, format!("as many rows as {} {}", va.name, va.shape), &vb.shape))
    }

    pub fn same_shape(&self, a: usize, b: usize) -> Result<()> {
        if self.values[a].shape == self.values[b].shape && self.values[a].batched == self.values[b].batched {
            return Ok(());
        }
        Err(Error::shape(
            format!("{}: {}", self.label, self.values[b].name),
            self.values[a].shape.to_string(),
            &self.values[b].shape,
        ))
    }
}
