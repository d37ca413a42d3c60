//! Fine-tunes a few weights of a trained network on other images, the others frozen. The weights are chosen by the
//! Fisher information (FISH masks, Sung et al. 2021), by gradients (SIFT, Song et al. 2024), by the change of the loss
//! without them (SNIP, Lee et al. 2019), by how far a full fine-tuning moves them (LT-SFT, Ansell et al. 2022), or at
//! random. Each choice must exceed the random one.

mod shared;

use frazil::mask::Score;
use frazil::trainer::GradientPolicy::Masked;
use frazil::trainer::RewindState;
use frazil::{Dataset, Digits, FreezeRule, Gpu, Result, Sgd, Trainer};
use shared::{KERNELS, Outcome, ensure, gpu, proved, train, trainer};

/// Fraction of the kernels' weights that are trained.
const TRAINED: f64 = 0.03;
const EPOCHS: u64 = 6;

/// Returns the same digits, mirrored.
fn mirrored(data: &Dataset) -> Result<Dataset> {
    let pixel = |i: usize| data.features()[i / 8 * 8 + 7 - i % 8];
    data.with_features([8, 8, 1], (0..data.features().len()).map(pixel).collect::<Vec<_>>())
}

/// Returns a trainer with the weights of the base network and all biases frozen.
fn start(gpu: &Gpu, base: &[(String, Vec<f32>)]) -> Result<Trainer> {
    let mut t = trainer(gpu, 10, 1, Masked, Sgd::new(0.05).momentum(0.9))?;
    t.set_parameters(base)?;
    t.freeze("*.bias", FreezeRule::all())?;
    Ok(t)
}

/// Freezes what `rule` selects, fine-tunes the rest, and returns the test accuracy.
fn tune(t: &mut Trainer, rule: FreezeRule, data: &Dataset, test: &Dataset) -> Outcome<f64> {
    t.freeze("*.kernel", rule)?;
    train(t, data, EPOCHS)?;
    proved(t)?;
    Ok(t.evaluate(test)?.accuracy())
}

fn main() -> Outcome {
    let gpu = gpu()?;
    let (data, test) = (mirrored(&Digits::train()?)?, mirrored(&Digits::test()?)?);
    let mut t = trainer(&gpu, 10, 1, Masked, Sgd::new(0.05).momentum(0.9))?;
    train(&mut t, &Digits::train()?, 8)?;
    let base = t.parameters()?;
    let weights: usize = KERNELS.iter().map(|path| Ok(t.mask(path)?.len())).sum::<Result<_>>()?;
    let untuned = t.evaluate(&test)?.accuracy();
    println!("accuracy on mirrored digits before fine-tuning {untuned:.4}; {weights} weights");

    let mut random = 0.0;
    for seed in 1..=3 {
        let rule = FreezeRule::random(1.0 - TRAINED).seed(seed);
        random += tune(&mut start(&gpu, &base)?, rule, &data, &test)? / 3.0;
    }
    println!("{:.0} % of the weights, at random: mean accuracy {random:.4}", 100.0 * TRAINED);
    for (name, score, batch) in [
        ("FISH", Score::SquaredGradient, 1),
        ("SIFT", Score::Gradient, 16),
        ("SNIP", Score::WeightGradient, 64),
    ] {
        let mut t = start(&gpu, &base)?;
        let scores = t.scores(score, data.batches(batch, 7)?.take(256 / batch))?;
        let rule = FreezeRule::top_score(TRAINED, score).global().scores_by_path(scores);
        let accuracy = tune(&mut t, rule, &data, &test)?;
        println!("the same number of weights by {name}: accuracy {accuracy:.4}");
        ensure(accuracy > random + 0.02, &format!("{name} exceeds a random choice by more than 2 points"))?;
    }

    let mut t = start(&gpu, &base)?;
    let snapshot = t.snapshot()?;
    train(&mut t, &data, EPOCHS)?;
    let full = t.evaluate(&test)?.accuracy();
    let file = std::env::temp_dir().join(format!("frazil-tuned-{}.safetensors", std::process::id()));
    t.save(&file)?;
    t.rewind(&snapshot, RewindState::Zero)?;
    let rule = FreezeRule::top_moved(TRAINED, &file).global();
    let accuracy = tune(&mut t, rule, &data, &test)?;
    std::fs::remove_file(file)?;
    println!("by LT-SFT: accuracy {accuracy:.4}; all weights {full:.4}");
    ensure(accuracy > random + 0.02, "LT-SFT exceeds a random choice by more than 2 points")?;
    ensure(random > untuned, "fine-tuning any weights helps")
}
