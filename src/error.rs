//! Every way in which things go wrong, one variant each.

use std::path::PathBuf;

/// What this crate's functions return.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong. Each message says where, what was expected, what came, and what to try.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No adapter fits the request.
    #[error("no GPU adapter for {wanted}; found: {}. {hint}", list(found))]
    NoAdapter {
        /// What was asked for, in words.
        wanted: String,
        /// The adapters that do exist, `index: name (backend)`.
        found: Vec<String>,
        /// What to try on this system.
        hint: String,
    },
    /// The adapter exists, but it gives no device.
    #[error("adapter {adapter} gave no device: {reason}; try another with --adapter or GpuOptions::adapter")]
    AdapterRejected {
        /// The adapter's name.
        adapter: String,
        /// What the driver said.
        reason: String,
    },
    /// A size is over what the device (or the byte budget) allows. Nothing was created.
    #[error("{what} needs {needed}, but {available} is available; use a smaller batch or smaller tensors")]
    LimitExceeded {
        /// The limit, and what meets it.
        what: String,
        /// What would be needed.
        needed: u64,
        /// What there is.
        available: u64,
    },
    /// Shapes do not fit together.
    #[error("{at}: expected {expected}, got {got}")]
    ShapeMismatch {
        /// The layer, operation or argument.
        at: String,
        /// The shape (or the rule) expected.
        expected: String,
        /// The shape that came.
        got: String,
    },
    /// A path or glob names no parameter.
    #[error("no parameter matches {path:?}; the nearest are: {}", list(similar))]
    UnknownParameter {
        /// The path or glob as given.
        path: String,
        /// Paths that do exist, most alike first.
        similar: Vec<String>,
    },
    /// A mask has another number of elements than its tensor.
    #[error("mask for {path}: expected {expected} elements, got {got}")]
    MaskMismatch {
        /// The parameter's path.
        path: String,
        /// Elements of the tensor.
        expected: usize,
        /// Elements of the mask.
        got: usize,
    },
    /// The device has no memory left for this.
    #[error("out of device memory at {label} ({bytes} bytes); use a smaller batch")]
    OutOfMemory {
        /// What was being made.
        label: String,
        /// Bytes asked for (0 where the driver does not say).
        bytes: u64,
    },
    /// The device is gone; make a new `Gpu`.
    #[error("the device was lost: {reason}; make a new Gpu and resume from the last checkpoint")]
    DeviceLost {
        /// What the driver said.
        reason: String,
    },
    /// The device did not finish in time. The work may still finish later.
    #[error("{what} did not finish in {limit:?}; raise GpuOptions::timeout or use smaller steps")]
    Timeout {
        /// What was waited for.
        what: String,
        /// The limit.
        limit: std::time::Duration,
    },
    /// The driver layer refused something; a defect of this crate or of a driver.
    #[error(
        "{kernel}: refused by validation: {message}; please report this with the output of `frazil devices`"
    )]
    Validation {
        /// The kernel or resource.
        kernel: String,
        /// What wgpu said.
        message: String,
    },
    /// The loss became NaN or infinite. No update was made from that step on: the last good weights are kept.
    #[error(
        "the loss became NaN or infinite at step {step}; weights are those from before it. Lower the learning rate, or look at the data"
    )]
    NonFiniteLoss {
        /// The first such step, counted from 0.
        step: u64,
    },
    /// An option or argument has a value outside its range.
    #[error("{at}: expected {expected}, got {got}")]
    InvalidArgument {
        /// The option or argument.
        at: String,
        /// The range.
        expected: String,
        /// The value.
        got: String,
    },
    /// A batch without examples.
    #[error("{at}: a batch needs at least one example, got none")]
    EmptyBatch {
        /// The call.
        at: String,
    },
    /// A class label that the model has no output for.
    #[error("label {label} in row {row}: expected less than {classes} (the model's classes)")]
    LabelOutOfRange {
        /// The row of the batch.
        row: usize,
        /// The label.
        label: u32,
        /// The number of classes.
        classes: usize,
    },
    /// The loss does not depend on a value whose gradient was asked for. The graph is as it was.
    #[error(
        "{value} has no gradient: {loss} does not depend on it, or only through operands without a derivative"
    )]
    NoGradient {
        /// The value.
        value: String,
        /// The loss.
        loss: String,
    },
    /// A gradient would pass through an operation that has no adjoint. The graph is as it was.
    #[error("{label}: no gradient passes through {op}: {why}")]
    NoAdjoint {
        /// The operation's label.
        label: String,
        /// Its name.
        op: &'static str,
        /// What is missing.
        why: &'static str,
    },
    /// `gradient(path)` without `keep_gradients`.
    #[error(
        "the gradient of {path} is not kept; set TrainerOptions::keep_gradients(true) and make a step first"
    )]
    GradientNotKept {
        /// The parameter's path.
        path: String,
    },
    /// A data file or data set is not what it should be.
    #[error("{}: {place}: {why}", path.display())]
    Data {
        /// The file, or the name of an embedded set.
        path: PathBuf,
        /// `line 12`, `byte 4`, ...
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// A checkpoint cannot be written or read. The trainer is as it was.
    #[error("checkpoint {}: {why}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The operating system refused a file operation.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn shape(
        at: impl Into<String>,
        expected: impl Into<String>,
        got: impl std::fmt::Display,
    ) -> Self {
        Error::ShapeMismatch { at: at.into(), expected: expected.into(), got: got.to_string() }
    }

    pub(crate) fn argument(
        at: impl Into<String>,
        expected: impl Into<String>,
        got: impl std::fmt::Display,
    ) -> Self {
        Error::InvalidArgument { at: at.into(), expected: expected.into(), got: got.to_string() }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
