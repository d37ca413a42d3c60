//! `frazil inspect`: prints the content of a file of weights, or compares the frozen elements of two checkpoints.
//! Needs no GPU.

use super::Failure;
use super::output::Output;
use clap::Args;
use frazil::checkpoint::{Checkpoint, Tensor, printable};
use frazil::interop::{FileContents, TensorEntry, contents};
use frazil::low_level::Digest;
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

/// Maximum number of differing elements that are printed.
const SHOWN: usize = 10;

#[derive(Args)]
pub struct InspectArgs {
    /// Checkpoint of `frazil train`, or a file of safetensors, PyTorch (.pth, .pt), Keras (.keras, .weights.h5), NumPy
    /// (.npy, .npz) or ONNX.
    file: PathBuf,
    /// Compare the frozen elements of FILE with the same elements of OTHER, bit by bit; exit with 1 if one
    /// differs.
    #[arg(long, value_name = "OTHER")]
    against: Option<PathBuf>,
    /// Print JSON lines: an object for each tensor or differing element, then a summary.
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &InspectArgs) -> Result<(), Failure> {
    let output = Output::new(args.json);
    if let Some(other) = &args.against {
        return compare(&output, &Checkpoint::read(&args.file)?, &Checkpoint::read(other)?);
    }
    let found = contents(&args.file)?;
    if found.format == "safetensors" {
        return describe(&output, &Checkpoint::read(&args.file)?, &found);
    }
    list(&output, &found)
}

/// Prints the content of a file that is no safetensors file.
fn list(output: &Output, found: &FileContents) -> Result<(), Failure> {
    output.text(format!("{:<48} {:<6} {:<20} {:>12}", "tensor", "type", "shape", "elements"))?;
    let mut elements = 0usize;
    for TensorEntry { name, dtype, shape, .. } in &found.tensors {
        let count = shape.iter().fold(1usize, |count, &extent| count.saturating_mul(extent));
        elements = elements.saturating_add(count);
        let extents = format!("{shape:?}");
        output.text(format!("{:<48} {dtype:<6} {extents:<20} {count:>12}", printable(name)))?;
        output.json(&json!({ "tensor": name, "dtype": dtype, "shape": shape, "elements": count }))?;
    }
    output.text("")?;
    for (kind, values) in [("input", &found.inputs), ("output", &found.outputs)] {
        for value in values {
            let extent = |extent: &Option<usize>| extent.map_or("?".to_owned(), |extent| extent.to_string());
            let shape = value.shape.as_ref().map(|shape| shape.iter().map(extent).collect::<Vec<_>>());
            let shape =
                shape.map_or("of unknown shape".to_owned(), |shape| format!("[{}]", shape.join(", ")));
            output.text(format!("{kind} {} {shape}", printable(&value.name)))?;
            output.json(&json!({ kind: value.name, "shape": value.shape }))?;
        }
    }
    if !found.operators.is_empty() {
        let operators = found.operators.iter().map(|(name, count)| format!("{name} ({count})"));
        let operators = operators.collect::<Vec<_>>().join(", ");
        output.text(format!("operators: {}", printable(&operators)))?;
    }
    output.text(format!("{}: {} tensors, {elements} elements", found.format, found.tensors.len()))?;
    output.json(&json!({
        "done": true, "format": found.format, "tensors": found.tensors.len(), "elements": elements,
        "operators": found.operators,
    }))?;
    Ok(())
}

fn describe(output: &Output, checkpoint: &Checkpoint, found: &FileContents) -> Result<(), Failure> {
    output.text(format!(
        "{:<32} {:<5} {:<20} {:>10} {:>20}  digest",
        "tensor", "type", "shape", "elements", "frozen"
    ))?;
    let parameters: HashSet<&str> = checkpoint.parameters().into_iter().collect();
    let (mut elements, mut frozen, mut entirely) = (0, 0, BTreeMap::new());
    for (name, tensor) in checkpoint.tensors() {
        let digest = hex(Digest::of(tensor.bits().iter().copied().enumerate()).value());
        let count = tensor.bits().len();
        let frozen_here = parameters.contains(&name.as_str()).then(|| checkpoint.mask(name).frozen_count());
        if let Some(some) = frozen_here {
            elements += count;
            frozen += some;
            entirely.insert(name.as_str(), some == count);
        }
        let share = frozen_here.map(|some| fraction(some, count));
        let column = match (frozen_here, share) {
            (Some(some), Some(share)) => format!("{some} ({:.1} %)", 100.0 * share),
            _ => String::new(),
        };
        let shape = format!("{:?}", tensor.shape());
        output.text(format!(
            "{:<32} {:<5} {shape:<20} {count:>10} {column:>20}  {digest}",
            printable(name),
            tensor.dtype()
        ))?;
        output.json(&json!({
            "tensor": name, "dtype": tensor.dtype(), "shape": tensor.shape(), "elements": count,
            "frozen": frozen_here, "frozen_fraction": share, "digest": digest,
        }))?;
    }
    for (name, kind) in checkpoint.unread() {
        let entry = found.tensors.iter().find(|entry| entry.name == *name);
        let shape = entry.map_or(&[][..], |entry| &entry.shape);
        output.text(format!("{:<32} {kind} {shape:?}: not read", printable(name)))?;
        output.json(&json!({ "tensor": name, "unread": kind, "shape": shape }))?;
    }
    output.text("")?;
    if !checkpoint.is_own() {
        output.text("written by another program: it has no checksum")?;
    }
    for (name, value) in checkpoint.notes() {
        // `frazil summary` prints it.
        if name == "architecture" {
            continue;
        }
        output.text(format!("{}: {}", printable(name), printable(value)))?;
    }
    let (weights, of_frozen) = (hex(checkpoint.digest(&[], false)), hex(checkpoint.frozen_digest()));
    let share = fraction(frozen, elements);
    output.text(format!("\n{frozen} of {elements} weights frozen ({:.1} %)", 100.0 * share))?;
    output.text(format!("digest of weights {weights}, of frozen elements {of_frozen}"))?;
    let moving = moving_statistics(&entirely);
    if !moving.is_empty() {
        output.text(format!(
            "not frozen although the weights of their layers are: running statistics {}",
            printable(&moving.join(", "))
        ))?;
    }
    let training = checkpoint.training_digest().map(hex);
    if let Some(training) = &training {
        output.text(format!("digest {training}"))?;
    }
    output.json(&json!({
        "done": true, "elements": elements, "frozen": frozen, "frozen_fraction": share, "weights_digest": weights,
        "frozen_digest": of_frozen, "moving_statistics": moving, "digest": training, "notes": checkpoint.notes(),
    }))?;
    Ok(())
}

/// Returns the running statistics that are not frozen although all weights of their layer are; `frozen` says
/// of each parameter whether it is entirely frozen.
fn moving_statistics<'a>(frozen: &BTreeMap<&'a str, bool>) -> Vec<&'a str> {
    // Whether all weights of a layer are frozen.
    let mut layers = BTreeMap::new();
    for (path, frozen) in frozen.iter().filter(|(path, _)| statistic_layer(path).is_none()) {
        if let Some((layer, _)) = path.rsplit_once('.') {
            *layers.entry(layer).or_insert(true) &= frozen;
        }
    }
    let frozen_layer = |path: &str| statistic_layer(path).and_then(|layer| layers.get(layer)) == Some(&true);
    frozen.iter().filter(|(path, frozen)| !**frozen && frozen_layer(path)).map(|(path, _)| *path).collect()
}

/// The path of the batch norm of a running statistic; `None` for another parameter.
fn statistic_layer(path: &str) -> Option<&str> {
    path.strip_suffix(".running_mean").or_else(|| path.strip_suffix(".running_var"))
}

fn compare(output: &Output, checkpoint: &Checkpoint, other: &Checkpoint) -> Result<(), Failure> {
    let (mut frozen, mut differing, mut shown) = (0, 0, 0);
    for path in checkpoint.parameters() {
        let shown_path = printable(path);
        let mask = checkpoint.mask(path);
        let (Some(tensor), true) = (checkpoint.tensor(path), mask.frozen_count() > 0) else { continue };
        frozen += mask.frozen_count();
        let fits = |t: &&Tensor| t.dtype() == tensor.dtype() && t.shape() == tensor.shape();
        let Some(others) = other.tensor(path).filter(fits) else {
            differing += mask.frozen_count();
            let got =
                other.tensor(path).map_or("none".to_owned(), |t| format!("{} {:?}", t.dtype(), t.shape()));
            output.text(format!(
                "{shown_path}: expected {} {:?}, got {got}",
                tensor.dtype(),
                tensor.shape()
            ))?;
            output.json(&json!({
                "tensor": path, "expected": format!("{} {:?}", tensor.dtype(), tensor.shape()), "got": got,
            }))?;
            continue;
        };
        for index in mask.frozen_indices().filter(|&i| tensor.bits()[i] != others.bits()[i]) {
            differing += 1;
            if shown == SHOWN {
                continue;
            }
            shown += 1;
            let (expected, got) = (tensor.bits()[index], others.bits()[index]);
            let at = coordinates(index, tensor.shape());
            let [old, new] = [expected, got].map(f32::from_bits);
            output.text(format!(
                "{shown_path}{at:?}: expected {expected:#010x} ({old}), got {got:#010x} ({new})"
            ))?;
            output.json(&json!({
                "tensor": path, "index": index, "coordinates": at,
                "expected": format!("{expected:#010x}"), "got": format!("{got:#010x}"),
            }))?;
        }
    }
    let verdict = format!("{differing} of {frozen} frozen elements differ");
    output.text(&verdict)?;
    output.json(&json!({ "done": true, "frozen": frozen, "differing": differing }))?;
    if differing == 0 { Ok(()) } else { Err(Failure::Verdict(verdict)) }
}

/// The index of an element along each axis.
fn coordinates(index: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = index;
    let mut indices: Vec<_> = shape.iter().rev().map(|&extent| (rest % extent, rest /= extent).0).collect();
    indices.reverse();
    indices
}

fn fraction(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn hex(digest: u64) -> String {
    format!("{digest:016x}")
}
