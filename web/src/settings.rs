//! The settings of a training run, as the page and the flags of `frazil train` name them.

use crate::data::Sets;
use frazil::checkpoint::Checkpoint;
use frazil::{Adagrad, Adam, AdamW, Error, Model, Optimizer, Result, RmsProp, Sgd};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Settings of a run. All but the learning rate are fixed when it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub model: String,
    pub optimizer: String,
    pub learning_rate: f64,
    pub momentum: f64,
    pub weight_decay: f64,
    pub batch: usize,
    pub seed: u64,
}

pub fn wrong(at: &str, expected: &str, got: impl ToString) -> Error {
    Error::InvalidArgument { at: at.to_owned(), expected: expected.to_owned(), got: got.to_string() }
}

/// Flags that do not change the training, or that say what the page does anyway.
const IGNORED: [&str; 6] =
    ["epochs", "save-every", "freeze", "freeze-biases", "freeze-statistics", "accumulate"];

impl Settings {
    /// Parses the settings of the page.
    pub fn parse(text: &str) -> Result<Self> {
        let json: Value = serde_json::from_str(text).map_err(|error| wrong("settings", "JSON", error))?;
        let number = |key: &str| json[key].as_f64().ok_or_else(|| wrong(key, "a number", &json[key]));
        let whole = |key: &str| {
            json[key].as_u64().ok_or_else(|| wrong(key, "a whole number of 0 or more", &json[key]))
        };
        let text =
            |key: &str| json[key].as_str().map(str::to_owned).ok_or_else(|| wrong(key, "a name", &json[key]));
        let settings = Settings {
            model: text("model")?,
            optimizer: text("optimizer")?,
            learning_rate: number("rate")?,
            momentum: number("momentum")?,
            weight_decay: number("decay")?,
            batch: usize::try_from(whole("batch")?).unwrap_or(usize::MAX),
            seed: whole("seed")?,
        };
        if !(1..=1024).contains(&settings.batch) {
            return Err(wrong("batch", "1 to 1024 examples", settings.batch));
        }
        settings.optimizer()?.check()?;
        Ok(settings)
    }

    /// The settings as the page names them.
    pub fn json(&self) -> Value {
        json!({
            "model": self.model, "optimizer": self.optimizer, "rate": self.learning_rate, "momentum": self.momentum,
            "decay": self.weight_decay, "batch": self.batch, "seed": self.seed,
        })
    }

    /// Whether the optimizer has momentum.
    fn has_momentum(&self) -> bool {
        matches!(self.optimizer.as_str(), "sgd" | "rmsprop")
    }

    pub fn optimizer(&self) -> Result<Optimizer> {
        let (rate, momentum, decay) = (self.learning_rate, self.momentum, self.weight_decay);
        Ok(match self.optimizer.as_str() {
            "sgd" => Sgd::new(rate).momentum(momentum).weight_decay(decay).into(),
            "adam" => Adam::new(rate).weight_decay(decay).into(),
            "adamw" => AdamW::new(rate).weight_decay(decay).into(),
            "amsgrad" => Adam::new(rate).amsgrad(true).weight_decay(decay).into(),
            "rmsprop" => RmsProp::new(rate).momentum(momentum).weight_decay(decay).into(),
            "adagrad" => Adagrad::new(rate).weight_decay(decay).into(),
            other => return Err(wrong("optimizer", "sgd, adam, adamw, amsgrad, rmsprop or adagrad", other)),
        })
    }

    pub fn model(&self, example: &[usize], classes: usize) -> Result<Model> {
        Model::named_for(&self.model, example, classes)
    }

    /// The flags with which `frazil train` continues a checkpoint of this run.
    pub fn arguments(&self, data: &Sets) -> Vec<String> {
        let mut arguments = vec![
            format!("--batch={}", self.batch),
            format!("--data={}", data.flag),
            format!("--lr={}", self.learning_rate),
            format!("--model={}", self.model),
            format!("--optimizer={}", self.optimizer),
            format!("--seed={}", self.seed),
            format!("--weight-decay={}", self.weight_decay),
        ];
        if self.has_momentum() {
            arguments.push(format!("--momentum={}", self.momentum));
        }
        arguments
    }

    /// Reads the settings of a checkpoint that this page or `frazil train` wrote for `data`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a checkpoint without settings or of other data, and for a setting that the page does
    /// not have.
    pub fn of_checkpoint(checkpoint: &Checkpoint, data: &Sets) -> Result<Self> {
        let note = checkpoint.notes().get("note.arguments");
        let note =
            note.ok_or_else(|| wrong("checkpoint", "one that this page or `frazil train` wrote", "another"))?;
        let arguments: Vec<String> = serde_json::from_str(note)
            .map_err(|error| wrong("checkpoint: arguments", "a list of flags", error))?;
        let mut flags: BTreeMap<&str, &str> = BTreeMap::new();
        for argument in &arguments {
            let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
            flags.insert(name.trim_start_matches("--"), value);
        }
        for ignored in IGNORED {
            if ignored != "accumulate" || flags.get(ignored) == Some(&"1") {
                flags.remove(ignored);
            }
        }
        let trained_on = flags.remove("data").unwrap_or("digits");
        let same = checkpoint
            .notes()
            .get("note.data")
            .map_or(trained_on == "digits", |note| *note == data.digests());
        if !same {
            let expected = format!("a network that was trained on the open data, {}", data.flag);
            return Err(wrong("checkpoint", &expected, format!("{trained_on}; open that first")));
        }
        let optimizer = flags.remove("optimizer").unwrap_or("sgd").to_owned();
        let mut number = |name: &str, default: f64| match flags.remove(name) {
            Some(text) => text.parse().map_err(|_| wrong(&format!("checkpoint: --{name}"), "a number", text)),
            None => Ok(default),
        };
        let settings = Settings {
            learning_rate: number("lr", default_rate(&optimizer))?,
            momentum: number("momentum", if optimizer == "sgd" { 0.9 } else { 0.0 })?,
            weight_decay: number("weight-decay", if optimizer == "adamw" { 0.01 } else { 0.0 })?,
            batch: number("batch", 64.0)? as usize,
            seed: checkpoint.notes().get("seed").and_then(|seed| seed.parse().ok()).unwrap_or(1),
            model: flags.remove("model").unwrap_or("digits").to_owned(),
            optimizer,
        };
        flags.remove("seed");
        if let Some((flag, value)) = flags.into_iter().next() {
            let got = format!("--{flag} {value}");
            return Err(wrong(
                "checkpoint",
                "settings that this page has; continue with `frazil train --resume`",
                got,
            ));
        }
        Ok(settings)
    }
}

/// The default learning rate of an optimizer, as in `frazil train`.
fn default_rate(optimizer: &str) -> f64 {
    match optimizer {
        "sgd" => 0.05,
        "adagrad" => 0.01,
        _ => 0.001,
    }
}
