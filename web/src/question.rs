//! The comparison of the question that Frazil answers: why are single weights of a convolution trained although they are
//! masked?

#[path = "../../examples/the_question/blended.rs"]
#[expect(dead_code, reason = "the example compares more than the page")]
mod blended;

use crate::Device;
use blended::{Blended, LENGTHS, Rule, SIZES, Tensors};
use frazil::low_level::{Purpose, Stream};
use frazil::{
    Adam, Batch, Error, FreezeRule, Loss, Mask, Model, Optimizer, Padding::Same, Sgd, Trainer, TrainerOptions,
};
use serde_json::json;
use wasm_bindgen::prelude::*;

const PATHS: [&str; 4] = ["conv.kernel", "conv.bias", "fc.kernel", "fc.bias"];
/// Steps before the mask is switched on, and after it.
const STEPS: [usize; 2] = [10, 20];

#[wasm_bindgen]
impl Device {
    /// Trains two equal networks for 10 steps, then freezes half of every tensor, and trains for 20 more: one with the
    /// blend `mask * fixed + (1 - mask) * weights`, on the host, the other with this library, on the GPU. Returns the
    /// convolution kernels before and after these 20 steps (JSON).
    #[wasm_bindgen(jspi)]
    pub fn question(&self, rule: &str) -> Result<String, JsError> {
        let (rule, optimizer): (Rule, Optimizer) = match rule {
            "sgd" => (Rule::Sgd, Sgd::new(0.05).into()),
            "momentum" => (Rule::Momentum, Sgd::new(0.05).momentum(0.9).into()),
            "adam" => (Rule::Adam, Adam::new(0.01).into()),
            other => {
                let (at, expected) = ("rule".to_owned(), "sgd, momentum or adam".to_owned());
                return Err(Error::InvalidArgument { at, expected, got: other.to_owned() }.into());
            }
        };
        let [rows, size, inputs, outputs, classes] = SIZES;
        let mut stream = Stream::new(1, Purpose::Data, 0);
        let batch = Batch {
            features: (0..rows * size * size * inputs).map(|_| stream.normal()).collect(),
            labels: (0..rows).map(|row| (row % classes) as u32).collect(),
            targets: Vec::new(),
        };
        let masks =
            PATHS.iter().zip(LENGTHS).map(|(path, len)| FreezeRule::random(0.5).seed(2).resolve(path, len));
        let masks = masks.collect::<frazil::Result<Vec<_>>>()?;

        let model = Model::input([size, size, inputs])
            .conv2d("conv", outputs, [3, 3], |c| c.padding(Same))
            .relu()
            .flatten()
            .dense("fc", classes)
            .build()?;
        let options = TrainerOptions::batch(rows).seed(5);
        let mut ours = Trainer::new(&self.gpu, model, Loss::SoftmaxCrossEntropy, optimizer, options)?;
        let initial = parameters(&ours)?;
        for _ in 0..STEPS[0] {
            ours.step(&batch)?;
        }
        for (path, mask) in PATHS.iter().zip(&masks) {
            ours.freeze(path, FreezeRule::mask(mask.clone()))?;
        }
        let ours_before = parameters(&ours)?;
        for _ in 0..STEPS[1] {
            ours.step(&batch)?;
        }
        let ours_after = parameters(&ours)?;
        let proof = ours.verify_frozen()?;

        let float = |mask: &Mask| (0..mask.len()).map(|i| f32::from(u8::from(mask.is_frozen(i)))).collect();
        let on: Tensors = masks.iter().map(float).collect();
        let mut blend = Blended::new(&initial, &initial, &on);
        blend.mask.iter_mut().for_each(|mask| mask.fill(0.0));
        for _ in 0..STEPS[0] {
            blend.step(&batch.features, &batch.labels, rule, 0.0, &mut || 0.0);
        }
        blend.mask.clone_from(&on);
        blend.fixed.clone_from(&blend.weights);
        let blend_before = blend.weights.clone();
        for _ in 0..STEPS[1] {
            blend.step(&batch.features, &batch.labels, rule, 0.0, &mut || 0.0);
        }
        let side = |before: &Tensors, after: &Tensors| {
            let mut moved = 0;
            let mut worst = 0.0_f32;
            for ((mask, before), after) in masks.iter().zip(before).zip(after) {
                for index in mask.frozen_indices() {
                    moved += usize::from(before[index].to_bits() != after[index].to_bits());
                    worst = worst.max((before[index] - after[index]).abs());
                }
            }
            json!({ "before": before[0], "after": after[0], "moved": moved, "worst": worst })
        };
        Ok(json!({
            "shape": [3, 3, inputs, outputs],
            "mask": (0..LENGTHS[0]).map(|i| masks[0].is_frozen(i)).collect::<Vec<_>>(),
            "frozen": masks.iter().map(Mask::frozen_count).sum::<usize>(),
            "steps": STEPS,
            "blend": side(&blend_before, &blend.weights),
            "ours": side(&ours_before, &ours_after),
            "proof": { "frozen": proof.frozen(), "changed": proof.changed() },
        })
        .to_string())
    }
}

fn parameters(trainer: &Trainer) -> frazil::Result<Tensors> {
    PATHS.iter().map(|path| trainer.parameter(path)).collect()
}
