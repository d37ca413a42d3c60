//! Networks that are named on the command line: predefined models, and files of several formats.

use super::data::{class_names, normalization};
use super::{Failure, usage};
use clap::Args;
use frazil::checkpoint::Checkpoint;
use frazil::data::Normalize;
use frazil::interop::{KerasWeights, TorchStateDict, Weights, read_onnx};
use frazil::layer::Layer;
use frazil::model::Source;
use frazil::{Error, Mask, Model, Result};
use std::path::{Path, PathBuf};

/// Arguments that name a network.
#[derive(Args)]
pub struct NetworkArgs {
    /// File: a checkpoint of `frazil train`, an ONNX file (.onnx), or with --model a PyTorch state dict
    /// (.safetensors, .pth, .pt) or Keras weights (.keras, .weights.h5).
    file: PathBuf,
    /// Predefined model whose weights FILE has, if it does not name its architecture.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
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
        let named = self.model.as_deref().map(Model::named).transpose();
        Ok(load(&self.file, usage(named)?)?)
    }

    /// Reads the file, or returns the predefined model of that name.
    pub fn load_or_named(&self) -> std::result::Result<Network, Failure> {
        let name = self.file.to_str().unwrap_or_default();
        if self.model.is_none() && Model::NAMES.contains(&name) {
            let model = Model::named(name)?;
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
    match (&named, extension) {
        (Some(model), "keras" | "h5") => {
            return complete(model, KerasWeights::new(model).read(file)?, foreign);
        }
        (Some(model), "pth" | "pt") => {
            return complete(model, TorchStateDict::new(model)?.read(file)?, foreign);
        }
        (None, "keras" | "h5" | "pth" | "pt") => return Err(foreign(without_architecture())),
        (Some(model), _) => {
            // A checkpoint has this crate's names, a state dict PyTorch's.
            if let Ok(weights) = TorchStateDict::new(model)?.read(file)
                && weights.missing.is_empty()
            {
                return complete(model, weights, foreign);
            }
        }
        (None, _) => {}
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
