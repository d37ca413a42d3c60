//! Data sets of `frazil train` and the models for them.

use crate::at_flag;
use frazil::data::{cifar10, idx};
use frazil::{Dataset, Digits, Error, Model, Result};
use std::path::PathBuf;

/// A data set that `--data` names.
pub enum Source {
    Digits,
    Idx(PathBuf),
    Cifar10(PathBuf),
}

impl Source {
    /// Parses `digits`, `idx:DIR` or `cifar10:DIR`.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "digits" => Ok(Source::Digits),
            Some(("idx", folder)) if !folder.is_empty() => Ok(Source::Idx(folder.into())),
            Some(("cifar10", folder)) if !folder.is_empty() => Ok(Source::Cifar10(folder.into())),
            _ => Err(argument("--data", "digits, idx:DIR or cifar10:DIR", text)),
        }
    }

    /// The kind of data set, which names the output folder.
    pub fn name(&self) -> &'static str {
        match self {
            Source::Digits => "digits",
            Source::Idx(_) => "idx",
            Source::Cifar10(_) => "cifar10",
        }
    }

    /// The default model.
    pub fn model(&self) -> &'static str {
        match self {
            Source::Digits => "digits",
            Source::Idx(_) => "lenet28",
            Source::Cifar10(_) => "cifar",
        }
    }

    /// Loads the training set and the test set.
    pub fn load(&self) -> Result<(Dataset, Dataset)> {
        match self {
            Source::Digits => Ok((Digits::train()?, Digits::test()?)),
            Source::Idx(folder) => idx(folder),
            Source::Cifar10(folder) => cifar10(folder),
        }
    }
}

/// The model of this name.
pub fn model(name: &str) -> Result<Model> {
    Model::named(name).map_err(|error| at_flag("--model", error))
}

/// Returns an error if the examples do not have the model's input shape.
pub fn fits(model: &Model, data: &Dataset) -> Result<()> {
    if model.example_shape() == data.example_shape() {
        return Ok(());
    }
    let expected =
        format!("a model with input shape {:?}, as the examples of {}", data.example_shape(), data.name());
    Err(argument("--model", &expected, &format!("input shape {:?}", model.example_shape())))
}

fn argument(at: &str, expected: &str, got: &str) -> Error {
    Error::InvalidArgument { at: at.to_owned(), expected: expected.to_owned(), got: got.to_owned() }
}
