//! Forward passes over any number of examples, in batches.

use super::Plan;
use crate::error::{Error, Result};
use crate::graph::{StepScalars, ValueId};

/// The examples of an input of a plan.
pub(crate) struct Examples<'a> {
    /// Name, for errors.
    pub name: &'a str,
    pub value: ValueId,
    /// Elements `[rows, ..example]`, row-major.
    pub elements: &'a [f32],
}

impl Plan {
    /// Computes values for any number of examples, which is the same in all inputs, in batches; returns the
    /// elements `[rows, ..]` of each. Waits for the device.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the number of elements is not a multiple of that of one example, or the inputs
    /// have different numbers of examples; [`Error::DeviceLost`], [`Error::Timeout`].
    pub(crate) fn predict(&self, inputs: &[Examples], outputs: &[ValueId]) -> Result<Vec<Vec<f32>>> {
        let graph = self.graph();
        let row = |value: ValueId| graph.at(value).elements_per_row();
        let mut rows = None;
        for Examples { name, value, elements } in inputs {
            let (one, example) = (row(*value), &graph.at(*value).shape.extents()[1..]);
            if !elements.len().is_multiple_of(one) {
                let expected = format!("rows of {one} features, {example:?}");
                return Err(Error::shape(*name, expected, format!("{} features", elements.len())));
            }
            let got = elements.len() / one;
            if *rows.get_or_insert(got) != got {
                let expected = format!("{} examples, as in {}", rows.unwrap_or(0), inputs[0].name);
                return Err(Error::shape(*name, expected, format!("{got} examples")));
            }
        }
        let rows = rows.unwrap_or(0);
        let mut found: Vec<_> =
            outputs.iter().map(|&output| Vec::with_capacity(rows * row(output))).collect();
        for first in (0..rows).step_by(graph.batch()) {
            let part = graph.batch().min(rows - first);
            for Examples { value, elements, .. } in inputs {
                let one = row(*value);
                self.write_f32(*value, &elements[first * one..(first + part) * one])?;
            }
            self.run(StepScalars::forward(part))?;
            for (&output, found) in outputs.iter().zip(&mut found) {
                found.extend_from_slice(&self.read_f32(output)?[..part * row(output)]);
            }
        }
        Ok(found)
    }
}
