//! Arrays in NumPy's formats: inputs and outputs of networks, weights and masks.
//!
//! `.npz` archives need the feature `npz`. Masks in these formats are frozen with
//! [`FreezeRule::from_file`](crate::FreezeRule::from_file).

pub use crate::npy::{Array, Elements, read, write};
#[cfg(feature = "npz")]
pub use crate::npy::{read_npz, write_npz};

#[cfg(feature = "npz")]
use super::Weights;
#[cfg(feature = "npz")]
use crate::error::{Error, Result};
#[cfg(feature = "npz")]
use crate::mask::Mask;
#[cfg(feature = "npz")]
use crate::model::Model;
#[cfg(feature = "npz")]
use crate::npy;
#[cfg(feature = "npz")]
use std::collections::BTreeMap;
#[cfg(feature = "npz")]
use std::path::Path;

/// Reads the parameters of a model from a `.npz` file whose arrays have their paths and shapes, as in
/// `numpy.savez(file, **{"conv1.kernel": kernel})`. Needs the feature `npz`.
///
/// # Errors
/// As [`read_npz`]; [`Error::Checkpoint`] if no array has the path of a parameter, or one has another shape or type.
#[cfg(feature = "npz")]
pub fn read_weights(path: impl AsRef<Path>, model: &Model) -> Result<Weights> {
    let path = path.as_ref();
    let mut arrays: BTreeMap<_, _> = read_npz(path)?.into_iter().collect();
    let mut read = Weights { parameters: Vec::new(), missing: Vec::new(), unused: Vec::new() };
    for parameter in model.parameters() {
        let name = &parameter.path;
        let Some(array) = arrays.remove(name) else {
            read.missing.push(name.clone());
            continue;
        };
        let expected = parameter.shape.extents();
        match array.elements {
            Elements::F32(values) if array.shape == expected => read.parameters.push((name.clone(), values)),
            other => {
                let kind = if matches!(other, Elements::F32(_)) { "" } else { " of other elements" };
                let why = format!(
                    "array {name:?}: expected floating-point numbers {expected:?}, got {:?}{kind}",
                    array.shape
                );
                return Err(Error::Checkpoint { path: path.to_owned(), why, source: None });
            }
        }
    }
    let floats = arrays.into_iter().filter(|(_, array)| matches!(array.elements, Elements::F32(_)));
    read.unused = floats.map(|(name, _)| name).collect();
    if read.parameters.is_empty() {
        return Err(read.nothing_found(path, "name the arrays like the parameters of the model"));
    }
    Ok(read)
}

/// Writes the parameters and masks of a model to a `.npz` file, as [`read_weights`] and
/// [`FreezeRule::from_file`](crate::FreezeRule::from_file)`(path, "mask.*")` read them: an array of `float32` for each
/// parameter with its path and shape, and an array of `bool` (`True` = frozen) `mask.PATH` for each mask. The file is
/// replaced atomically. Needs the feature `npz`.
///
/// # Errors
/// [`Error::UnknownParameter`] and [`Error::ShapeMismatch`] for values or masks that fit no parameter;
/// [`Error::InvalidArgument`] for a path that is given twice; [`Error::Data`] for a name that an archive cannot have;
/// [`Error::Io`].
#[cfg(feature = "npz")]
pub fn write_weights<P: AsRef<str>>(
    path: impl AsRef<Path>,
    model: &Model,
    parameters: &[(P, Vec<f32>)],
    masks: &[(P, Mask)],
) -> Result<()> {
    let shape = |path: &str| match model.parameters().iter().find(|parameter| parameter.path == path) {
        Some(parameter) => Ok(parameter.shape.extents()),
        None => Err(Error::unknown_parameter(path, model.parameters().iter().map(|p| p.path.as_str()))),
    };
    let weights = parameters.iter().map(|(path, values)| {
        let path = path.as_ref();
        Ok((path.to_owned(), npy::format(shape(path)?, values)?))
    });
    let masks = masks.iter().map(|(path, mask)| {
        let path = path.as_ref();
        let flags: Vec<_> = (0..mask.len()).map(|index| mask.is_frozen(index)).collect();
        Ok((format!("mask.{path}"), npy::format_flags(shape(path)?, &flags)?))
    });
    npy::write_entries(path.as_ref(), weights.chain(masks))
}
