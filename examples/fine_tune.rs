//! Fine-tunes a network that PyTorch trained, with the centre taps of its first convolution and the smallest 90 % of all
//! other kernels frozen, on other images: those of a folder with a subfolder for each class, or the embedded digits,
//! mirrored. Proves that no frozen weight changed, and writes the network for PyTorch and as an ONNX file, which gives
//! the same outputs to the bit.
//!
//! cargo run --release --features images --example fine_tune -- [FOLDER]

use frazil::data::Loader;
use frazil::interop::{TorchStateDict, read_onnx, write_onnx};
use frazil::trainer::Fit;
use frazil::{
    Dataset, Digits, FreezeRule, Gpu, GpuOptions, Loss, Predictor, Result, Sgd, Trainer, TrainerOptions,
};
use std::path::Path;

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

/// Returns the same digits, mirrored.
fn mirrored(data: &Dataset) -> Result<Dataset> {
    let pixel = |i: usize| data.features()[i / 8 * 8 + 7 - i % 8];
    data.with_features([8, 8, 1], (0..data.features().len()).map(pixel).collect::<Vec<_>>())
}

/// Training and validation examples of 8x8 grey images.
fn examples(folder: Option<&Path>) -> Result<(Loader, Loader)> {
    match folder {
        None => {
            let (train, validation) = mirrored(&Digits::train()?)?.split(0.2, 7)?;
            Ok((Loader::new(train), Loader::new(validation)))
        }
        #[cfg(feature = "images")]
        Some(folder) => {
            let options = frazil::data::ImageOptions::size([8, 8, 1])?;
            let (train, validation) = frazil::data::ImageFiles::folder(folder, options)?.split(0.2, 7)?;
            Ok((Loader::new(train), Loader::new(validation)))
        }
        #[cfg(not(feature = "images"))]
        Some(_) => Err(frazil::Error::InvalidArgument {
            at: "FOLDER".to_owned(),
            expected: "the feature images; run with --features images".to_owned(),
            got: "a build without it".to_owned(),
        }),
    }
}

fn main() -> Outcome {
    let folder = std::env::args_os().nth(1);
    let (train, validation) = examples(folder.as_deref().map(Path::new))?;
    let network =
        read_onnx(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/digits_cnn.train.onnx"))?;

    let gpu = Gpu::new(GpuOptions::default())?;
    let (options, sgd) = (TrainerOptions::batch(64).seed(7), Sgd::new(0.02).momentum(0.9));
    let mut trainer = Trainer::new(&gpu, network.model, Loss::SoftmaxCrossEntropy, sgd, options)?;
    trainer.set_parameters(&network.parameters)?;
    let before = trainer.evaluate_over(&validation)?;

    trainer.freeze("features.0.kernel", FreezeRule::kernel_position(1, 1))?;
    for rest in ["features.3.kernel", "classifier.*.kernel"] {
        trainer.freeze(rest, FreezeRule::smallest(0.9))?;
    }
    Fit::epochs(8).seed(7).patience(3).run(&mut trainer, &train, Some(&validation))?;
    let after = trainer.evaluate_over(&validation)?;
    let proof = trainer.verify_frozen()?;
    println!("{} frozen, {} changed", proof.frozen(), proof.changed());
    println!("before {before}\nafter  {after}");

    // For PyTorch, and as an ONNX file: both have the same weights, and the masks.
    let (model, parameters, masks) = (trainer.model(), trainer.parameters()?, trainer.masks());
    let names = TorchStateDict::new(model)?;
    let out = std::env::temp_dir().join(format!("frazil-fine-tune-{}", std::process::id()));
    std::fs::create_dir_all(&out)?;
    let [torch, onnx] = ["tuned.safetensors", "tuned.onnx"].map(|name| out.join(name));
    names.write(&torch, &trainer)?;
    write_onnx(&onnx, model, &parameters, &masks)?;
    let images: Vec<f32> = (0..5 * 64).map(|i| (i as f32 * 0.37).sin().abs()).collect();
    let outputs = trainer.predict(&images)?;
    let read = read_onnx(&onnx)?;
    let of_onnx = Predictor::new(&gpu, read.model, &read.parameters, 5)?.predict(&images)?;
    let of_torch = names.read(&torch)?.parameters;
    let of_torch = Predictor::new(&gpu, model.clone(), &of_torch, 5)?.predict(&images)?;
    std::fs::remove_dir_all(&out)?;

    let ensure =
        |holds: bool, claim: &str| if holds { Ok(()) } else { Err(format!("does not hold: {claim}")) };
    ensure(proof.changed() == 0 && proof.frozen() > 15_000, "frozen weights keep their bits")?;
    ensure(after.accuracy() > before.accuracy() + 0.2, "fine-tuning raises the accuracy by 20 points")?;
    let close =
        |others: &[f32]| outputs.iter().zip(others).all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + a.abs()));
    ensure(close(&of_onnx) && close(&of_torch), "the exported networks give the same outputs")?;
    Ok(())
}
