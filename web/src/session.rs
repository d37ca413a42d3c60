//! A network in training.

use crate::data::{Data, Sets};
use crate::settings::Settings;
use crate::{Device, report};
use frazil::checkpoint::Checkpoint;
use frazil::low_level::{ParameterId, ParameterKind};
use frazil::trainer::Evaluation;
use frazil::{Error, FreezeRule, Loss, Mask, ThawPolicy, Trainer, TrainerOptions};
use serde_json::{Value, json};
use std::path::Path;
use std::rc::Rc;
use wasm_bindgen::prelude::*;

/// A network, its trainer and its position in the training data.
#[wasm_bindgen]
pub struct Session {
    trainer: Trainer,
    settings: Settings,
    data: Rc<Sets>,
    /// Completed epochs.
    epoch: u64,
    /// Completed batches of the next epoch.
    batch: u64,
    /// Sum of losses, correct predictions and examples of the epoch so far.
    sums: (f64, u64, u64),
    /// The element that [`Session::corrupt`] changed, with its bits before.
    corrupted: Option<(ParameterId, usize, u32)>,
}

#[wasm_bindgen]
impl Device {
    /// Builds the network of `settings` (JSON) for `data` and compiles it.
    #[wasm_bindgen(jspi)]
    pub fn train(&self, settings: &str, data: &Data) -> Result<Session, JsError> {
        let settings = Settings::parse(settings)?;
        let data = Rc::clone(&data.sets);
        let model = settings.model(data.train.example_shape(), data.train.classes())?;
        let options = TrainerOptions::batch(settings.batch).seed(settings.seed);
        let trainer =
            Trainer::new(&self.gpu, model, Loss::SoftmaxCrossEntropy, settings.optimizer()?, options)?;
        Ok(Session { trainer, settings, data, epoch: 0, batch: 0, sums: (0.0, 0, 0), corrupted: None })
    }
}

#[wasm_bindgen]
impl Session {
    /// The layers and the parameters of the network.
    pub fn network(&self) -> String {
        let model = self.trainer.model();
        let layers = model.summary().layers.into_iter().map(|layer| {
            json!({
                "name": layer.name, "kind": layer.kind, "output": layer.output, "parameters": layer.parameters,
            })
        });
        let parameters = model.parameters().iter().map(|parameter| {
            json!({
                "path": parameter.path,
                "shape": parameter.shape.extents(),
                "elements": parameter.shape.elements(),
                "trained": parameter.kind == ParameterKind::Trained,
            })
        });
        json!({
            "input": model.example_shape(),
            "layers": layers.collect::<Vec<_>>(),
            "parameters": parameters.collect::<Vec<_>>(),
            "train": self.data.train.len(),
            "test": self.data.test.len(),
            "batches": self.data.train.len().div_ceil(self.settings.batch),
            "data": self.data.flag,
            "classes": self.data.classes,
            "settings": self.settings.json(),
        })
        .to_string()
    }

    /// Trains up to `steps` steps, at most to the end of the epoch, where it evaluates the test set. Returns the loss and
    /// the accuracy of these steps, each before its update, and those of the test set.
    #[wasm_bindgen(jspi)]
    pub fn steps(&mut self, steps: u32) -> Result<String, JsError> {
        let (settings, data) = (&self.settings, Rc::clone(&self.data));
        let done = usize::try_from(self.batch).unwrap_or(usize::MAX);
        let epoch = data.train.batches_for_epoch(settings.batch, settings.seed, self.epoch + 1)?;
        let batches = epoch.len();
        for batch in epoch.skip(done).take(steps as usize) {
            self.trainer.step(&batch)?;
            self.batch += 1;
        }
        let ended = self.batch >= batches as u64;
        let metrics = self.trainer.metrics()?;
        let (loss, correct, examples) = &mut self.sums;
        *loss += metrics.loss * metrics.examples as f64;
        *correct += metrics.correct.unwrap_or(0);
        *examples += metrics.examples;
        let mut test = Value::Null;
        if ended {
            (self.epoch, self.batch, self.sums) = (self.epoch + 1, 0, (0.0, 0, 0));
            test = evaluation(&self.trainer.evaluate(&data.test)?);
        }
        Ok(json!({
            "step": self.trainer.steps(),
            "epoch": self.epoch,
            "batch": self.batch,
            "loss": metrics.loss,
            "accuracy": metrics.accuracy(),
            "examples": metrics.examples,
            "test": test,
        })
        .to_string())
    }

    /// Trains `steps` steps on the first batch and waits for them, to measure the speed.
    #[wasm_bindgen(jspi)]
    pub fn repeat(&mut self, steps: u32) -> Result<(), JsError> {
        if let Some(batch) = self.data.train.in_order(self.settings.batch)?.next() {
            for _ in 0..steps {
                self.trainer.step(&batch)?;
            }
        }
        self.trainer.metrics()?;
        Ok(())
    }

    /// Steps, completed epochs, and batches of the next epoch.
    pub fn position(&self) -> String {
        json!({ "step": self.trainer.steps(), "epoch": self.epoch, "batch": self.batch }).to_string()
    }

    /// Loss and accuracy on the test set.
    #[wasm_bindgen(jspi)]
    pub fn evaluate(&self) -> Result<String, JsError> {
        Ok(evaluation(&self.trainer.evaluate(&self.data.test)?).to_string())
    }

    /// Sets the learning rate from the next step on.
    #[wasm_bindgen(js_name = setRate)]
    pub fn set_rate(&mut self, rate: f64) -> Result<(), JsError> {
        self.trainer.set_learning_rate(rate)?;
        self.settings.learning_rate = rate;
        Ok(())
    }

    /// The values of a parameter.
    #[wasm_bindgen(jspi)]
    pub fn values(&self, path: &str) -> Result<Vec<f32>, JsError> {
        Ok(self.trainer.parameter(path)?)
    }

    /// The mask of a parameter: element i is frozen if bit i % 32 of word i / 32 is 1.
    pub fn mask(&self, path: &str) -> Result<Vec<u32>, JsError> {
        Ok(self.trainer.mask(path)?.words().to_vec())
    }

    /// Freezes or thaws elements of one parameter. Returns the number of those that were not before.
    #[wasm_bindgen(jspi)]
    pub fn edit(&mut self, path: &str, indices: &[u32], frozen: bool) -> Result<u32, JsError> {
        let mut selected = vec![false; self.trainer.mask(path)?.len()];
        let elements = selected.len();
        for &index in indices {
            let Some(element) = selected.get_mut(index as usize) else {
                return Err(Error::InvalidArgument {
                    at: path.to_owned(),
                    expected: format!("elements below {elements}"),
                    got: index.to_string(),
                }
                .into());
            };
            *element = true;
        }
        let rule = FreezeRule::mask(Mask::from_frozen(selected));
        let changed = if frozen {
            self.trainer.freeze(path, rule)?
        } else {
            self.trainer.thaw(path, rule, ThawPolicy::KeepState)?
        };
        Ok(changed as u32)
    }

    /// Freezes or thaws the elements that a rule selects in the parameters that a glob matches. Returns their number.
    #[wasm_bindgen(jspi)]
    pub fn rule(&mut self, glob: &str, rule: &str, frozen: bool) -> Result<u32, JsError> {
        let rule = rule.parse::<FreezeRule>()?.seed(self.settings.seed);
        let changed = if frozen {
            self.trainer.freeze(glob, rule)?
        } else {
            self.trainer.thaw(glob, rule, ThawPolicy::KeepState)?
        };
        Ok(changed as u32)
    }

    /// Compares all frozen elements with their bits at the time of freezing, on the device.
    #[wasm_bindgen(jspi)]
    pub fn proof(&self) -> Result<String, JsError> {
        let proof = self.trainer.verify_frozen()?;
        let first = proof.first_changed.as_ref().map(|changed| {
            json!({
                "path": changed.path,
                "what": changed.what,
                "index": changed.index,
                "coordinates": changed.coordinates,
                "expected": format!("{:#010x}", changed.expected),
                "got": format!("{:#010x}", changed.got),
            })
        });
        Ok(json!({
            "frozen": proof.frozen(),
            "changed": proof.changed(),
            "digest": format!("{:016x}", proof.digest),
            "first": first,
            "step": self.trainer.steps(),
            "text": proof.to_string(),
        })
        .to_string())
    }

    /// Flips the lowest bit of a frozen weight in the GPU's memory, bypassing the trainer, so that the proof can be seen
    /// to fail. `choice` selects one of the frozen weights. Returns false if none is frozen.
    #[wasm_bindgen(jspi)]
    pub fn corrupt(&mut self, choice: u32) -> Result<bool, JsError> {
        self.repair()?;
        let masks = self.trainer.masks();
        let total: usize = masks.iter().map(|(_, mask)| mask.frozen_count()).sum();
        if total == 0 {
            return Ok(false);
        }
        let mut rest = choice as usize % total;
        for (path, mask) in masks {
            if let Some(index) = mask.frozen_indices().nth(rest) {
                let store = self.trainer.store();
                let id = store.find(&path)?;
                let mut bits = store.read_weights(id)?;
                let old = bits[index];
                bits[index] ^= 1;
                store.write_weights(id, &bits)?;
                self.corrupted = Some((id, index, old));
                return Ok(true);
            }
            rest -= mask.frozen_count();
        }
        Ok(false)
    }

    /// Restores the weight that [`Session::corrupt`] changed. Returns whether there was one.
    #[wasm_bindgen(jspi)]
    pub fn restore(&mut self) -> Result<bool, JsError> {
        Ok(self.repair()?)
    }

    /// Probabilities of the classes for any number of examples.
    #[wasm_bindgen(jspi)]
    pub fn predict(&self, features: &[f32]) -> Result<Vec<f32>, JsError> {
        let classes = self.data.train.classes();
        let mut outputs = self.trainer.predict(features)?;
        for row in outputs.chunks_exact_mut(classes) {
            let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            row.iter_mut().for_each(|x| *x = (*x - top).exp());
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|x| *x /= sum);
        }
        Ok(outputs)
    }

    /// Pixels of the first `count` test examples.
    #[wasm_bindgen(js_name = testImages)]
    pub fn test_images(&self, count: usize) -> Vec<f32> {
        let pixels: usize = self.data.test.example_shape().iter().product();
        self.data.test.features()[..count.min(self.data.test.len()) * pixels].to_vec()
    }

    /// Labels of the first `count` test examples.
    #[wasm_bindgen(js_name = testLabels)]
    pub fn test_labels(&self, count: usize) -> Vec<u32> {
        self.data.test.labels()[..count.min(self.data.test.len())].to_vec()
    }

    /// Digest of all weights and state, dispatches of a step, and the operations that freezing avoids.
    #[wasm_bindgen(jspi)]
    pub fn details(&self) -> Result<String, JsError> {
        let plan = self.trainer.report();
        let avoided: u64 = plan.avoided.iter().map(|work| work.flops).sum();
        Ok(json!({
            "digest": format!("{:016x}", self.trainer.digest()?),
            "family": plan.family,
            "dispatches": plan.dispatches.len(),
            "bytes": plan.bytes(),
            "flops": plan.flops(),
            "avoided": avoided,
            "gpu": report(self.trainer.gpu()),
        })
        .to_string())
    }

    /// The content of a checkpoint file, which `frazil train --resume` continues.
    #[wasm_bindgen(jspi)]
    pub fn save(&self) -> Result<Vec<u8>, JsError> {
        let arguments = Value::from(self.settings.arguments(&self.data)).to_string();
        let mut notes = vec![
            ("arguments", arguments),
            ("data", self.data.digests()),
            ("epoch", self.epoch.to_string()),
            ("batch", self.batch.to_string()),
        ];
        let (loss, correct, examples) = self.sums;
        if examples > 0 {
            notes.push(("partial", format!("{} {correct} {examples}", loss / examples as f64)));
        }
        Ok(self.trainer.checkpoint(&notes)?.to_bytes(Path::new("weights.safetensors"))?)
    }

    /// Continues from a checkpoint file of a network with the same settings.
    #[wasm_bindgen(jspi)]
    pub fn load(&mut self, bytes: &[u8], name: &str) -> Result<(), JsError> {
        let checkpoint = Checkpoint::from_bytes(bytes, Path::new(name))?;
        let note = |key: &str| {
            let text = checkpoint.notes().get(&format!("note.{key}"))?;
            text.parse::<u64>().ok()
        };
        let (epoch, batch) = (note("epoch").unwrap_or(0), note("batch").unwrap_or(0));
        self.trainer.restore(&checkpoint, name)?;
        let mut sums = (0.0, 0, 0);
        if let Some(text) = checkpoint.notes().get("note.partial")
            && let [loss, correct, examples] = text.split(' ').collect::<Vec<_>>()[..]
            && let (Ok(loss), Ok(correct), Ok(examples)) =
                (loss.parse::<f64>(), correct.parse(), examples.parse::<u64>())
        {
            sums = (loss * examples as f64, correct, examples);
        }
        (self.epoch, self.batch, self.sums) = (epoch, batch, sums);
        self.settings.learning_rate = self.trainer.optimizer().learning_rate();
        self.corrupted = None;
        Ok(())
    }
}

impl Session {
    fn repair(&mut self) -> frazil::Result<bool> {
        let Some((id, index, old)) = self.corrupted.take() else { return Ok(false) };
        let store = self.trainer.store();
        let mut bits = store.read_weights(id)?;
        bits[index] = old;
        store.write_weights(id, &bits)?;
        Ok(true)
    }
}

fn evaluation(evaluation: &Evaluation) -> Value {
    json!({
        "loss": evaluation.loss,
        "accuracy": evaluation.accuracy(),
        "examples": evaluation.examples,
        "nonFinite": evaluation.non_finite,
    })
}

/// The settings of a checkpoint file for `data` (JSON), to build its network before [`Session::load`].
#[wasm_bindgen(js_name = settingsOf)]
pub fn settings_of(bytes: &[u8], name: &str, data: &Data) -> Result<String, JsError> {
    let checkpoint = Checkpoint::from_bytes(bytes, Path::new(name))?;
    Ok(Settings::of_checkpoint(&checkpoint, &data.sets)?.json().to_string())
}
