//! The error type of the crate.

use std::path::PathBuf;
use wildmatch::WildMatch;

/// A `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// The error of a dependency that caused an [`Error`], as returned by [`std::error::Error::source`].
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Any error of this crate. Each message names the place, what was expected, what was found, and what to try.
///
/// Messages include the text of their [source](std::error::Error::source), so that printing the error alone
/// is enough.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No adapter matches the request.
    #[error("no GPU adapter for {wanted}; found: {}. {hint}", list(found))]
    NoAdapter {
        /// Description of the request.
        wanted: String,
        /// The adapters of the system, `index: name (backend)`.
        found: Vec<String>,
        /// What to try on this system.
        hint: String,
    },
    /// The driver refused to create a device on an adapter.
    #[error(
        "adapter {adapter}: cannot create a device: {reason}; select another adapter with --adapter or GpuOptions::adapter"
    )]
    AdapterRejected {
        /// Name of the adapter.
        adapter: String,
        /// Cause, as reported by the driver.
        reason: String,
    },
    /// A size exceeds a device limit or the memory budget. Nothing is allocated.
    #[error("{what} needs {needed} bytes, but {available} bytes are available; {advice}")]
    LimitExceeded {
        /// The limit and the resource that exceeds it.
        what: String,
        /// Required bytes.
        needed: u64,
        /// Available bytes.
        available: u64,
        /// What to try.
        advice: String,
    },
    /// The host has not enough memory for the content of a file or for an argument. Nothing was changed.
    #[error("{what}: {bytes} bytes of host memory are not available; free some memory, or use less data")]
    HostMemory {
        /// The file or the argument.
        what: String,
        /// Required bytes.
        bytes: u64,
    },
    /// A shape does not match.
    #[error("{at}: expected {expected}, got {got}")]
    ShapeMismatch {
        /// The layer, operation or argument.
        at: String,
        /// Expected shape, or a rule for it.
        expected: String,
        /// Actual shape.
        got: String,
    },
    /// A path or glob matches no parameter.
    #[error("no parameter matches {path:?}; similar paths: {}", list(similar))]
    UnknownParameter {
        /// The given path or glob.
        path: String,
        /// Existing paths, most similar first.
        similar: Vec<String>,
    },
    /// A mask and its tensor differ in their number of elements.
    #[error("mask for {path}: expected {expected} elements, got {got}")]
    MaskMismatch {
        /// Path of the parameter.
        path: String,
        /// Elements of the tensor.
        expected: usize,
        /// Elements of the mask.
        got: usize,
    },
    /// The device is out of memory.
    #[error(
        "out of device memory at {label} ({bytes} bytes); close other programs that use the device, or use a smaller batch or model"
    )]
    OutOfMemory {
        /// Label of the resource.
        label: String,
        /// Requested bytes; 0 if the driver does not report them.
        bytes: u64,
    },
    /// The device is lost. Create a new [`Gpu`](crate::Gpu).
    #[error("the device was lost: {reason}; create a new Gpu and resume from the last checkpoint")]
    DeviceLost {
        /// Cause, as reported by the driver.
        reason: String,
    },
    /// The device did not finish within the timeout. The work may still finish later.
    #[error(
        "{what} did not finish within {limit:?}; raise GpuOptions::timeout, or use a smaller batch or model"
    )]
    Timeout {
        /// The operation that timed out.
        what: String,
        /// The timeout.
        limit: std::time::Duration,
    },
    /// wgpu's validation rejected an operation, or a check of a kernel's output failed. A defect of this
    /// crate or of the driver.
    #[error("{kernel}: validation failed: {message}; please report this with the output of `frazil devices`")]
    Validation {
        /// The kernel or resource.
        kernel: String,
        /// Description of the failure.
        message: String,
        /// Cause, if reported by wgpu.
        source: Option<Source>,
    },
    /// The loss became NaN or infinite. Updates are skipped from that step on, so the last valid weights are
    /// kept.
    #[error(
        "the loss became NaN or infinite at step {step}; the weights are those before that step. Lower the learning rate or check the data"
    )]
    NonFiniteLoss {
        /// Index of the first such step, from 0.
        step: u64,
    },
    /// The update of a parameter gave a weight or an optimizer state that is NaN or infinite. The elements with
    /// such a result keep their weight and state; all others are updated by that step, and no later step
    /// updates anything.
    #[error(
        "the update of {path} at step {step} is NaN or infinite in some elements, which keep their values; training stops after that step. Lower the learning rate, clip the gradients, or resume from an earlier checkpoint"
    )]
    NonFiniteUpdate {
        /// Index of that step, from 0.
        step: u64,
        /// Path of the first parameter with such a result.
        path: String,
    },
    /// An option or argument is outside its valid range.
    #[error("{at}: expected {expected}, got {got}")]
    InvalidArgument {
        /// The option or argument.
        at: String,
        /// The valid range.
        expected: String,
        /// The actual value.
        got: String,
    },
    /// A batch has no examples.
    #[error("{at}: expected a batch of 1 example or more, got none")]
    EmptyBatch {
        /// The call.
        at: String,
    },
    /// A process that trains the same model, with others, cannot go on, or has something else than the others.
    #[error("rank {rank}: {why}")]
    Ranks {
        /// The process, from 0.
        rank: usize,
        /// What happened, and what to try.
        why: String,
    },
    /// A class label is not below the number of classes.
    #[error("row {row}: expected a label below {classes} (the number of classes), got label {label}")]
    LabelOutOfRange {
        /// Row in the batch.
        row: usize,
        /// The label.
        label: u32,
        /// Number of classes of the model.
        classes: usize,
    },
    /// The loss does not depend on a value whose gradient is requested. The graph is unchanged.
    #[error(
        "{value} has no gradient: {loss} does not depend on it, or only through operands without a derivative"
    )]
    NoGradient {
        /// Name of the value.
        value: String,
        /// Name of the loss.
        loss: String,
    },
    /// A gradient would pass through an operation without an implemented adjoint. The graph is unchanged.
    #[error("{label}: cannot differentiate {op}: {why}")]
    NoAdjoint {
        /// Label of the operation.
        label: String,
        /// Name of the operation.
        op: &'static str,
        /// What is missing.
        why: &'static str,
    },
    /// A gradient is read without `TrainerOptions::keep_gradients`, or before the first step.
    #[error(
        "the gradient of {path} is not available; set TrainerOptions::keep_gradients(true) and run a step first"
    )]
    GradientNotKept {
        /// Path of the parameter.
        path: String,
    },
    /// A data file or data set is invalid.
    #[error("{}: {place}: {why}", path.display())]
    Data {
        /// The file, or the name of an embedded data set.
        path: PathBuf,
        /// Position in the file: `line 12`, `byte 4`, ...
        place: String,
        /// What is invalid.
        why: String,
        /// Cause, if reported by a decoder.
        source: Option<Source>,
    },
    /// A checkpoint cannot be written or read. The trainer is unchanged.
    #[error("checkpoint {}: {}", path.display(), printable(why))]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is invalid.
        why: String,
        /// Cause, if reported by the safetensors library.
        source: Option<Source>,
    },
    /// The bits of a frozen element have changed since it was frozen: something other than the trainer wrote
    /// to the parameter store. Nothing was saved.
    #[error(
        "{what} of {path}, element {index}: expected the frozen bits {expected:#010x}, got {got:#010x}; thaw and freeze it again to \
         accept the new value"
    )]
    FrozenChanged {
        /// The parameter.
        path: String,
        /// `weight`, the name of a state tensor, or `mask`.
        what: String,
        /// The index of the first such element, row-major.
        index: usize,
        /// Its bits when it was frozen.
        expected: u32,
        /// Its bits now.
        got: u32,
    },
    /// The operating system reported an error for a file operation.
    #[error("{}: {source}{}", path.display(), advice(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
}

/// Returns text from a file, such as the name of a tensor, with control characters escaped: printed as they
/// are, they break lines and change the state of a terminal.
pub fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// What to try after an error of the operating system.
fn advice(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{
        FileTooLarge, NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };
    match error.kind() {
        NotFound => "; check the path, or create the folder",
        PermissionDenied => "; check the permissions of the file and its folder",
        ReadOnlyFilesystem => "; choose a folder that can be written",
        StorageFull | QuotaExceeded => "; free some space, or choose another folder",
        FileTooLarge => "; raise the limit of the size of files (ulimit -f), or choose another folder",
        _ => "",
    }
}

const _: () = assert_send_sync::<Error>();

/// Fails to compile if `T` is not `Send + Sync`; call it in a `const _: ()`.
pub(crate) const fn assert_send_sync<T: Send + Sync>() {}

/// Maximum number of similar parameter paths that an error lists.
const SIMILAR: usize = 5;

impl Error {
    /// Returns the name of the variant in snake case, such as `no_adapter`, for programs that read errors.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::NoAdapter { .. } => "no_adapter",
            Error::AdapterRejected { .. } => "adapter_rejected",
            Error::LimitExceeded { .. } => "limit_exceeded",
            Error::ShapeMismatch { .. } => "shape_mismatch",
            Error::UnknownParameter { .. } => "unknown_parameter",
            Error::MaskMismatch { .. } => "mask_mismatch",
            Error::OutOfMemory { .. } => "out_of_memory",
            Error::HostMemory { .. } => "host_memory",
            Error::DeviceLost { .. } => "device_lost",
            Error::Timeout { .. } => "timeout",
            Error::Validation { .. } => "validation",
            Error::NonFiniteLoss { .. } => "non_finite_loss",
            Error::NonFiniteUpdate { .. } => "non_finite_update",
            Error::InvalidArgument { .. } => "invalid_argument",
            Error::EmptyBatch { .. } => "empty_batch",
            Error::Ranks { .. } => "ranks",
            Error::LabelOutOfRange { .. } => "label_out_of_range",
            Error::NoGradient { .. } => "no_gradient",
            Error::NoAdjoint { .. } => "no_adjoint",
            Error::GradientNotKept { .. } => "gradient_not_kept",
            Error::Data { .. } => "data",
            Error::Checkpoint { .. } => "checkpoint",
            Error::FrozenChanged { .. } => "frozen_changed",
            Error::Io { .. } => "io",
        }
    }

    /// Returns the error for a path or glob that matches none of `paths`. If it is the name of a layer, the
    /// glob of the layer's parameters comes first in the list of similar paths.
    pub(crate) fn unknown_parameter<'a>(path: &str, paths: impl Iterator<Item = &'a str>) -> Self {
        let mut similar = nearest(path, paths);
        let inside = format!("{path}.*");
        let pattern = WildMatch::new(&inside);
        if similar.iter().any(|name| pattern.matches(name)) {
            similar.insert(0, inside);
        }
        similar.truncate(SIMILAR);
        Error::UnknownParameter { path: path.to_owned(), similar }
    }

    /// Returns the error for a name that no layer has.
    pub(crate) fn unknown_layer<'a>(at: &str, name: &str, layers: impl Iterator<Item = &'a str>) -> Self {
        let mut similar = nearest(name, layers);
        similar.truncate(SIMILAR);
        Error::argument(at, format!("the name of a layer; the most similar are {}", list(&similar)), name)
    }

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

/// Returns the names, those first that are most similar to `wanted`.
fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<_> = names.map(str::to_owned).collect();
    names.sort_by_cached_key(|name| strsim::levenshtein(name, wanted));
    names
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn name_of_a_layer_suggests_the_glob_of_its_parameters() {
        let paths = ["conv1.kernel", "conv1.bias", "conv2.kernel", "block.a.kernel"];
        let similar = |path: &str| match Error::unknown_parameter(path, paths.into_iter()) {
            Error::UnknownParameter { similar, .. } => similar,
            other => vec![other.to_string()],
        };
        assert_eq!(similar("conv1")[..2], ["conv1.*", "conv1.bias"]);
        assert_eq!(similar("conv?")[0], "conv?.*");
        assert_eq!(similar("block")[0], "block.*");
        assert_eq!(similar("conv2.kernal")[..2], ["conv2.kernel", "conv1.kernel"]);
    }

    #[test]
    fn source_is_the_error_of_the_dependency() {
        let cause = "x".parse::<u64>().unwrap_err();
        let error = |source| Error::Checkpoint { path: "a".into(), why: "note epoch".into(), source };
        let with_source = error(Some(cause.clone().into()));
        assert_eq!(with_source.source().unwrap().downcast_ref(), Some(&cause));
        assert!(error(None).source().is_none());
    }
}
