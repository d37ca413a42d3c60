//! Optimizers: update rules with their hyper-parameters, learning-rate schedules, clipping and factors per
//! parameter.
//!
//! The arithmetic of the rules is defined by [`UpdateRule`].

mod rules;
mod schedule;

pub use crate::graph::Clip;
pub use rules::{Adagrad, Adam, AdamW, BiasCorrection, RmsProp, Sgd};
pub use schedule::LrSchedule;

use crate::error::{Error, Result};
use crate::graph::{StepScalars, UpdateRule};
use wildmatch::WildMatch;

/// An update rule with its learning rate and schedule, gradient clipping, and factors per parameter.
///
/// Converted from [`Sgd`], [`Adam`], [`AdamW`], [`RmsProp`] or [`Adagrad`].
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    name: &'static str,
    rule: UpdateRule,
    learning_rate: f64,
    schedule: LrSchedule,
    clip: Option<Clip>,
    factors: Vec<Factor>,
    /// `None` for rules without bias correction.
    bias_correction: Option<BiasCorrection>,
}

/// Factor of the learning rate or of the weight decay for the parameters that a glob matches.
#[derive(Clone, Debug, PartialEq)]
struct Factor {
    glob: String,
    of_decay: bool,
    factor: f64,
}

impl Optimizer {
    fn new(name: &'static str, rule: UpdateRule, learning_rate: f64) -> Self {
        let schedule = LrSchedule::constant();
        Optimizer {
            name,
            rule,
            learning_rate,
            schedule,
            clip: None,
            factors: Vec::new(),
            bias_correction: None,
        }
    }

    /// Name: `sgd`, `adam`, `amsgrad`, `adamw`, `rmsprop` or `adagrad`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Update rule.
    pub fn rule(&self) -> &UpdateRule {
        &self.rule
    }

    /// Base learning rate, before the schedule and the factors per parameter.
    pub fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    /// Learning rate at step `step`, counted from 0: the base rate times the schedule's factor.
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        self.learning_rate * self.schedule.factor(step)
    }

    /// Checks that the schedule gives a valid learning rate at step `step`, also times each factor: a schedule
    /// may grow without bound, and a custom one may return any number.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the step and the schedule.
    pub(crate) fn check_step(&self, step: u64) -> Result<()> {
        let rate = self.learning_rate_at(step);
        let at = || format!("learning rate at step {step} with the schedule {}", self.schedule);
        at_least_zero_f32(at, rate)?;
        let mut of_rates = self.factors.iter().filter(|factor| !factor.of_decay);
        of_rates.try_for_each(|f| at_least_zero_f32(|| format!("{}, of {}", at(), f.glob), rate * f.factor))
    }

    /// Sets the base learning rate from the next step on.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless it is finite and at least 0.
    pub fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        at_least_zero("learning rate", learning_rate)?;
        self.learning_rate = learning_rate;
        Ok(())
    }

    /// Sets the learning-rate schedule (constant unless set).
    pub fn schedule(mut self, schedule: LrSchedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Learning-rate schedule.
    pub fn schedule_setting(&self) -> &LrSchedule {
        &self.schedule
    }

    /// Clips gradients, before weight decay and update.
    pub fn clip(mut self, clip: Clip) -> Self {
        self.clip = Some(clip);
        self
    }

    /// Gradient clipping; `None` without clipping.
    pub fn clip_setting(&self) -> Option<Clip> {
        self.clip
    }

    /// Steps that the bias correction counts; `None` for a rule without bias correction.
    pub fn bias_correction(&self) -> Option<BiasCorrection> {
        self.bias_correction
    }

    /// Multiplies the learning rate of the parameters that a glob matches. Where several globs match, the
    /// last one applies.
    pub fn learning_rate_factor(self, glob: &str, factor: f64) -> Self {
        self.add_factor(glob, false, factor)
    }

    /// Multiplies the weight decay of the parameters that a glob matches; 0 disables it. Where several globs
    /// match, the last one applies.
    pub fn weight_decay_factor(self, glob: &str, factor: f64) -> Self {
        self.add_factor(glob, true, factor)
    }

    fn add_factor(mut self, glob: &str, of_decay: bool, factor: f64) -> Self {
        self.factors.push(Factor { glob: glob.to_owned(), of_decay, factor });
        self
    }

    /// Returns the factors `[learning rate, weight decay]` of each of these parameters.
    ///
    /// # Errors
    /// [`Error::UnknownParameter`] for a glob that matches none of them.
    pub(crate) fn factors(&self, paths: &[&str]) -> Result<Vec<[f64; 2]>> {
        let mut all = vec![[1.0; 2]; paths.len()];
        for Factor { glob, of_decay, factor } in &self.factors {
            let pattern = WildMatch::new(glob);
            let mut matched = false;
            for (pair, path) in all.iter_mut().zip(paths) {
                if pattern.matches(path) {
                    pair[usize::from(*of_decay)] = *factor;
                    matched = true;
                }
            }
            if !matched {
                return Err(Error::unknown_parameter(glob, paths.iter().copied()));
            }
        }
        Ok(all)
    }

    /// Returns a text with the rule, all hyper-parameters including the base learning rate, the schedule,
    /// clipping and factors.
    ///
    /// Equal optimizers have equal texts, and different optimizers have different texts. Checkpoints store
    /// the text, so it does not change between versions that have the same rules.
    pub fn describe(&self) -> String {
        let mut text = format!("{} learning-rate={}", self.name, self.learning_rate);
        let mut add = |what: &str, value: &dyn std::fmt::Display| text.push_str(&format!(" {what}={value}"));
        match self.rule {
            UpdateRule::Sgd { momentum, nesterov, .. } => {
                add("momentum", &momentum);
                add("nesterov", &nesterov);
            }
            UpdateRule::Adam { beta1, beta2, epsilon, decoupled, amsgrad, .. } => {
                add("beta1", &beta1);
                add("beta2", &beta2);
                add("epsilon", &epsilon);
                add("decoupled", &decoupled);
                add("amsgrad", &amsgrad);
            }
            UpdateRule::RmsProp { alpha, epsilon, momentum, centered, .. } => {
                add("alpha", &alpha);
                add("epsilon", &epsilon);
                add("momentum", &momentum);
                add("centered", &centered);
            }
            UpdateRule::Adagrad { epsilon, .. } => add("epsilon", &epsilon),
        }
        add("weight-decay", &self.rule.weight_decay());
        add("schedule", &self.schedule);
        // The default is not written: checkpoints from before this setting existed have no word for it.
        if let Some(counts) = self.bias_correction.filter(|&counts| counts != BiasCorrection::default()) {
            add("bias-correction", &counts);
        }
        match self.clip {
            None => {}
            Some(Clip::Norm { max, over_all: false }) => add("clip-norm", &max),
            Some(Clip::Norm { max, over_all: true }) => add("clip-norm-over-all", &max),
            Some(Clip::Value { limit }) => add("clip-value", &limit),
        }
        for Factor { glob, of_decay, factor } in &self.factors {
            let what = if *of_decay { "weight-decay-of" } else { "learning-rate-of" };
            add(what, &format!("{glob}:{factor}"));
        }
        text
    }

    /// Validates all hyper-parameters.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the name of the first one that is out of range.
    pub fn check(&self) -> Result<()> {
        at_least_zero("learning rate", self.learning_rate)?;
        at_least_zero("weight decay", self.rule.weight_decay())?;
        match self.rule {
            UpdateRule::Sgd { momentum, nesterov, .. } => {
                below_one("momentum", momentum)?;
                if nesterov && momentum == 0.0 {
                    return Err(Error::argument("nesterov", "a momentum above 0", momentum));
                }
            }
            UpdateRule::Adam { beta1, beta2, epsilon, .. } => {
                below_one("beta1", beta1)?;
                below_one("beta2", beta2)?;
                valid_epsilon(epsilon)?;
            }
            UpdateRule::RmsProp { alpha, epsilon, momentum, .. } => {
                below_one("alpha", alpha)?;
                below_one("momentum", momentum)?;
                valid_epsilon(epsilon)?;
            }
            UpdateRule::Adagrad { epsilon, .. } => valid_epsilon(epsilon)?,
        }
        self.schedule.check()?;
        if let Some(Clip::Norm { max: limit, .. } | Clip::Value { limit }) = self.clip
            && !(limit >= f64::from(f32::MIN_POSITIVE) && limit <= f64::from(f32::MAX))
        {
            return Err(Error::argument("clip", "a finite number of at least 1.2e-38", limit));
        }
        self.factors.iter().try_for_each(|f| {
            let what = if f.of_decay { "weight decay" } else { "learning rate" };
            at_least_zero(&format!("{what} of {}", f.glob), f.factor)?;
            let decay = self.rule.weight_decay() * if f.of_decay { f.factor } else { 1.0 };
            at_least_zero(&format!("weight decay of {}, times its factor", f.glob), decay)
        })
    }

    /// Returns the scalars that a step needs (learning rate, bias corrections and others) at `step`, counted
    /// from 0, for `rows` examples.
    pub fn scalars(&self, step: u64, rows: usize) -> StepScalars {
        let (correction1, correction2) = match self.rule {
            UpdateRule::Adam { beta1, beta2, .. } => {
                (bias_correction(beta1, step), bias_correction(beta2, step))
            }
            _ => (1.0, 1.0),
        };
        StepScalars {
            learning_rate: self.learning_rate_at(step) as f32,
            correction1,
            correction2,
            // The device uses only the low 32 bits, and only to report the step of a non-finite loss.
            step: step as u32,
            ..StepScalars::forward(rows)
        }
    }
}

/// Returns Adam's bias correction `1 - beta^t`, with t = 1 at step 0.
fn bias_correction(beta: f64, step: u64) -> f32 {
    let t = i32::try_from(step.saturating_add(1)).unwrap_or(i32::MAX);
    (1.0 - beta.powi(t)) as f32
}

fn at_least_zero(what: &str, value: f64) -> Result<()> {
    at_least_zero_f32(|| what.to_owned(), value)
}

fn at_least_zero_f32(what: impl Fn() -> String, value: f64) -> Result<()> {
    if (0.0..=f64::from(f32::MAX)).contains(&value) {
        return Ok(());
    }
    Err(Error::argument(what(), "a number from 0 to the largest f32", format!("{value:?}")))
}

/// Requires that epsilon is a normal f32: a device that flushes subnormals to 0 would divide by 0.
fn valid_epsilon(epsilon: f64) -> Result<()> {
    if epsilon >= f64::from(f32::MIN_POSITIVE) && epsilon <= f64::from(f32::MAX) {
        return Ok(());
    }
    Err(Error::argument("epsilon", "at least 1.2e-38", epsilon))
}

fn below_one(what: &str, value: f64) -> Result<()> {
    if (0.0..1.0).contains(&value) {
        return Ok(());
    }
    Err(Error::argument(what, "from 0 to below 1", value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyper_parameters_out_of_range_are_reported_by_name() {
        let sgd = || Optimizer::from(Sgd::new(0.1));
        let invalid: [(Optimizer, &str); 19] = [
            (Sgd::new(f64::NAN).into(), "learning rate"),
            (Sgd::new(-0.1).into(), "learning rate"),
            (Sgd::new(0.1).momentum(1.0).into(), "momentum"),
            (Sgd::new(0.1).nesterov(true).into(), "nesterov"),
            (Sgd::new(0.1).weight_decay(-1.0).into(), "weight decay"),
            (Adam::new(0.1).betas(0.9, 1.0).into(), "beta2"),
            (Adam::new(0.1).epsilon(0.0).into(), "epsilon"),
            (AdamW::new(f64::INFINITY).into(), "learning rate"),
            (RmsProp::new(0.1).alpha(1.0).into(), "alpha"),
            (RmsProp::new(0.1).momentum(-0.1).into(), "momentum"),
            (RmsProp::new(0.1).epsilon(1e-40).into(), "epsilon"),
            (RmsProp::new(0.1).weight_decay(f64::NAN).into(), "weight decay"),
            (Adagrad::new(0.1).epsilon(0.0).into(), "epsilon"),
            (sgd().clip(Clip::norm(0.0)), "clip"),
            (sgd().clip(Clip::value(f64::NAN)), "clip"),
            (sgd().clip(Clip::value(f64::INFINITY)), "clip"),
            (sgd().learning_rate_factor("*", -1.0), "learning rate of *"),
            (sgd().weight_decay_factor("a", f64::INFINITY), "weight decay of a"),
            (sgd().schedule(LrSchedule::cosine(0)), "schedule: total"),
        ];
        for (optimizer, what) in invalid {
            let error = optimizer.check().unwrap_err();
            assert!(matches!(&error, Error::InvalidArgument { at, .. } if at == what), "{error}");
        }
        for valid in [Sgd::new(0.0).into(), Optimizer::from(AdamW::new(1e-3))] {
            valid.check().unwrap();
        }
    }

    #[test]
    fn bias_correction_parses_what_it_displays() {
        for counts in [BiasCorrection::ElementSteps, BiasCorrection::TrainerSteps] {
            assert_eq!(counts.to_string().parse::<BiasCorrection>().unwrap(), counts);
            let adam = Optimizer::from(Adam::new(0.1).bias_correction(counts));
            assert_eq!(adam.bias_correction(), Some(counts));
        }
        let error = "steps".parse::<BiasCorrection>().unwrap_err().to_string();
        assert!(error.contains("element-steps or trainer-steps") && error.contains("steps"), "{error}");
        assert_eq!(Optimizer::from(Sgd::new(0.1)).bias_correction(), None);
    }

    #[test]
    fn bias_correction_counts_steps_from_one() {
        let scalars = Optimizer::from(Adam::new(0.01)).scalars(0, 5);
        assert_eq!((scalars.correction1, scalars.correction2, scalars.rows), (0.1, 0.001, 5));
        assert_eq!(Optimizer::from(Adam::new(0.01)).scalars(u64::MAX, 1).correction2, 1.0);
    }
}
