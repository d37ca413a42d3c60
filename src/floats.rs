//! Floating-point elements of files, converted to `f32`.

use crate::error::{Error, Result};
use crate::host_memory;
use half::{bf16, f16};
use std::fmt::Display;

/// A floating-point type of elements in a file, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Float {
    F16,
    BF16,
    F32,
    F64,
}

impl Float {
    /// Converts elements to `f32`, the nearest for `f64`.
    ///
    /// # Errors
    /// The error that `invalid` makes of the reason, for a finite `f64` element that is infinite in `f32`;
    /// [`Error::HostMemory`], which names `what`.
    pub fn to_f32(
        self,
        data: &[u8],
        what: impl Display,
        invalid: impl Fn(String) -> Error,
    ) -> Result<Vec<f32>> {
        let mut values = host_memory::reserve(data.len() / self.bytes(), what)?;
        match self {
            Float::F32 => values.extend(data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes))),
            Float::F16 => {
                values.extend(data.as_chunks().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32()))
            }
            Float::BF16 => {
                values.extend(data.as_chunks().0.iter().map(|&bytes| bf16::from_le_bytes(bytes).to_f32()))
            }
            Float::F64 => {
                for (index, &bytes) in data.as_chunks().0.iter().enumerate() {
                    let value = f64::from_le_bytes(bytes);
                    let narrow = value as f32;
                    if value.is_finite() && !narrow.is_finite() {
                        let why =
                            format!("element {index}: expected a number in the range of f32, got {value:e}");
                        return Err(invalid(why));
                    }
                    values.push(narrow);
                }
            }
        }
        Ok(values)
    }

    /// Size of an element in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Float::F16 | Float::BF16 => 2,
            Float::F32 => 4,
            Float::F64 => 8,
        }
    }
}
