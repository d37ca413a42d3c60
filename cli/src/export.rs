//! `frazil export`: writes the weights and masks of a network for other programs. Needs no GPU.

use super::Failure;
use super::network::NetworkArgs;
use super::output::Output;
use clap::{Args, ValueEnum};
use frazil::interop::{TorchStateDict, npy, write_onnx};
use serde_json::json;
use std::path::PathBuf;

#[derive(Args)]
pub struct ExportArgs {
    #[command(flatten)]
    network: NetworkArgs,
    /// Format of the output.
    #[arg(long)]
    to: Format,
    /// File to write; it is replaced.
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Print a JSON object.
    #[arg(long)]
    pub json: bool,
}

/// A format that other programs read.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// PyTorch state dict in a safetensors file; masks as OUT.masks.safetensors.
    Torch,
    /// ONNX file for inference; masks as its tensors mask.NAME.
    Onnx,
    /// Arrays of NumPy with the paths and shapes of the parameters; masks as arrays of bool mask.PATH.
    Npz,
}

pub fn run(args: &ExportArgs) -> Result<(), Failure> {
    let network = args.network.load()?;
    let mut written = vec![args.out.clone()];
    match args.to {
        Format::Onnx => write_onnx(&args.out, &network.model, &network.parameters, &network.masks)?,
        Format::Npz => npy::write_weights(&args.out, &network.model, &network.parameters, &network.masks)?,
        Format::Torch => {
            let names = TorchStateDict::new(&network.model)?;
            names.write_parameters(&args.out, &network.parameters, network.steps)?;
            if !network.masks.is_empty() {
                let masks = args.out.with_extension("masks.safetensors");
                names.write_masks(&masks, &network.masks)?;
                written.push(masks);
            }
        }
    }
    let output = Output::new(args.json);
    for file in &written {
        output.text(format!("wrote {}", file.display()))?;
    }
    let files: Vec<_> = written.iter().map(|file| file.display().to_string()).collect();
    output.json(&json!({
        "done": true, "written": files, "parameters": network.parameters.len(), "masks": network.masks.len(),
    }))?;
    Ok(())
}
