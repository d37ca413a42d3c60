//! Inference without the memory of training.

use crate::checkpoint::Checkpoint;
use crate::compiler::{PlanOptions, PlanReport};
use crate::engine::{Plan, Store};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::{StepScalars, ValueId};
use crate::model::Model;
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
    input: ValueId,
    output: ValueId,
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
        let graph = model.features_graph(model.layers().len(), batch)?;
        let options = PlanOptions::default();
        let report = Plan::estimate(&graph.graph, gpu.report(), &options)?;
        gpu.check_budget("the predictor", report.bytes())?;
        let store = Store::new(gpu, &graph.graph)?;
        for (parameter, bits) in model.parameters().iter().zip(bits) {
            store.write_weights(store.find(&parameter.path)?, bits)?;
        }
        let plan = Plan::compile_with(gpu, &graph.graph, &store, &options)?;
        Ok(Predictor {
            gpu: gpu.clone(),
            model,
            batch,
            plan: Mutex::new(plan),
            report,
            input: graph.input,
            output: graph.features,
        })
    }

    /// Returns the model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the buffers and dispatches of a batch.
    pub fn report(&self) -> &PlanReport {
        &self.report
    }

    /// Computes the outputs of the model, `[rows, ..output]`, row-major, for `features`,
    /// `[rows, ..example_shape]`, with any number of rows. Waits for the device.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the number of features is not a multiple of that of one example;
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn predict(&self, features: &[f32]) -> Result<Vec<f32>> {
        let row: usize = self.model.example_shape().iter().product();
        let output: usize = self.model.output().iter().product();
        if !features.len().is_multiple_of(row) {
            let expected = format!("rows of {row} features, {:?}", self.model.example_shape());
            return Err(Error::shape("predict", expected, format!("{} features", features.len())));
        }
        // A plan whose user panicked is valid: every run writes its inputs.
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outputs = Vec::with_capacity(features.len() / row * output);
        for part in features.chunks(self.batch * row) {
            let rows = part.len() / row;
            plan.write_f32(self.input, part)?;
            plan.run(StepScalars::forward(rows))?;
            outputs.extend_from_slice(&plan.read_f32(self.output)?[..rows * output]);
        }
        Ok(outputs)
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
