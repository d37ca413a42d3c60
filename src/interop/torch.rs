//! PyTorch state dicts.

use super::state_dict::StateDict;
use super::weights::{Stored, Weights};
use crate::error::{Error, Result};
use crate::file;
use crate::floats::Float;
use crate::mask::Mask;
use crate::model::Model;
use crate::trainer::Trainer;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

/// The names and layouts that PyTorch's `state_dict` has for the parameters of a [`Model`], to read weights and
/// masks from safetensors files and files of `torch.save`, and to write them as safetensors files.
///
/// | parameter | entry of the state dict |
/// |---|---|
/// | `conv.kernel [kh, kw, c_in / groups, c_out]` | `conv.weight [c_out, c_in / groups, kh, kw]` |
/// | `up.kernel [kh, kw, c_out / groups, c_in]` of a transposed convolution | `up.weight [c_in, c_out / groups, kh, kw]` |
/// | `fc.kernel [in, out]` | `fc.weight [out, in]` |
/// | `norm.scale`, `norm.shift` of any norm | `norm.weight`, `norm.bias` |
/// | `norm.scale [h, w, c]` of a layer norm over examples | `norm.weight [c, h, w]` |
/// | `bn.running_mean`, `bn.running_var`, `conv.bias`, `fc.bias` | the same name |
///
/// PyTorch flattens images in the order channel, row, column, this crate in the order row, column, channel. The
/// weights of a dense layer after a flatten (and those of a batch norm between them) are reordered accordingly.
///
/// Layers may have the names of PyTorch's modules, such as `features.0` or `layer1.0.downsample.1`; for other
/// names, use [`TorchStateDict::rename`].
///
/// ```
/// use frazil::interop::TorchStateDict;
/// use frazil::{Gpu, GpuOptions, Loss, Model, Sgd, Trainer, TrainerOptions};
///
/// let gpu = Gpu::new(GpuOptions::default())?;
/// let trainer = || {
///     Trainer::new(&gpu, Model::digits()?, Loss::SoftmaxCrossEntropy, Sgd::new(0.1), TrainerOptions::batch(64))
/// };
/// let trained = trainer()?;
/// let file = std::env::temp_dir().join("frazil-state-dict.safetensors");
///
/// // In PyTorch: net.load_state_dict(safetensors.torch.load_file(file))
/// let names = TorchStateDict::new(trained.model())?.rename("conv1", "features.0")?;
/// names.write(&file, &trained)?;
///
/// // In PyTorch: safetensors.torch.save_file(net.state_dict(), file)
/// let weights = names.read(&file)?;
/// assert!(weights.missing.is_empty() && weights.unused.is_empty());
/// let mut copy = trainer()?;
/// copy.set_parameters(&weights.parameters)?;
/// assert_eq!(copy.parameter("conv1.kernel")?, trained.parameter("conv1.kernel")?);
/// # std::fs::remove_file(&file).unwrap();
/// # Ok::<(), frazil::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TorchStateDict {
    entries: Vec<Entry>,
}

/// A tensor in PyTorch's layout.
pub(super) struct TorchTensor<T> {
    /// Name in the state dict.
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<T>,
}

/// A parameter and its entry in the state dict.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    path: String,
    name: String,
    /// Shape in this crate's layout.
    shape: Vec<usize>,
    /// `[h, w, c]` of the flattened images whose elements are the features of the layer's input.
    images: Option<[usize; 3]>,
}

impl Entry {
    /// Shape in PyTorch's layout.
    fn torch_shape(&self) -> Vec<usize> {
        match *self.shape {
            [kh, kw, c_in, c_out] => vec![c_out, c_in, kh, kw],
            [inputs, outputs] => vec![outputs, inputs],
            [h, w, c] => vec![c, h, w],
            _ => self.shape.clone(),
        }
    }

    /// Index in PyTorch's layout of the element with this index.
    fn torch_index(&self, index: usize) -> usize {
        match *self.shape {
            [kh, kw, c_in, c_out] => {
                let (rest, co) = (index / c_out, index % c_out);
                let (tap, ci) = (rest / c_in, rest % c_in);
                (co * c_in + ci) * kh * kw + tap
            }
            [inputs, outputs] => index % outputs * inputs + self.torch_feature(index / outputs),
            [h, w, c] => index % c * h * w + index / c,
            _ => self.torch_feature(index),
        }
    }

    fn torch_feature(&self, index: usize) -> usize {
        match self.images {
            Some([h, w, c]) => index % c * h * w + index / c,
            None => index,
        }
    }

    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns elements in this crate's layout.
    fn import<T: Copy>(&self, torch: &[T]) -> Vec<T> {
        (0..self.elements()).map(|index| torch[self.torch_index(index)]).collect()
    }

    /// Returns elements in PyTorch's layout.
    fn export<T: Copy + Default>(&self, values: &[T]) -> Vec<T> {
        let mut torch = vec![T::default(); values.len()];
        for (index, &value) in values.iter().enumerate() {
            torch[self.torch_index(index)] = value;
        }
        torch
    }

    /// Checks the shape of a tensor of a file.
    fn check_shape(&self, file: &Path, stored: &Stored) -> Result<()> {
        let expected = self.torch_shape();
        if stored.shape == expected {
            return Ok(());
        }
        let (name, path, got) = (&self.name, &self.path, &stored.shape);
        Err(invalid(file, format!("tensor {name:?}: expected {expected:?} for {path}, got {got:?}")))
    }
}

impl TorchStateDict {
    /// The state dict of a model whose layers have the names of PyTorch's modules.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if a residual layer adds flattened images, whose order differs in PyTorch.
    pub fn new(model: &Model) -> Result<Self> {
        let flattened: HashMap<_, _> = model.flattened()?.into_iter().collect();
        let entries = model.parameters().iter().map(|parameter| {
            let (layer, field) = parameter.path.rsplit_once('.').unwrap_or(("", &parameter.path));
            // The bias of a dense layer belongs to its outputs.
            let images = flattened.get(layer).filter(|_| field != "bias").copied();
            Entry {
                path: parameter.path.clone(),
                name: format!("{layer}.{}", torch_field(field)),
                shape: parameter.shape.extents().to_vec(),
                images,
            }
        });
        Ok(TorchStateDict { entries: entries.collect() })
    }

    /// Sets the name of a module: entries of the layer `layer`, and of all layers inside a residual layer of that
    /// name, begin with `module` instead.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] if there is no such layer; [`Error::InvalidArgument`] if two entries would have
    /// the same name.
    pub fn rename(mut self, layer: &str, module: &str) -> Result<Self> {
        let mut renamed = false;
        for entry in &mut self.entries {
            let inside = entry.path.strip_prefix(layer).and_then(|rest| rest.strip_prefix('.'));
            let Some((inside, _)) = inside.map(|rest| rest.rsplit_once('.').unwrap_or(("", rest))) else {
                continue;
            };
            renamed = true;
            let field = entry.name.rsplit_once('.').map_or(entry.name.as_str(), |(_, field)| field);
            let modules = [module, inside, field];
            let name = modules.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
            entry.name = name;
        }
        if !renamed {
            let layers = self.entries.iter().filter_map(|entry| entry.path.rsplit_once('.'));
            return Err(Error::unknown_parameter(layer, layers.map(|(layer, _)| layer)));
        }
        let mut paths = BTreeMap::new();
        for entry in &self.entries {
            if let Some(other) = paths.insert(&entry.name, &entry.path) {
                let got = format!("{:?} for {other} and for {}", entry.name, entry.path);
                return Err(Error::argument("TorchStateDict::rename", "a unique name for each entry", got));
            }
        }
        Ok(self)
    }

    /// Leaves out the entries of these parameters, which then are neither read nor missing, for example those of a
    /// layer with other classes.
    pub fn without<P: AsRef<str>>(mut self, paths: &[P]) -> Self {
        self.entries.retain(|entry| paths.iter().all(|path| path.as_ref() != entry.path));
        self
    }

    /// Sets the shape `[c, h, w]` of the images that PyTorch flattens before a dense layer or batch norm; by
    /// default that of the model's flatten. `[features, 1, 1]` keeps the order of the features.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] if there is no such layer; [`Error::ShapeMismatch`] if the images have another
    /// number of elements than the layer has input features.
    pub fn flattened(mut self, layer: &str, [c, h, w]: [usize; 3]) -> Result<Self> {
        let own = |entry: &&mut Entry| {
            let (path, field) = entry.path.rsplit_once('.').unwrap_or(("", &entry.path));
            path == layer && field != "bias"
        };
        let mut found = false;
        for entry in self.entries.iter_mut().filter(own) {
            let features = entry.shape.first().copied().unwrap_or(0);
            if entry.shape.len() > 2 || c.checked_mul(h).and_then(|n| n.checked_mul(w)) != Some(features) {
                let expected = format!("[c, h, w] with {features} elements, for {:?}", entry.shape);
                return Err(Error::shape(
                    format!("TorchStateDict::flattened: {layer}"),
                    expected,
                    format!("{:?}", [c, h, w]),
                ));
            }
            entry.images = Some([h, w, c]);
            found = true;
        }
        if found {
            return Ok(self);
        }
        let layers = self.entries.iter().filter_map(|entry| entry.path.rsplit_once('.'));
        Err(Error::unknown_parameter(layer, layers.map(|(layer, _)| layer)))
    }

    /// Returns the path of each parameter with the name and the shape of its entry in the state dict, in the model's
    /// order.
    ///
    /// ```
    /// use frazil::{Model, interop::TorchStateDict};
    ///
    /// let names = TorchStateDict::new(&Model::resnet18()?)?;
    /// let (path, name, shape) = names.entries().next().unwrap();
    /// assert_eq!((path, name, shape), ("conv1.kernel", "conv1.weight", vec![64, 3, 7, 7]));
    /// # Ok::<(), frazil::Error>(())
    /// ```
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str, Vec<usize>)> {
        self.entries.iter().map(|entry| (entry.path.as_str(), entry.name.as_str(), entry.torch_shape()))
    }

    /// Reads the parameters of the model from a file of `torch.save` (`.pth`, `.pt`) or a safetensors file, from
    /// `F32`, `F16`, `BF16` or `F64` tensors. Tensors of integers, such as `num_batches_tracked`, are ignored; only
    /// the tensors of parameters are converted, and only they are read from a file of `torch.save`.
    ///
    /// Files of `torch.save` need the feature `pytorch`. They are read as data: names of functions and classes in
    /// them are never looked up or called, and only those that state dicts contain are accepted. A state dict
    /// inside a checkpoint, such as `{"epoch": 3, "state_dict": {...}}`, is found.
    ///
    /// # Errors
    /// - [`Error::Io`], [`Error::HostMemory`] if the file cannot be read;
    /// - [`Error::Data`] if a file of `torch.save` is damaged, contains other things than a state dict, or sizes
    ///   that its data cannot have;
    /// - [`Error::Checkpoint`] if it is not a file of these formats, none of its tensors belongs to the model, a
    ///   tensor has another shape than its parameter or is not of floating-point numbers, or a finite `F64` element
    ///   is infinite in `f32`.
    pub fn read(&self, file: impl AsRef<Path>) -> Result<Weights> {
        let file = file.as_ref();
        let dict = StateDict::open(file)?;
        let mut read = Weights { parameters: Vec::new(), missing: Vec::new(), unused: Vec::new() };
        for entry in &self.entries {
            let Some(stored) = dict.tensors.get(&entry.name) else {
                read.missing.push(entry.name.clone());
                continue;
            };
            entry.check_shape(file, stored)?;
            let at = |why: String| invalid(file, format!("tensor {:?}{why}", entry.name));
            let Some(float) = float(stored.dtype) else {
                return Err(at(format!(": expected F32, F16, BF16 or F64, got {:?}", stored.dtype)));
            };
            let data = dict.data(&entry.name)?;
            let values = float.to_f32(&data, file.display(), |why| at(format!(", {why}")))?;
            read.parameters.push((entry.path.clone(), entry.import(&values)));
        }
        let known: BTreeSet<_> = self.entries.iter().map(|entry| entry.name.as_str()).collect();
        let unused = dict
            .tensors
            .iter()
            .filter(|(name, stored)| float(stored.dtype).is_some() && !known.contains(name.as_str()));
        read.unused = unused.map(|(name, _)| name.clone()).collect();
        if read.parameters.is_empty() {
            let why = "name the layers like PyTorch's modules, or use TorchStateDict::rename";
            return Err(read.nothing_found(file, why));
        }
        Ok(read)
    }

    /// Reads masks (`true` or 1 = frozen) from a file of `BOOL` or `U8` tensors with the names and layouts of a
    /// state dict, in one of the formats of [`TorchStateDict::read`]. Returns paths and masks, in the model's
    /// order.
    ///
    /// # Errors
    /// As [`TorchStateDict::read`], and [`Error::Checkpoint`] for a tensor that no parameter has, or that contains
    /// other numbers than 0 and 1.
    pub fn read_masks(&self, file: impl AsRef<Path>) -> Result<Vec<(String, Mask)>> {
        let file = file.as_ref();
        let dict = StateDict::open(file)?;
        let mut unknown: BTreeSet<_> = dict.tensors.keys().map(String::as_str).collect();
        let mut masks = Vec::new();
        for entry in &self.entries {
            let name = &entry.name;
            let Some(stored) = dict.tensors.get(name) else { continue };
            unknown.remove(name.as_str());
            entry.check_shape(file, stored)?;
            if !matches!(stored.dtype, Dtype::BOOL | Dtype::U8) {
                let got = stored.dtype;
                return Err(invalid(file, format!("mask {name:?}: expected BOOL or U8, got {got:?}")));
            }
            let data = dict.data(name)?;
            if let Some(other) = data.iter().find(|byte| **byte > 1) {
                return Err(invalid(file, format!("mask {name:?}: expected 0 or 1, got {other}")));
            }
            let frozen = entry.import(&data).into_iter().map(|byte| byte == 1);
            masks.push((entry.path.clone(), Mask::from_frozen(frozen)));
        }
        match unknown.first() {
            None => Ok(masks),
            Some(name) => {
                let why = format!(
                    "mask {name:?}: expected the name of a parameter's entry in the state dict, got another"
                );
                Err(invalid(file, why))
            }
        }
    }

    /// Writes the parameters of a trainer of the same model to a safetensors file, as
    /// [`TorchStateDict::write_parameters`] does.
    ///
    /// # Errors
    /// As [`TorchStateDict::write_parameters`]; [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn write(&self, file: impl AsRef<Path>, trainer: &Trainer) -> Result<()> {
        self.write_parameters(file, &trainer.parameters()?, trainer.steps())
    }

    /// Writes parameters, given as paths and values, to a safetensors file, as `F32` tensors. Each batch norm also
    /// gets `num_batches_tracked`, the number of steps, so that PyTorch's `load_state_dict` finds all keys. The file
    /// is replaced atomically.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::ShapeMismatch`] and [`Error::InvalidArgument`] if the values are not
    /// those of all parameters of the model; [`Error::Io`].
    pub fn write_parameters<P: AsRef<str>>(
        &self,
        file: impl AsRef<Path>,
        parameters: &[(P, Vec<f32>)],
        steps: u64,
    ) -> Result<()> {
        let mut tensors = Vec::new();
        for TorchTensor { name, shape, values } in self.export(parameters)? {
            if let Some(module) = name.strip_suffix("running_mean") {
                let counter = format!("{module}num_batches_tracked");
                tensors.push((counter, Dtype::I64, Vec::new(), steps.to_le_bytes().to_vec()));
            }
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.push((name, Dtype::F32, shape, bytes));
        }
        write(file.as_ref(), &tensors)
    }

    /// Writes masks, given as paths and masks as from [`Trainer::masks`], to a safetensors file, as `BOOL` tensors
    /// (`true` = frozen) with the names and layouts of the state dict.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`], [`Error::ShapeMismatch`]; [`Error::Io`].
    pub fn write_masks(&self, file: impl AsRef<Path>, masks: &[(String, Mask)]) -> Result<()> {
        let tensor = |mask: TorchTensor<u8>| (mask.name, Dtype::BOOL, mask.shape, mask.values);
        let tensors: Vec<_> = self.export_masks(masks)?.into_iter().map(tensor).collect();
        write(file.as_ref(), &tensors)
    }
}

impl TorchStateDict {
    /// Returns the name in the state dict by the path of the parameter.
    pub(super) fn fields(&self) -> HashMap<String, String> {
        self.entries.iter().map(|entry| (entry.path.clone(), entry.name.clone())).collect()
    }

    /// Returns paths and values of all parameters, from tensors in PyTorch's layout.
    pub(super) fn import(
        &self,
        tensors: &[TorchTensor<f32>],
    ) -> std::result::Result<Vec<(String, Vec<f32>)>, String> {
        let tensors: HashMap<_, _> = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        let parameter = |entry: &Entry| match tensors.get(entry.name.as_str()) {
            Some(tensor) if tensor.shape == entry.torch_shape() => {
                Ok((entry.path.clone(), entry.import(&tensor.values)))
            }
            found => {
                let got = found.map(|tensor| &tensor.shape);
                Err(format!("{}: expected a tensor {:?}, got {got:?}", entry.name, entry.torch_shape()))
            }
        };
        self.entries.iter().map(parameter).collect()
    }

    /// Returns names, shapes and values of all parameters in PyTorch's layout.
    pub(super) fn export<P: AsRef<str>>(
        &self,
        parameters: &[(P, Vec<f32>)],
    ) -> Result<Vec<TorchTensor<f32>>> {
        self.check_paths(parameters.iter().map(|(path, values)| (path.as_ref(), values.len())))?;
        let values: HashMap<_, _> = parameters.iter().map(|(path, values)| (path.as_ref(), values)).collect();
        let tensor = |entry: &Entry| match values.get(entry.path.as_str()) {
            Some(values) => Ok(TorchTensor {
                name: entry.name.clone(),
                shape: entry.torch_shape(),
                values: entry.export(values),
            }),
            None => Err(Error::argument(&entry.path, "values of every parameter of the model", "none")),
        };
        self.entries.iter().map(tensor).collect()
    }

    /// Returns names, shapes and bytes (1 = frozen) of masks in PyTorch's layout, in the order of the parameters.
    pub(super) fn export_masks(&self, masks: &[(String, Mask)]) -> Result<Vec<TorchTensor<u8>>> {
        self.check_paths(masks.iter().map(|(path, mask)| (path.as_str(), mask.len())))?;
        let masks: HashMap<_, _> = masks.iter().map(|(path, mask)| (path.as_str(), mask)).collect();
        let tensor = |entry: &Entry| {
            let mask = masks.get(entry.path.as_str())?;
            let frozen: Vec<_> = (0..mask.len()).map(|index| u8::from(mask.is_frozen(index))).collect();
            Some(TorchTensor {
                name: entry.name.clone(),
                shape: entry.torch_shape(),
                values: entry.export(&frozen),
            })
        };
        Ok(self.entries.iter().filter_map(tensor).collect())
    }

    /// Checks that paths are those of parameters, and their numbers of elements.
    fn check_paths<'p>(&self, mut given: impl Iterator<Item = (&'p str, usize)>) -> Result<()> {
        given.try_for_each(|(path, elements)| match self.entries.iter().find(|entry| entry.path == path) {
            Some(entry) => entry.check_elements(elements),
            None => Err(Error::unknown_parameter(path, self.entries.iter().map(|entry| entry.path.as_str()))),
        })
    }
}

impl Entry {
    /// Checks the number of elements of a parameter or mask.
    fn check_elements(&self, elements: usize) -> Result<()> {
        if elements == self.elements() {
            return Ok(());
        }
        Err(Error::shape(&self.path, format!("{} elements, as in the model", self.elements()), elements))
    }
}

fn torch_field(field: &str) -> &str {
    match field {
        "kernel" | "scale" => "weight",
        "shift" => "bias",
        other => other,
    }
}

fn invalid(path: &Path, why: String) -> Error {
    Error::Checkpoint { path: path.to_owned(), why, source: None }
}

fn float(dtype: Dtype) -> Option<Float> {
    match dtype {
        Dtype::F32 => Some(Float::F32),
        Dtype::F16 => Some(Float::F16),
        Dtype::BF16 => Some(Float::BF16),
        Dtype::F64 => Some(Float::F64),
        _ => None,
    }
}

/// Writes a safetensors file in PyTorch's format.
fn write(path: &Path, tensors: &[(String, Dtype, Vec<usize>, Vec<u8>)]) -> Result<()> {
    let refused = |error: SafeTensorError| Error::Checkpoint {
        path: path.to_owned(),
        why: error.to_string(),
        source: Some(error.into()),
    };
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?))
    });
    let views = views.collect::<std::result::Result<Vec<_>, SafeTensorError>>().map_err(refused)?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(refused)?;
    file::write_atomically(path, &bytes)
}
