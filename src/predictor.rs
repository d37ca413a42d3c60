//! Inference without the memory of training.

use crate::checkpoint::Checkpoint;
use crate::compiler::{PlanOptions, PlanReport};
use crate::engine::{Examples, Plan, Store};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::ValueId;
use crate::model::{InferenceGraph, Model};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A compiled model with its parameters, for predictions alone: it has no gradients, optimizer state and loss.
///
/// ```
/// use frazil::{Gpu, GpuOptions, Loss, Model, Predictor, Sgd, Trainer, TrainerOptions};
///
/// let gpu = Gpu::new(GpuOptions::default())?;
/// let model = Model::digits()?;
/// let trainer = Trainer::new(
///     &gpu, model.clone(), Loss::SoftmaxCrossEntropy, Sgd::new(0.1), TrainerOptions::batch(64),
/// )?;
/// let file = std::env::temp_dir().join("frazil-predictor.safetensors");
/// trainer.save(&file)?;
///
/// let predictor = Predictor::load(&gpu, model, &file, 16)?;
/// let images = vec![0.5; 3 * 64];
/// assert_eq!(predictor.predict(&images)?, trainer.predict(&images)?);
/// # std::fs::remove_file(&file).unwrap();
/// # Ok::<(), frazil::Error>(())
/// ```
pub struct Predictor {
    gpu: Gpu,
    model: Model,
    batch: usize,
    /// Locked from the write of the inputs to the read of the outputs.
    plan: Mutex<Plan>,
    report: PlanReport,
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
}

impl Predictor {
    /// Compiles a model for batches of up to `batch` examples, with the values of all parameters by path, as
    /// from [`TorchStateDict::read`](crate::interop::TorchStateDict::read).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if a parameter has no values, [`Error::UnknownParameter`] and
    /// [`Error::ShapeMismatch`] for values that fit none; [`Error::EmptyBatch`] for a batch of 0;
    /// [`Error::LimitExceeded`] before anything is created, [`Error::OutOfMemory`], [`Error::DeviceLost`].
    pub fn new<P: AsRef<str>>(
        gpu: &Gpu,
        model: Model,
        parameters: &[(P, Vec<f32>)],
        batch: usize,
    ) -> Result<Self> {
        for (path, values) in parameters {
            let path = path.as_ref();
            let Some(parameter) = model.parameters().iter().find(|p| p.path == path) else {
                return Err(Error::unknown_parameter(
                    path,
                    model.parameters().iter().map(|p| p.path.as_str()),
                ));
            };
            if values.len() != parameter.shape.elements() {
                let expected = format!("{} elements", parameter.shape.elements());
                return Err(Error::shape(path, expected, values.len()));
            }
        }
        let values = |path: &str| {
            let found = parameters.iter().find(|(given, _)| given.as_ref() == path);
            let none = || {
                Error::argument(
                    "Predictor::new",
                    "values of every parameter of the model, with running statistics",
                    format!("none of {path}"),
                )
            };
            found.map(|(_, values)| bytemuck::cast_slice(values).to_vec()).ok_or_else(none)
        };
        let bits = model.parameters().iter().map(|p| values(&p.path)).collect::<Result<Vec<_>>>()?;
        Self::with_bits(gpu, model, &bits, batch)
    }

    /// Compiles a model for batches of up to `batch` examples, with the parameters of a safetensors file with this
    /// crate's paths and layouts, such as a checkpoint.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::HostMemory`]; [`Error::Checkpoint`] if the file is damaged, lacks a parameter or
    /// has it in another shape; and as [`Predictor::new`].
    pub fn load(gpu: &Gpu, model: Model, file: impl AsRef<Path>, batch: usize) -> Result<Self> {
        let file = file.as_ref();
        let checkpoint = Checkpoint::read(file)?;
        let bits = model.parameters().iter().map(|parameter| {
            let tensor = checkpoint.typed(&parameter.path, "f32", parameter.shape.extents());
            let tensor =
                tensor.map_err(|why| Error::Checkpoint { path: file.to_owned(), why, source: None })?;
            Ok(tensor.bits().to_vec())
        });
        let bits = bits.collect::<Result<Vec<_>>>()?;
        Self::with_bits(gpu, model, &bits, batch)
    }

    /// Compiles a model with the bits of all parameters, in order.
    fn with_bits(gpu: &Gpu, model: Model, bits: &[Vec<u32>], batch: usize) -> Result<Self> {
        let InferenceGraph { graph, inputs, outputs } = model.inference_graph(batch)?;
        let options = PlanOptions::default();
        let report = Plan::estimate(&graph, gpu.report(), &options)?;
        gpu.check_budget("the predictor", report.bytes())?;
        let store = Store::new(gpu, &graph)?;
        for (parameter, bits) in model.parameters().iter().zip(bits) {
            store.write_weights(store.find(&parameter.path)?, bits)?;
        }
        let plan = Plan::compile_with(gpu, &graph, &store, &options)?;
        let plan = Mutex::new(plan);
        Ok(Predictor { gpu: gpu.clone(), model, batch, plan, report, inputs, outputs })
    }

    /// Returns the model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the buffers and dispatches of a batch.
    pub fn report(&self) -> &PlanReport {
        &self.report
    }

    /// Computes the output of a model with one input and one output, `[rows, ..output]`, row-major, for `features`,
    /// `[rows, ..example_shape]`, with any number of rows. Waits for the device.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a model with several inputs or outputs; [`Error::ShapeMismatch`] if the number
    /// of features is not a multiple of that of one example; [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn predict(&self, features: &[f32]) -> Result<Vec<f32>> {
        let (&[input], [_]) = (self.inputs.as_slice(), self.outputs.as_slice()) else {
            let got = format!("{} inputs and {} outputs", self.inputs.len(), self.outputs.len());
            let expected = "a model with one input and one output; use Predictor::predict_named";
            return Err(Error::argument("Predictor::predict", expected, got));
        };
        Ok(self.run(&[Examples { name: "predict", value: input, elements: features }])?.concat())
    }

    /// Computes all outputs of a model for its inputs, given by name as `[rows, ..example]`, row-major, with any
    /// number of rows, the same in all of them. Returns each output, `[rows, ..output]`, with the name of its layer, in
    /// the order of [`Model::outputs`]. Waits for the device.
    ///
    /// ```
    /// use frazil::{Gpu, GpuOptions, Model, Predictor};
    ///
    /// let left = Model::named_input("left", [2]);
    /// let sum = left.clone().add("sum", [Model::named_input("right", [2])]);
    /// let model = Model::with_outputs([sum, left.clone().mul("square", left)])?;
    /// let gpu = Gpu::new(GpuOptions::default())?;
    /// let none: [(&str, Vec<f32>); 0] = [];
    /// let predictor = Predictor::new(&gpu, model, &none, 8)?;
    /// let outputs = predictor.predict_named(&[("right", &[10.0, 20.0]), ("left", &[3.0, 4.0])])?;
    /// assert_eq!(outputs, [("sum".to_owned(), vec![13.0, 24.0]), ("square".to_owned(), vec![9.0, 16.0])]);
    /// # Ok::<(), frazil::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless each input of the model is given once; [`Error::ShapeMismatch`] if the
    /// number of features is not a multiple of that of one example, or the inputs have different numbers of rows;
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn predict_named(&self, inputs: &[(&str, &[f32])]) -> Result<Vec<(String, Vec<f32>)>> {
        let names: Vec<_> = self.model.inputs().iter().map(|(name, _)| name.as_str()).collect();
        let mut examples = Vec::new();
        for (&name, &value) in names.iter().zip(&self.inputs) {
            let given = inputs.iter().find(|(given, _)| *given == name);
            examples.extend(given.map(|&(_, elements)| Examples { name, value, elements }));
        }
        if examples.len() != names.len() || inputs.len() != names.len() {
            let given: Vec<_> = inputs.iter().map(|(name, _)| *name).collect();
            let expected = format!("each of the inputs {} once", names.join(", "));
            return Err(Error::argument("Predictor::predict_named", expected, given.join(", ")));
        }
        let outputs = self.model.outputs().iter().map(|&source| self.model.name(source).unwrap_or_default());
        Ok(outputs.map(str::to_owned).zip(self.run(&examples)?).collect())
    }

    fn run(&self, inputs: &[Examples]) -> Result<Vec<Vec<f32>>> {
        // A plan whose user panicked is valid: every run writes its inputs.
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        plan.predict(inputs, &self.outputs)
    }
}

impl std::fmt::Debug for Predictor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Predictor")
            .field("gpu", &self.gpu)
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}
