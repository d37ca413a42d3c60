//! `frazil evaluate`: loss and accuracy of a network on a data set.

use super::data::{ImageArgs, Reading, Source, skipped_line};
use super::network::{NetworkArgs, probabilities};
use super::output::Output;
use super::{DeviceArgs, Failure, at_least_one, os_text, usage};
use clap::Args;
use frazil::checkpoint::printable;
use frazil::{Error, Gpu, Predictor};
use serde_json::json;

#[derive(Args)]
pub struct EvaluateArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// Data set, as of `frazil train`: its test set, or all images of a folder or list without one.
    #[arg(long, value_name = "SET", value_parser = os_text::parser())]
    data: String,
    /// Number of examples that the device computes at a time.
    #[arg(long, value_name = "N", default_value_t = 64)]
    batch: usize,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    device: DeviceArgs,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Examples of a class, and those predicted as it should be.
#[derive(Clone, Default)]
struct Count {
    examples: u64,
    correct: u64,
}

pub fn run(args: &EvaluateArgs) -> Result<(), Failure> {
    usage(at_least_one("--batch", args.batch as u64))?;
    let source = usage(Source::parse(&args.data))?;
    let network = args.network.load()?;
    let model = &network.model;
    let &[outputs] = model.output() else {
        let expected = "a network with an output for each class".to_owned();
        let (at, got) = ("evaluate".to_owned(), format!("outputs {:?}", model.output()));
        return Err(Failure::Usage(Error::ShapeMismatch { at, expected, got }));
    };
    let reading = Reading::of_network(&args.images, model, network.normalize.as_ref());
    let data = source.load_test(&reading, &network.classes)?;
    let examples = data.loader.examples();
    if examples.classes() > outputs {
        let (at, expected) =
            ("--data".to_owned(), format!("at most {outputs} classes, the outputs of the network"));
        let got = examples.classes().to_string();
        return Err(Failure::Usage(Error::InvalidArgument { at, expected, got }));
    }
    let gpu = Gpu::new(args.device.options())?;
    let batch = args.batch.min(data.len().max(1));
    let predictor = Predictor::new(&gpu, model.clone(), &network.parameters, batch)?;
    let mut counts = vec![Count::default(); outputs];
    let (mut loss, mut non_finite) = (0.0, 0u64);
    for batch in data.loader.in_order(batch)? {
        let batch = batch?;
        if batch.rows() == 0 {
            continue;
        }
        let all = predictor.predict(&batch.features)?;
        for (outputs, &label) in all.chunks_exact(outputs).zip(&batch.labels) {
            let probabilities = probabilities(model, outputs);
            let count = &mut counts[label as usize];
            count.examples += 1;
            let of_label = -probabilities[label as usize].ln();
            if of_label.is_finite() {
                loss += of_label
            } else {
                non_finite += 1
            }
            count.correct += u64::from(largest(&probabilities) == Some(label as usize));
        }
    }
    let total: u64 = counts.iter().map(|count| count.examples).sum();
    let correct: u64 = counts.iter().map(|count| count.correct).sum();
    let output = Output::new(args.json);
    if let Some(line) = skipped_line(&data.skipped()) {
        output.text(printable(&line))?;
    }
    if total == 0 {
        let (place, why) =
            ("images".to_owned(), "expected an image that can be decoded, got none".to_owned());
        return Err(Error::Data { path: args.data.as_str().into(), place, why, source: None }.into());
    }
    let fraction = |count: &Count| count.correct as f64 / count.examples as f64;
    let name = |class: usize| network.classes.get(class).cloned().unwrap_or(class.to_string());
    let mut classes = Vec::new();
    for (class, count) in counts.iter().enumerate().filter(|(_, count)| count.examples > 0) {
        output.text(format!(
            "{:<24} {:>7} of {:>7} correct ({:.1} %)",
            printable(&name(class)),
            count.correct,
            count.examples,
            100.0 * fraction(count)
        ))?;
        classes.push(json!({
            "class": name(class), "examples": count.examples, "correct": count.correct,
        }));
    }
    let (accuracy, loss) = (correct as f64 / total as f64, loss / (total - non_finite).max(1) as f64);
    output.text(format!("accuracy {accuracy:.4}, loss {loss:.4} on {total} examples"))?;
    if non_finite > 0 {
        output.text(format!("the loss of {non_finite} examples is not finite, and does not count"))?;
    }
    output.json(&json!({
        "done": true, "accuracy": accuracy, "loss": loss, "examples": total, "correct": correct,
        "non_finite": non_finite, "skipped": data.skipped().len(), "classes": classes,
        "adapter": gpu.report().name,
    }))?;
    Ok(())
}

/// The class of the largest probability, the first of equal ones; `None` if one is NaN.
fn largest(probabilities: &[f64]) -> Option<usize> {
    let mut best = None;
    for (class, &p) in probabilities.iter().enumerate() {
        if p.is_nan() {
            return None;
        }
        if best.is_none_or(|best: usize| p > probabilities[best]) {
            best = Some(class);
        }
    }
    best
}
