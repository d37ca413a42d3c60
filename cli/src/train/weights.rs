//! The weights of a file that a new run begins with.

use crate::data::normalization;
use clap::Args;
use frazil::checkpoint::Checkpoint;
use frazil::data::Normalize;
use frazil::interop::npy::{Elements, read_npz};
use frazil::interop::{KerasWeights, TorchStateDict, Weights, read_onnx};
use frazil::low_level::Digest;
use frazil::{Error, Model, Result, Trainer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use wildmatch::WildMatch;

#[derive(Args)]
#[command(next_help_heading = "Weights")]
pub struct WeightsArgs {
    /// Begin with the weights of FILE: a checkpoint of `frazil train`, an ONNX file, or with --model a PyTorch state
    /// dict (.safetensors, .pth, .pt), Keras weights (.keras, .weights.h5) or NumPy arrays (.npz).
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Names of the parameters in FILE, if its name does not tell: torch or keras; or LAYER=NAME for a layer that has
    /// another name there, as in 'fc=classifier.6'. May be repeated.
    #[arg(long, value_name = "torch|keras|LAYER=NAME", requires = "weights")]
    names: Vec<String>,
    /// Do not take the parameters whose path matches GLOB from FILE, but initialize them, as in 'fc.*' for other
    /// classes. May be repeated.
    #[arg(long, value_name = "GLOB", requires = "weights")]
    reset: Vec<String>,
}

/// A file of weights, opened.
pub struct Opened<'a> {
    args: &'a WeightsArgs,
    file: &'a Path,
    format: Format,
}

enum Format {
    /// The file names its architecture.
    Network {
        model: Box<Model>,
        parameters: Vec<(String, Vec<f32>)>,
    },
    /// A checkpoint, whose parameters may be those of another model.
    Checkpoint(Checkpoint),
    Torch,
    Keras,
    Npz,
}

/// The model of a new run, and what it takes from the file.
pub struct Beginning {
    pub model: Model,
    file: PathBuf,
    parameters: Vec<(String, Vec<f32>)>,
    /// Paths of parameters that are initialized.
    new: Vec<String>,
    unused: Vec<String>,
}

impl WeightsArgs {
    pub fn is_given(&self) -> bool {
        self.weights.is_some()
    }

    /// Opens the file of `--weights`; `None` without it. `model` is whether --model is given.
    pub fn open(&self, model: bool) -> Result<Option<Opened<'_>>> {
        let Some(file) = &self.weights else { return Ok(None) };
        let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let named = |name: &str| self.names.iter().any(|other| other == name);
        let format = match extension.as_str() {
            "onnx" => {
                let read = read_onnx(file)?;
                Format::Network { model: Box::new(read.model), parameters: read.parameters }
            }
            _ if named("keras") => Format::Keras,
            _ if named("torch") => Format::Torch,
            "keras" | "h5" => Format::Keras,
            "pth" | "pt" => Format::Torch,
            "npz" => Format::Npz,
            _ => {
                let checkpoint = Checkpoint::read(file)?;
                if checkpoint.is_own() { Format::Checkpoint(checkpoint) } else { Format::Torch }
            }
        };
        let architecture = match &format {
            Format::Checkpoint(checkpoint) => checkpoint.model()?.is_some(),
            Format::Network { .. } => true,
            Format::Torch | Format::Keras | Format::Npz => false,
        };
        if !architecture && !model {
            let why =
                "expected a file that names its architecture, got one without; name the model with --model";
            return Err(Error::Checkpoint { path: file.clone(), why: why.to_owned(), source: None });
        }
        Ok(Some(Opened { args: self, file, format }))
    }
}

impl<'s> Opened<'s> {
    fn refused(&self, why: String) -> Error {
        Error::Checkpoint { path: self.file.to_owned(), why, source: None }
    }

    /// The model whose architecture the file names.
    pub fn model(&self) -> Result<Option<Model>> {
        match &self.format {
            Format::Network { model, .. } => Ok(Some((**model).clone())),
            Format::Checkpoint(checkpoint) => checkpoint.model(),
            Format::Torch | Format::Keras | Format::Npz => Ok(None),
        }
    }

    /// The normalization that the weights were trained with, if the file says so.
    pub fn normalization(&self) -> Option<Normalize> {
        match &self.format {
            Format::Checkpoint(checkpoint) => normalization(checkpoint),
            _ => None,
        }
    }

    /// Reads the parameters of a model. Those of `--reset` are left out; all others must be in the file.
    pub fn read(self, model: Model) -> Result<Beginning> {
        let globs: Vec<_> = self.args.reset.iter().map(|glob| WildMatch::new(glob)).collect();
        let is_reset = |path: &str| globs.iter().any(|glob| glob.matches(path));
        let paths = || model.parameters().iter().map(|parameter| parameter.path.as_str());
        for (text, glob) in self.args.reset.iter().zip(&globs) {
            if !paths().any(|path| glob.matches(path)) {
                let some: Vec<_> = paths().rev().take(4).collect();
                let expected =
                    format!("a glob that matches a parameter of the model, such as {}", some.join(", "));
                return Err(argument("--reset", &expected, text));
            }
        }
        let new: Vec<String> = paths().filter(|path| is_reset(path)).map(str::to_owned).collect();
        let rules = self.rules()?;
        let advice = "--reset GLOB initializes parameters instead of taking them from the file";
        let explained = |error: Error| match error {
            Error::Checkpoint { path, why, source } => {
                Error::Checkpoint { path, why: format!("{why}; {advice}"), source }
            }
            other => other,
        };
        let (parameters, missing, unused) = match &self.format {
            Format::Torch => {
                let mut names = TorchStateDict::new(&model)?;
                for (layer, name) in rules {
                    names = names.rename(layer, name)?;
                }
                let Weights { parameters, missing, unused, .. } =
                    names.without(&new).read(self.file).map_err(explained)?;
                (parameters, missing, unused)
            }
            Format::Keras => {
                let mut names = KerasWeights::new(&model);
                for (layer, name) in rules {
                    names = names.rename(layer, name)?;
                }
                let Weights { parameters, missing, unused, .. } =
                    names.without(&new).read(self.file).map_err(explained)?;
                (parameters, missing, unused)
            }
            Format::Network { parameters, model: old, .. } => {
                let shape = |path: &str| {
                    let found = old.parameters().iter().find(|parameter| parameter.path == path);
                    found.map_or(Vec::new(), |parameter| parameter.shape.extents().to_vec())
                };
                let given =
                    parameters.iter().map(|(path, values)| (path.clone(), shape(path), values.clone()));
                self.own(&model, &new, &rules, given.collect()).map_err(explained)?
            }
            Format::Checkpoint(checkpoint) => {
                let given = checkpoint.parameters().into_iter().filter_map(|path| {
                    let tensor = checkpoint.tensor(path)?;
                    let values = tensor.bits().iter().map(|&bits| f32::from_bits(bits)).collect();
                    Some((path.to_owned(), tensor.shape().to_vec(), values))
                });
                self.own(&model, &new, &rules, given.collect()).map_err(explained)?
            }
            Format::Npz => {
                let arrays =
                    read_npz(self.file)?.into_iter().filter_map(|(name, array)| match array.elements {
                        Elements::F32(values) => Some((name, array.shape, values)),
                        _ => None,
                    });
                self.own(&model, &new, &rules, arrays.collect()).map_err(explained)?
            }
        };
        if !missing.is_empty() {
            let some = missing.iter().take(4).cloned().collect::<Vec<_>>().join(", ");
            let why = format!("expected all parameters of the model, got none of {} ({some})", missing.len());
            return Err(explained(self.refused(why)));
        }
        Ok(Beginning { model, file: self.file.to_owned(), parameters, new, unused })
    }

    /// Pairs of layer and name in `--names`.
    fn rules(&self) -> Result<Vec<(&'s str, &'s str)>> {
        let rules = self.args.names.iter().filter(|text| !["torch", "keras"].contains(&text.as_str()));
        let pair = |text: &'s String| {
            text.split_once('=').ok_or_else(|| argument("--names", "torch, keras or LAYER=NAME", text))
        };
        rules.map(pair).collect()
    }

    /// Parameters that have the paths and layouts of the model.
    #[allow(clippy::type_complexity)]
    fn own(
        &self,
        model: &Model,
        new: &[String],
        rules: &[(&str, &str)],
        given: Vec<(String, Vec<usize>, Vec<f32>)>,
    ) -> Result<(Vec<(String, Vec<f32>)>, Vec<String>, Vec<String>)> {
        let mut given: BTreeMap<String, (Vec<usize>, Vec<f32>)> =
            given.into_iter().map(|(path, shape, values)| (path, (shape, values))).collect();
        let (mut parameters, mut missing) = (Vec::new(), Vec::new());
        for parameter in model.parameters() {
            let (layer, field) = parameter.path.rsplit_once('.').unwrap_or(("", &parameter.path));
            let renamed = rules.iter().find(|(other, _)| *other == layer);
            let name = renamed.map_or(parameter.path.clone(), |(_, name)| format!("{name}.{field}"));
            let found = given.remove(&name);
            if new.contains(&parameter.path) {
                continue;
            }
            match found {
                Some((shape, values)) if shape == parameter.shape.extents() => {
                    parameters.push((parameter.path.clone(), values));
                }
                Some((shape, _)) => {
                    let why = format!("tensor {name:?}: expected {}, got {shape:?}", parameter.shape);
                    return Err(self.refused(why));
                }
                None => missing.push(name),
            }
        }
        Ok((parameters, missing, given.into_keys().collect()))
    }
}

impl Beginning {
    /// Digest of the values, for the identity of the run.
    pub fn digest(&self) -> String {
        let values =
            self.parameters.iter().flat_map(|(_, values)| values.iter().map(|value| value.to_bits()));
        format!("{:016x}", Digest::of(values.enumerate()).value())
    }

    /// Sets the parameters of a trainer, and returns lines that say what was done.
    pub fn apply(&self, trainer: &mut Trainer) -> Result<Vec<String>> {
        trainer.set_parameters(&self.parameters)?;
        let list = |names: &[String]| {
            let more = if names.len() > 6 { ", ..." } else { "" };
            format!("{}{more}", names.iter().take(6).cloned().collect::<Vec<_>>().join(", "))
        };
        let mut lines = vec![format!("{} parameters from {}", self.parameters.len(), self.file.display())];
        if !self.new.is_empty() {
            lines.push(format!("initialized by --reset: {}", list(&self.new)));
        }
        if !self.unused.is_empty() {
            lines.push(format!(
                "{} tensors of the file are not used: {}",
                self.unused.len(),
                list(&self.unused)
            ));
        }
        Ok(lines)
    }
}

fn argument(at: &str, expected: &str, got: &str) -> Error {
    Error::InvalidArgument { at: at.to_owned(), expected: expected.to_owned(), got: got.to_owned() }
}
