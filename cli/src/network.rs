//! Networks that are named on the command line: predefined models, and files of several formats.

use super::data::{class_names, normalization, parse_size};
use super::{Failure, usage};
use clap::Args;
use frazil::checkpoint::Checkpoint;
use frazil::data::Normalize;
use frazil::interop::npy::read_weights;
use frazil::interop::{KerasWeights, TorchStateDict, Weights, read_onnx};
use frazil::layer::Layer;
use frazil::model::Source;
use frazil::{Error, Mask, Model, Result};
use std::path::{Path, PathBuf};

/// Arguments that name a network.
#[derive(Args)]
pub struct NetworkArgs {
    /// File: a checkpoint of `frazil train`, an ONNX file (.onnx), or with --model a PyTorch state dict
    /// (.safetensors, .pth, .pt), Keras weights (.keras, .weights.h5) or NumPy arrays (.npz).
    file: PathBuf,
    /// Predefined model whose weights FILE has, if it does not name its architecture.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Size of the images of the predefined model, HxW or HxWxC [default: its own].
    #[arg(long, value_name = "HxW", value_parser = parse_size)]
    size: Option<[usize; 3]>,
    /// Number of outputs of the predefined model [default: its own].
    #[arg(long, value_name = "N")]
    outputs: Option<usize>,
}

/// A model with its parameters.
pub struct Network {
    pub model: Model,
    /// Paths and values of all parameters; none for a predefined model.
    pub parameters: Vec<(String, Vec<f32>)>,
    /// Number of training steps; 0 if it is not known.
    pub steps: u64,
    /// Masks of the parameters with frozen elements.
    pub masks: Vec<(String, Mask)>,
    /// What a reader should know about the file.
    pub notes: Vec<String>,
    /// Names of the classes; none if the file does not have them.
    pub classes: Vec<String>,
    /// Normalization of the images, if the file says so.
    pub normalize: Option<Normalize>,
}

impl Network {
    /// A network without masks and notes.
    fn new(model: Model, parameters: Vec<(String, Vec<f32>)>, notes: Vec<String>) -> Self {
        let (masks, classes, normalize) = (Vec::new(), Vec::new(), None);
        Network { model, parameters, steps: 0, masks, notes, classes, normalize }
    }
}

/// The probabilities of the classes from the outputs of a model for one example: their softmax, unless the model has
/// one itself.
pub fn probabilities(model: &Model, outputs: &[f32]) -> Vec<f64> {
    let last = match model.outputs().first() {
        Some(Source::Layer(index)) => model.layers().get(*index).map(|named| named.layer()),
        _ => None,
    };
    let outputs = outputs.iter().map(|&output| f64::from(output));
    if matches!(last, Some(Layer::Softmax)) {
        return outputs.collect();
    }
    let largest = outputs.clone().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<_> = outputs.map(|output| (output - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|exponential| exponential / sum).collect()
}

impl NetworkArgs {
    /// Reads the file.
    pub fn load(&self) -> std::result::Result<Network, Failure> {
        let Some(name) = &self.model else {
            if self.size.is_some() || self.outputs.is_some() {
                return usage(Err(Error::InvalidArgument {
                    at: "--size and --outputs".to_owned(),
                    expected: "--model, the predefined model that they change".to_owned(),
                    got: "a file alone".to_owned(),
                }));
            }
            return Ok(load(&self.file, None)?);
        };
        Ok(load(&self.file, Some(usage(self.predefined(name))?))?)
    }

    /// The predefined model of this name, with the size of images and the number of outputs that are given.
    fn predefined(&self, name: &str) -> Result<Model> {
        let model = Model::named(name)?;
        if self.size.is_none() && self.outputs.is_none() {
            return Ok(model);
        }
        let size = self.size.map_or(model.example_shape().to_vec(), |size| size.to_vec());
        let outputs = self.outputs.or(model.output().last().copied()).unwrap_or(0);
        Model::named_for(name, &size, outputs)
    }

    /// Reads the file, or returns the predefined model of that name.
    pub fn load_or_named(&self) -> std::result::Result<Network, Failure> {
        let name = self.file.to_str().unwrap_or_default();
        if self.model.is_none() && Model::NAMES.contains(&name) {
            let model = usage(self.predefined(name))?;
            return Ok(Network::new(model, Vec::new(), Vec::new()));
        }
        self.load()
    }
}

/// Reads a network from a file; `named` is its model if the file does not name its architecture.
pub fn load(file: &Path, named: Option<Model>) -> Result<Network> {
    if file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")) {
        let read = read_onnx(file)?;
        return Ok(Network::new(read.model, read.parameters, read.notes));
    }
    let foreign = |why: String| Error::Checkpoint { path: file.to_owned(), why, source: None };
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let saved = match (&named, extension.to_ascii_lowercase().as_str()) {
        (Some(model), "keras" | "h5") => Some((model, KerasWeights::new(model).read(file))),
        (Some(model), "pth" | "pt") => Some((model, TorchStateDict::new(model)?.read(file))),
        (Some(model), "npz") => Some((model, read_weights(file, model))),
        (None, "keras" | "h5" | "pth" | "pt" | "npz") => return Err(foreign(without_architecture())),
        (Some(model), _) if !has_own_names(&Checkpoint::read(file)?, model) => {
            Some((model, TorchStateDict::new(model)?.read(file)))
        }
        (_, _) => None,
    };
    if let Some((model, weights)) = saved {
        let explained = |error: Error| match error {
            Error::Checkpoint { path, why, source } if why.contains("got [") => {
                let why = format!("{why}; --outputs and --size change the model that --model names");
                Error::Checkpoint { path, why, source }
            }
            other => other,
        };
        return complete(model, weights.map_err(explained)?, foreign);
    }
    let checkpoint = Checkpoint::read(file)?;
    let Some(model) = named.map_or_else(|| checkpoint.model(), |model| Ok(Some(model)))? else {
        return Err(foreign(without_architecture()));
    };
    let mut parameters = Vec::new();
    let mut masks = Vec::new();
    for parameter in model.parameters() {
        let tensor = checkpoint
            .tensor(&parameter.path)
            .filter(|tensor| tensor.dtype() == "f32" && tensor.shape() == parameter.shape.extents());
        let missing =
            || foreign(format!("expected a tensor {:?} {}, got none", parameter.path, parameter.shape));
        let bits = tensor.ok_or_else(missing)?.bits();
        parameters.push((parameter.path.clone(), bits.iter().map(|&bits| f32::from_bits(bits)).collect()));
        let mask = checkpoint.mask(&parameter.path);
        if mask.frozen_count() > 0 {
            masks.push((parameter.path.clone(), mask));
        }
    }
    let steps = checkpoint.notes().get("step").and_then(|step| step.parse().ok()).unwrap_or(0);
    let (classes, normalize) = (class_names(&checkpoint), normalization(&checkpoint));
    Ok(Network { steps, masks, classes, normalize, ..Network::new(model, parameters, Vec::new()) })
}

/// Whether a safetensors file has the names of this crate, not those of a PyTorch state dict.
fn has_own_names(file: &Checkpoint, model: &Model) -> bool {
    file.is_own() || model.parameters().iter().all(|parameter| file.tensor(&parameter.path).is_some())
}

fn without_architecture() -> String {
    format!(
        "expected a file that names its architecture, got one without; name the model with --model, one of {}",
        Model::NAMES.join(", ")
    )
}

/// Returns the network of a model with weights that another program saved.
fn complete(model: &Model, weights: Weights, foreign: impl Fn(String) -> Error) -> Result<Network> {
    if !weights.missing.is_empty() {
        return Err(foreign(format!(
            "expected the weights of --model, got none of {}",
            weights.missing.join(", ")
        )));
    }
    let notes = weights.unused.iter().map(|name| format!("unused: {name}")).collect();
    Ok(Network::new(model.clone(), weights.parameters, notes))
}
