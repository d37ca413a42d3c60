//! Data sets of `frazil train` and the models for them.

use crate::{at_flag, os_text};
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
            Some(("idx", folder)) if !folder.is_empty() => Ok(Source::Idx(os_text::path(folder))),
            Some(("cifar10", folder)) if !folder.is_empty() => Ok(Source::Cifar10(os_text::path(folder))),
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

/// Returns an error if no model has this name.
pub fn check_model(name: &str) -> Result<()> {
    Model::named(name).map(drop).map_err(|error| at_flag("--model", error))
}

/// The model of this name for the images and the classes of a data set.
pub fn model_for(name: &str, data: &Dataset) -> Result<Model> {
    Model::named_for(name, data.example_shape(), data.classes()).map_err(|error| {
        let expected = format!("a model for images of {:?}, as in {}", data.example_shape(), data.name());
        argument("--model", &expected, &format!("{name}, which is none: {error}"))
    })
}

fn argument(at: &str, expected: &str, got: &str) -> Error {
    Error::InvalidArgument { at: at.to_owned(), expected: expected.to_owned(), got: got.to_owned() }
}
