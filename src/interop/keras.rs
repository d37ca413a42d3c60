//! Weights that Keras 3 saved.

use super::Weights;
use super::hdf5::{self, Dataset};
use crate::error::{Error, Result};
use crate::file::{self, zip::Archive};
use crate::model::{Model, NamedLayer};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Entry of a `.keras` archive that has the weights.
pub(super) const WEIGHTS: &str = "model.weights.h5";

/// The names that Keras 3 gives the parameters of a [`Model`] in `.weights.h5` and `.keras` files, to read weights
/// from them. Needs the feature `keras`.
///
/// Keras numbers the layers of each class in the model's order: `layers/conv2d`, `layers/conv2d_1`, `layers/dense`,
/// `layers/conv2d_transpose`, `layers/batch_normalization`. The layers of this model with such parameters get these names in the same order.
/// Those of other classes (`layers/depthwise_conv2d`), inside nested models (`layers/sequential/layers/dense`) and in
/// another order need [`KerasWeights::rename`].
///
/// | parameter | dataset |
/// |---|---|
/// | `conv.kernel`, `fc.kernel` | `vars/0`, the same layout; `[kh, kw, c_in, m]` of a depthwise convolution is `[kh, kw, 1, c_in * m]` |
/// | `conv.bias`, `fc.bias` | `vars/1` |
/// | `bn.scale`, `bn.shift`, `bn.running_mean`, `bn.running_var` | `vars/0` to `vars/3` |
///
/// Only parameters are in the file. Give batch norms the epsilon of Keras, 1e-3 by default, and to train on,
/// its momentum (`1 - 0.99`) and biased variance: `batch_norm_with(name, |n| n.epsilon(1e-3).momentum(0.01).biased(true))`.
///
/// ```no_run
/// use frazil::interop::KerasWeights;
/// use frazil::{Model, Padding::Same};
///
/// let model = Model::input([8, 8, 1])
///     .conv2d("stem", 16, [3, 3], |c| c.padding(Same))
///     .relu()
///     .batch_norm_with("norm", |n| n.epsilon(1e-3))
///     .flatten()
///     .dense("head", 10)
///     .build()?;
/// // Keras: net.save_weights("net.weights.h5"), or net.save("net.keras")
/// let weights = KerasWeights::new(&model).read("net.weights.h5")?;
/// assert!(weights.missing.is_empty() && weights.unused.is_empty());
/// // Trainer::set_parameters(&weights.parameters)
/// # Ok::<(), frazil::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KerasWeights {
    layers: Vec<Layer>,
}

/// A layer with parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layer {
    path: String,
    /// Keras's name of the class.
    class: &'static str,
    /// The name that a rule gives.
    group: Option<String>,
    /// Paths, numbers in `vars` and shapes.
    parameters: Vec<(String, usize, Vec<usize>)>,
}

impl KerasWeights {
    /// The names of the layers of a model in Keras's order.
    pub fn new(model: &Model) -> Self {
        let transposed =
            |layer: &&NamedLayer| matches!(layer.layer(), crate::layer::Layer::ConvTranspose2d(_));
        let transposed: BTreeSet<_> =
            model.layers().iter().filter(transposed).map(NamedLayer::name).collect();
        let mut layers: Vec<Layer> = Vec::new();
        for parameter in model.parameters() {
            let (path, field) = parameter.path.rsplit_once('.').unwrap_or(("", &parameter.path));
            let number = match field {
                "bias" | "shift" => 1,
                "running_mean" => 2,
                "running_var" => 3,
                _ => 0,
            };
            let shape = parameter.shape.extents().to_vec();
            let class = match (field, shape.len()) {
                ("kernel", 4) if transposed.contains(path) => "conv2d_transpose",
                ("kernel", 4) => "conv2d",
                ("kernel", _) => "dense",
                _ => "batch_normalization",
            };
            let parameter = (parameter.path.clone(), number, shape);
            match layers.iter_mut().find(|layer| layer.path == path) {
                Some(layer) => layer.parameters.push(parameter),
                None => {
                    layers.push(Layer {
                        path: path.to_owned(),
                        class,
                        group: None,
                        parameters: vec![parameter],
                    });
                }
            }
        }
        KerasWeights { layers }
    }

    /// Sets the group of a layer in the file, such as `layers/depthwise_conv2d`. The layer is then not counted among
    /// those that have names in Keras's order.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] if there is no such layer.
    pub fn rename(mut self, layer: &str, group: &str) -> Result<Self> {
        match self.layers.iter_mut().find(|candidate| candidate.path == layer) {
            Some(found) => found.group = Some(group.trim_matches('/').to_owned()),
            None => {
                return Err(Error::unknown_parameter(
                    layer,
                    self.layers.iter().map(|layer| layer.path.as_str()),
                ));
            }
        }
        Ok(self)
    }

    /// Leaves out these parameters, which then are neither read nor missing, for example those of a layer with other
    /// classes.
    pub fn without<P: AsRef<str>>(mut self, paths: &[P]) -> Self {
        for layer in &mut self.layers {
            layer.parameters.retain(|(path, ..)| paths.iter().all(|other| other.as_ref() != path));
        }
        self
    }

    /// Reads the parameters of the model from a `.weights.h5` or `.keras` file of Keras 3, from `float32`, `float16`
    /// or `float64` datasets. The state of an optimizer in the file is ignored.
    ///
    /// # Errors
    /// - [`Error::Io`], [`Error::HostMemory`] if the file cannot be read;
    /// - [`Error::Data`] if it is neither of these, damaged, or in a part of the HDF5 format that Keras does not use;
    /// - [`Error::Checkpoint`] if none of its datasets belongs to the model, a dataset has another shape than its
    ///   parameter, is not of floating-point numbers, or is stored in chunks, or a finite `float64` is infinite in
    ///   `f32`;
    /// - [`Error::InvalidArgument`] if two layers have the same group.
    pub fn read(&self, file: impl AsRef<Path>) -> Result<Weights> {
        let file = file.as_ref();
        let groups = self.groups()?;
        let mut bytes = file::read(file)?;
        let mut place = String::new();
        if bytes.starts_with(b"PK") {
            drop(bytes);
            bytes = Archive::open(file)?.read(WEIGHTS, u64::MAX)?;
            place = format!("entry {WEIGHTS:?}, ");
        }
        let mut datasets = hdf5::datasets(&bytes).map_err(|refused| Error::Data {
            path: file.to_owned(),
            place: format!("{place}byte {}", refused.byte),
            why: refused.why,
            source: None,
        })?;
        let mut read = Weights { parameters: Vec::new(), missing: Vec::new(), unused: Vec::new() };
        for (layer, group) in self.layers.iter().zip(&groups) {
            for (path, number, shape) in &layer.parameters {
                let name = format!("{group}/vars/{number}");
                let Some(dataset) = datasets.remove(&name) else {
                    read.missing.push(name);
                    continue;
                };
                let values = values(&bytes, &dataset, shape, |why| Error::Checkpoint {
                    path: file.to_owned(),
                    why: format!("dataset {name:?} for {path}: {why}"),
                    source: None,
                })?;
                read.parameters.push((path.clone(), values));
            }
        }
        let floats = datasets
            .into_iter()
            .filter(|(name, dataset)| dataset.float.is_some() && !name.starts_with("optimizer/"));
        read.unused = floats.map(|(name, _)| name).collect();
        if read.parameters.is_empty() {
            let advice =
                "save with Keras 3 as .weights.h5 or .keras, or name groups with KerasWeights::rename";
            return Err(read.nothing_found(file, advice));
        }
        Ok(read)
    }

    /// The group of each layer.
    fn groups(&self) -> Result<Vec<String>> {
        let (mut counts, mut taken) = (BTreeMap::new(), BTreeSet::new());
        let mut groups = Vec::new();
        for layer in &self.layers {
            let group = layer.group.clone().unwrap_or_else(|| {
                let count = counts.entry(layer.class).or_insert(0);
                *count += 1;
                match *count {
                    1 => format!("layers/{}", layer.class),
                    count => format!("layers/{}_{}", layer.class, count - 1),
                }
            });
            if !taken.insert(group.clone()) {
                let got = format!("{group:?} for {} and another", layer.path);
                return Err(Error::argument(
                    "KerasWeights::rename",
                    "a group of its own for each layer",
                    got,
                ));
            }
            groups.push(group);
        }
        Ok(groups)
    }
}

/// The elements of a dataset for a parameter of this shape.
fn values(
    bytes: &[u8],
    dataset: &Dataset,
    shape: &[usize],
    invalid: impl Fn(String) -> Error,
) -> Result<Vec<f32>> {
    let depthwise = match (shape, dataset.shape.as_slice()) {
        (&[kh, kw, 1, outputs], &[h, w, inputs, multiplier]) => {
            [kh, kw] == [h, w] && inputs.checked_mul(multiplier) == Some(outputs)
        }
        _ => false,
    };
    if dataset.shape != shape && !depthwise {
        return Err(invalid(format!("expected the shape {shape:?}, got {:?}", dataset.shape)));
    }
    let Some(float) = dataset.float else {
        return Err(invalid(
            "expected float32, float16 or float64, little-endian, got another type".to_owned(),
        ));
    };
    let range = dataset.data.clone().map_err(&invalid)?;
    float.to_f32(bytes.get(range).unwrap_or_default(), "the weights", invalid)
}
