//! `frazil predict`: the outputs of a network for arrays in NumPy's format.

use super::network::NetworkArgs;
use super::output::Output;
use super::{DeviceArgs, Failure, at_least_one, usage};
use clap::{Args, ValueEnum};
use frazil::interop::npy;
use frazil::{Error, Gpu, Predictor};
use serde_json::json;
use std::path::PathBuf;

#[derive(Args)]
pub struct PredictArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// Examples, a .npy array whose first axis is the batch.
    #[arg(long, value_name = "FILE")]
    input: PathBuf,
    /// File for the outputs, a .npy array of float32; it is replaced.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Order of the axes of images in the input and, if there are any, in the output.
    #[arg(long, default_value = "nhwc")]
    layout: Layout,
    /// Number of examples that the device computes at a time.
    #[arg(long, value_name = "N", default_value_t = 64)]
    batch: usize,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Order of the axes of a batch of images.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Layout {
    /// Batch, channels, rows, columns, as in PyTorch and ONNX.
    Nchw,
    /// Batch, rows, columns, channels, as in TensorFlow.
    Nhwc,
}

pub fn run(args: &PredictArgs) -> Result<(), Failure> {
    usage(at_least_one("--batch", args.batch as u64))?;
    let network = args.network.load()?;
    let array = npy::read(&args.input)?;
    let (example, given) = (network.model.example_shape().to_vec(), array.shape.clone());
    let expected = stored(&example, args.layout);
    let Some((&rows, axes)) = given.split_first().filter(|(_, rest)| **rest == *expected) else {
        return Err(Failure::Usage(Error::ShapeMismatch {
            at: format!("--input {}", args.input.display()),
            expected: format!(
                "examples of {expected:?} after the batch (--layout is the order of their axes)"
            ),
            got: format!("{given:?}"),
        }));
    };
    if rows == 0 {
        return Err(Failure::Usage(Error::EmptyBatch { at: format!("--input {}", args.input.display()) }));
    }
    let mut inputs = array.into_f32()?;
    if let ([c, h, w], Layout::Nchw) = (axes, args.layout) {
        inputs = transposed(&inputs, *c, h * w);
    }
    let gpu = Gpu::new(args.device.options())?;
    let predictor = Predictor::new(&gpu, network.model.clone(), &network.parameters, args.batch.min(rows))?;
    let mut outputs = predictor.predict(&inputs)?;
    let output = network.model.output();
    if let ([h, w, c], Layout::Nchw) = (output, args.layout) {
        outputs = transposed(&outputs, h * w, *c);
    }
    let shape = [&[rows], stored(output, args.layout).as_slice()].concat();
    npy::write(&args.output, &shape, &outputs)?;
    let printer = Output::new(args.json);
    for note in &network.notes {
        printer.text(frazil::checkpoint::printable(note))?;
    }
    printer.text(format!("wrote {}: float32 {shape:?}", args.output.display()))?;
    printer.json(&json!({
        "done": true, "written": args.output.display().to_string(), "shape": shape, "adapter": gpu.report().name,
        "notes": network.notes,
    }))?;
    Ok(())
}

/// The shape of one example in a file with this layout.
fn stored(example: &[usize], layout: Layout) -> Vec<usize> {
    match (example, layout) {
        (&[h, w, c], Layout::Nchw) => vec![c, h, w],
        _ => example.to_vec(),
    }
}

/// Transposes the matrix `[rows, columns]` of each example.
fn transposed(examples: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let one = |example: &[f32]| {
        (0..rows * columns).map(|index| example[index % rows * columns + index / rows]).collect::<Vec<_>>()
    };
    examples.chunks_exact(rows * columns).flat_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_example_is_transposed() {
        let two = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -1.0, -2.0, -3.0, -4.0, -5.0, -6.0];
        let expected = [1.0, 4.0, 2.0, 5.0, 3.0, 6.0, -1.0, -4.0, -2.0, -5.0, -3.0, -6.0];
        assert_eq!(transposed(&two, 2, 3), expected);
        assert_eq!(transposed(&expected, 3, 2), two);
    }
}
