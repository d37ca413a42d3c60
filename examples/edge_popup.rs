//! Edge-popup (Ramanujan et al. 2020): finds a subnetwork of random weights without training any weight. Each
//! weight has a score, and the half with the highest scores is used. Scores are trained with the dense
//! gradient of the frozen weights: `score -= lr * gradient * weight`.

mod shared;

use frazil::trainer::GradientPolicy::Dense;
use frazil::{Digits, FreezeRule, Gpu, Loss, Mask, Model, Padding::Same, Sgd, Trainer, TrainerOptions};
use shared::{KERNELS, Outcome, ensure, gpu, proved};

/// Creates a trainer of a network that is wide enough to contain a good subnetwork: 3x3 convolution with 24
/// output channels, ReLU, 2x2 max-pooling, dense layer with 128 outputs, ReLU, dense layer with 10 outputs.
fn wide(gpu: &Gpu) -> frazil::Result<Trainer> {
    let model = Model::input([8, 8, 1])
        .conv2d("conv", 24, [3, 3], |c| c.padding(Same))
        .relu()
        .max_pool2d([2, 2])
        .flatten()
        .dense("fc1", 128)
        .relu()
        .dense("fc2", 10)
        .build()?;
    let options = TrainerOptions::batch(64).seed(1).keep_gradients(true).gradient_policy(Dense);
    Trainer::new(gpu, model, Loss::SoftmaxCrossEntropy, Sgd::new(0.1), options)
}

fn main() -> Outcome {
    let (data, test) = (Digits::train()?, Digits::test()?);
    let mut t = wide(&gpu()?)?;
    // Initializes the scores with the magnitudes of the initial weights; they are kept at 0 or above. As in
    // the paper, all weights of a layer have the same magnitude and their initial signs. The magnitude is
    // chosen so that the half of the weights in use preserves the variance of the layer's input.
    let (mut scores, mut weights) = (Vec::new(), Vec::new());
    for (path, fan_in) in KERNELS.iter().zip([9.0_f32, 384.0, 128.0]) {
        let initial = t.parameter(path)?;
        weights.push(initial.iter().map(|w| (4.0 / fan_in).sqrt().copysign(*w)).collect::<Vec<_>>());
        scores.push(initial.iter().map(|w| w.abs()).collect::<Vec<_>>());
        t.set_parameter(path, &weights[weights.len() - 1])?;
    }
    t.freeze("*", FreezeRule::all())?;
    let lr = 1.0;
    let before = t.evaluate(&test)?.accuracy();
    for epoch in 0..12 {
        for batch in data.batches_for_epoch(64, 7, epoch)? {
            for (k, path) in KERNELS.iter().enumerate() {
                let off =
                    FreezeRule::smallest(0.5).scores(scores[k].clone()).resolve(path, weights[k].len())?;
                let used =
                    weights[k].iter().enumerate().map(|(i, &w)| if off.is_frozen(i) { 0.0 } else { w });
                t.set_and_freeze(path, &used.collect::<Vec<_>>(), &Mask::all(weights[k].len())?)?;
            }
            t.step(&batch)?;
            for (k, path) in KERNELS.iter().enumerate() {
                let gradient = t.gradient(path)?;
                for ((score, g), w) in scores[k].iter_mut().zip(gradient).zip(&weights[k]) {
                    *score = (*score - lr * g * w).max(0.0);
                }
            }
        }
    }
    proved(&t)?;
    let mut off = 0;
    for (path, weights) in KERNELS.iter().zip(&weights) {
        for (now, initial) in t.parameter(path)?.iter().zip(weights) {
            ensure(
                now.to_bits() == initial.to_bits() || now.to_bits() == 0,
                "every weight is its initial value or 0",
            )?;
            off += usize::from(now.to_bits() == 0);
        }
    }
    let accuracy = t.evaluate(&test)?.accuracy();
    println!(
        "accuracy {before:.4} with random weights, {accuracy:.4} with {off} of them at 0 and none trained"
    );
    ensure(accuracy > 0.8 && before < 0.3, "a mask over random weights classifies the digits")
}
