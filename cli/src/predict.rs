//! `frazil predict`: the classes of images, and the outputs of a network for arrays in NumPy's format.

use super::data::{ImageArgs, skipped_line};
use super::network::{Network, NetworkArgs, probabilities};
use super::output::Output;
use super::{DeviceArgs, Failure, at_least_one, usage};
use clap::{Args, ValueEnum};
use frazil::checkpoint::printable;
use frazil::data::{ImageOptions, image_features};
use frazil::interop::npy;
use frazil::{Error, Gpu, Predictor};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct PredictArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// Images (PNG, JPEG or WebP) whose classes are printed.
    #[arg(value_name = "IMAGE", required_unless_present = "input")]
    images: Vec<PathBuf>,
    /// File with the names of the classes, one a line, if the network has none.
    #[arg(long, value_name = "FILE", requires = "images")]
    classes: Option<PathBuf>,
    /// Number of classes that are printed for each image, the most probable first.
    #[arg(long, value_name = "N", default_value_t = 3)]
    top: usize,
    /// Examples instead of images, a .npy array whose first axis is the batch.
    #[arg(long, value_name = "FILE", conflicts_with = "images", requires = "output")]
    input: Option<PathBuf>,
    /// File for the outputs, a .npy array of float32; it is replaced.
    #[arg(long, value_name = "FILE", requires = "input")]
    output: Option<PathBuf>,
    /// Order of the axes of images in the input and, if there are any, in the output.
    #[arg(long, default_value = "nhwc")]
    layout: Layout,
    /// Number of examples that the device computes at a time.
    #[arg(long, value_name = "N", default_value_t = 64)]
    batch: usize,
    #[command(flatten)]
    image_args: ImageArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print JSON lines: an object for each image, then a summary.
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
    usage(at_least_one("--top", args.top as u64))?;
    let network = args.network.load()?;
    match (&args.input, &args.output) {
        (Some(input), Some(output)) => arrays(args, &network, input, output),
        _ => images(args, &network),
    }
}

/// Prints the classes of images.
fn images(args: &PredictArgs, network: &Network) -> Result<(), Failure> {
    let model = &network.model;
    let &[classes] = model.output() else {
        let expected =
            "a network with an output for each class; --input takes examples for others".to_owned();
        let (at, got) = ("predict".to_owned(), format!("outputs {:?}", model.output()));
        return Err(Failure::Usage(Error::ShapeMismatch { at, expected, got }));
    };
    let options = usage(args.image_args.options(model.example_shape(), network.normalize.as_ref()))?;
    let names = match &args.classes {
        None => network.classes.clone(),
        Some(file) => read_names(file, classes)?,
    };
    let name = |class: usize| names.get(class).cloned().unwrap_or(class.to_string());
    let output = Output::new(args.json);
    for note in &network.notes {
        output.text(printable(note))?;
    }
    let gpu = Gpu::new(args.device.options())?;
    let batch = args.batch.min(args.images.len().max(1));
    let predictor = Predictor::new(&gpu, model.clone(), &network.parameters, batch)?;
    let (mut skipped, mut predicted) = (Vec::new(), 0);
    for paths in args.images.chunks(batch) {
        let mut features = Vec::new();
        let mut found = Vec::new();
        for (path, image) in paths.iter().zip(decode(paths, &options, args.image_args.workers)) {
            match image {
                Ok(image) => {
                    features.extend(image);
                    found.push(path);
                }
                Err(Error::Data { .. } | Error::Io { .. }) if args.image_args.skip_bad => {
                    skipped.push(path.clone());
                }
                Err(error) => return Err(error.into()),
            }
        }
        if found.is_empty() {
            continue;
        }
        predicted += found.len();
        for (path, outputs) in found.iter().zip(predictor.predict(&features)?.chunks_exact(classes)) {
            let mut ranked: Vec<_> = probabilities(model, outputs).into_iter().enumerate().collect();
            ranked.sort_by(|(_, a), (_, b)| b.total_cmp(a));
            ranked.truncate(args.top);
            let text = ranked.iter().map(|(class, p)| format!("{} {p:.4}", printable(&name(*class))));
            let text = text.collect::<Vec<_>>().join(", ");
            output.text(format!("{}: {text}", printable(&path.display().to_string())))?;
            let list = ranked.iter().map(|(class, p)| json!({ "class": name(*class), "probability": p }));
            output.json(&json!({
                "image": path.display().to_string(), "predictions": list.collect::<Vec<_>>(),
            }))?;
        }
    }
    if let Some(line) = skipped_line(&skipped) {
        output.text(printable(&line))?;
    }
    output.json(&json!({
        "done": true, "images": predicted, "skipped": skipped.len(), "adapter": gpu.report().name,
        "notes": network.notes,
    }))?;
    Ok(())
}

/// Decodes images on several threads.
fn decode(paths: &[PathBuf], options: &ImageOptions, workers: Option<u16>) -> Vec<frazil::Result<Vec<f32>>> {
    let workers =
        workers.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let part = paths.len().div_ceil(workers).max(1);
    let of_part =
        |paths: &[PathBuf]| paths.iter().map(|path| image_features(path, options)).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let threads: Vec<_> = paths.chunks(part).map(|paths| scope.spawn(move || of_part(paths))).collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(images) => images,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.flatten().collect()
    })
}

/// Reads names of classes, one a line.
fn read_names(file: &Path, classes: usize) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|source| Error::Io { path: file.to_owned(), source })?;
    let names: Vec<_> =
        text.lines().map(|line| line.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    if names.len() == classes {
        return Ok(names);
    }
    Err(Failure::Usage(Error::Data {
        path: file.to_owned(),
        place: "end of file".to_owned(),
        why: format!("expected {classes} names, an output of the network each, got {}", names.len()),
        source: None,
    }))
}

/// Computes the outputs for a .npy array.
fn arrays(args: &PredictArgs, network: &Network, input: &Path, output: &Path) -> Result<(), Failure> {
    let array = npy::read(input)?;
    let (example, given) = (network.model.example_shape().to_vec(), array.shape.clone());
    let expected = stored(&example, args.layout);
    let Some((&rows, axes)) = given.split_first().filter(|(_, rest)| **rest == *expected) else {
        return Err(Failure::Usage(Error::ShapeMismatch {
            at: format!("--input {}", input.display()),
            expected: format!(
                "examples of {expected:?} after the batch (--layout is the order of their axes)"
            ),
            got: format!("{given:?}"),
        }));
    };
    if rows == 0 {
        return Err(Failure::Usage(Error::EmptyBatch { at: format!("--input {}", input.display()) }));
    }
    let mut inputs = array.into_f32()?;
    if let ([c, h, w], Layout::Nchw) = (axes, args.layout) {
        inputs = transposed(&inputs, *c, h * w);
    }
    let gpu = Gpu::new(args.device.options())?;
    let predictor = Predictor::new(&gpu, network.model.clone(), &network.parameters, args.batch.min(rows))?;
    let mut outputs = predictor.predict(&inputs)?;
    let result = network.model.output();
    if let ([h, w, c], Layout::Nchw) = (result, args.layout) {
        outputs = transposed(&outputs, h * w, *c);
    }
    let shape = [&[rows], stored(result, args.layout).as_slice()].concat();
    npy::write(output, &shape, &outputs)?;
    let printer = Output::new(args.json);
    for note in &network.notes {
        printer.text(frazil::checkpoint::printable(note))?;
    }
    printer.text(format!("wrote {}: float32 {shape:?}", output.display()))?;
    printer.json(&json!({
        "done": true, "written": output.display().to_string(), "shape": shape, "adapter": gpu.report().name,
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
