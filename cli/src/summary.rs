//! `frazil summary`: the layers of a network. Needs no GPU.

use super::Failure;
use super::network::NetworkArgs;
use super::output::Output;
use clap::Args;
use frazil::checkpoint::printable;
use serde_json::json;

#[derive(Args)]
pub struct SummaryArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// Print JSON lines: an object for each layer, then a summary.
    #[arg(long)]
    pub json: bool,
}

pub fn run(args: &SummaryArgs) -> Result<(), Failure> {
    let network = args.network.load_or_named()?;
    let output = Output::new(args.json);
    let summary = network.model.summary();
    for line in summary.to_string().lines() {
        output.text(printable(line))?;
    }
    for layer in &summary.layers {
        output.json(&json!({
            "layer": layer.name, "kind": layer.kind, "output": layer.output, "parameters": layer.parameters,
            "flops": layer.flops,
        }))?;
    }
    let frozen: usize = network.masks.iter().map(|(_, mask)| mask.frozen_count()).sum();
    for (path, mask) in &network.masks {
        let share = 100.0 * mask.frozen_count() as f64 / mask.len() as f64;
        output.text(format!(
            "{}: {} elements frozen ({share:.1} %)",
            printable(path),
            mask.frozen_count()
        ))?;
    }
    for note in &network.notes {
        output.text(printable(note))?;
    }
    output.json(&json!({
        "done": true, "trained": summary.trained, "statistics": summary.statistics, "frozen": frozen,
        "flops": summary.flops(), "notes": network.notes,
    }))?;
    Ok(())
}
