//! Fractions as a function of the training step, such as gradual pruning's sparsity.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A fraction as a function of the training step, and the steps at which to apply it: `begin`, every `every`
/// steps from there, and `end`.
///
/// Parsed from text ([`MaskSchedule::SYNTAX`]), such as `polynomial:final=0.9,begin=0,end=500,every=50`, and
/// displayed in the same form. The text of [`MaskSchedule::custom`] cannot be parsed.
#[derive(Clone)]
pub struct MaskSchedule {
    curve: Curve,
    begin: u64,
    end: u64,
    every: u64,
}

#[derive(Clone)]
enum Curve {
    Constant(f64),
    Polynomial { initial: f64, target: f64, power: f64 },
    Cosine(f64),
    Custom(Arc<dyn Fn(u64) -> f64 + Send + Sync>),
}

impl MaskSchedule {
    /// The forms that [`FromStr`] parses.
    pub const SYNTAX: &str = "constant:fraction=F, polynomial:final=F[,initial=F][,power=P] or cosine:fraction=F, \
        each with optional ,begin=STEP ,end=STEP ,every=STEPS (polynomial and cosine require an end); \
        fractions are from 0 to 1";

    fn new(curve: Curve) -> Self {
        MaskSchedule { curve, begin: 0, end: u64::MAX, every: 1 }
    }

    /// Constant: the same fraction at every application.
    pub fn constant(fraction: f64) -> Self {
        Self::new(Curve::Constant(fraction))
    }

    /// Polynomial: from `initial` at `begin` to `target` at `end`, `target + (initial - target) * (1 - t)^3`
    /// for t from 0 to 1 (Zhu and Gupta 2017, To prune, or not to prune). Requires an `end`.
    pub fn polynomial(initial: f64, target: f64) -> Self {
        Self::new(Curve::Polynomial { initial, target, power: 3.0 })
    }

    /// Cosine: `fraction / 2 * (1 + cos(pi t))` for t from 0 at `begin` to 1 at `end`, the fraction of
    /// weights that RigL drops and grows (Evci et al. 2020). Requires an `end`.
    pub fn cosine(fraction: f64) -> Self {
        Self::new(Curve::Cosine(fraction))
    }

    /// Custom: the fraction that a function returns for the step.
    pub fn custom(fraction: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Self {
        Self::new(Curve::Custom(Arc::new(fraction)))
    }

    /// Sets the first step of application (0 unless set).
    pub fn begin(mut self, step: u64) -> Self {
        self.begin = step;
        self
    }

    /// Sets the last step of application (none unless set).
    pub fn end(mut self, step: u64) -> Self {
        self.end = step;
        self
    }

    /// Sets the number of steps between two applications (1 unless set).
    pub fn every(mut self, steps: u64) -> Self {
        self.every = steps;
        self
    }

    /// Sets the power of a polynomial schedule (3 unless set); no effect on others.
    pub fn power(mut self, exponent: f64) -> Self {
        if let Curve::Polynomial { power, .. } = &mut self.curve {
            *power = exponent;
        }
        self
    }

    /// Validates all numbers.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if a fraction is not from 0 to 1, the power is not above 0, `every` is 0,
    /// `end` is before `begin`, or a required `end` is missing.
    pub fn check(&self) -> Result<()> {
        let in_range = |f: f64| (0.0..=1.0).contains(&f);
        let (values_valid, needs_end) = match self.curve {
            Curve::Constant(f) => (in_range(f), false),
            Curve::Polynomial { initial, target, power } => {
                (in_range(initial) && in_range(target) && power.is_finite() && power > 0.0, true)
            }
            Curve::Cosine(f) => (in_range(f), true),
            Curve::Custom(_) => (true, false),
        };
        if !values_valid {
            return Err(Error::argument("mask schedule", "fractions from 0 to 1 and a power above 0", self));
        }
        if self.every == 0 || self.end < self.begin || (needs_end && self.end == u64::MAX) {
            return Err(Error::argument("mask schedule", "every above 0 and an end at or after begin", self));
        }
        Ok(())
    }

    /// Fraction to apply before step `step`, counted from 0; `None` if the schedule does not apply at that
    /// step.
    pub fn at(&self, step: u64) -> Option<f64> {
        if step < self.begin || step > self.end || self.every == 0 {
            return None;
        }
        let elapsed = step - self.begin;
        if !elapsed.is_multiple_of(self.every) && step != self.end {
            return None;
        }
        let length = self.end - self.begin;
        let t = if length == 0 { 1.0 } else { elapsed as f64 / length as f64 };
        Some(match &self.curve {
            Curve::Constant(fraction) => *fraction,
            Curve::Polynomial { initial, target, power } => {
                target + (initial - target) * (1.0 - t).powf(*power)
            }
            Curve::Cosine(fraction) => fraction / 2.0 * (1.0 + (std::f64::consts::PI * t).cos()),
            Curve::Custom(function) => function(step),
        })
    }
}

impl FromStr for MaskSchedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let schedule = parse(text).filter(|schedule| schedule.check().is_ok());
        schedule.ok_or_else(|| Error::argument("mask schedule", Self::SYNTAX, text))
    }
}

fn parse(text: &str) -> Option<MaskSchedule> {
    let (name, rest) = text.split_once(':')?;
    let (mut fraction, mut initial, mut target, mut power) = (None, None, None, None);
    let (mut begin, mut end, mut every) = (None, None, None);
    for part in rest.split(',') {
        let (key, value) = part.split_once('=')?;
        let (number, steps) = (value.parse::<f64>().ok(), value.parse::<u64>().ok());
        let repeated = match key {
            "fraction" => fraction.replace(number?).is_some(),
            "initial" => initial.replace(number?).is_some(),
            "final" => target.replace(number?).is_some(),
            "power" => power.replace(number?).is_some(),
            "begin" => begin.replace(steps?).is_some(),
            "end" => end.replace(steps?).is_some(),
            "every" => every.replace(steps?).is_some(),
            _ => return None,
        };
        if repeated {
            return None;
        }
    }
    let schedule = match (name, fraction, initial, target, power) {
        ("constant", Some(f), None, None, None) => MaskSchedule::constant(f),
        ("cosine", Some(f), None, None, None) => MaskSchedule::cosine(f),
        ("polynomial", None, initial, Some(target), power) => {
            MaskSchedule::polynomial(initial.unwrap_or(0.0), target).power(power.unwrap_or(3.0))
        }
        _ => return None,
    };
    Some(schedule.begin(begin.unwrap_or(0)).end(end.unwrap_or(u64::MAX)).every(every.unwrap_or(1)))
}

impl fmt::Display for MaskSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.curve {
            Curve::Constant(fraction) => write!(f, "constant:fraction={fraction}")?,
            Curve::Polynomial { initial, target, power } => {
                write!(f, "polynomial:final={target},initial={initial},power={power}")?;
            }
            Curve::Cosine(fraction) => write!(f, "cosine:fraction={fraction}")?,
            Curve::Custom(_) => write!(f, "custom:function")?,
        }
        write!(f, ",begin={}", self.begin)?;
        if self.end != u64::MAX {
            write!(f, ",end={}", self.end)?;
        }
        write!(f, ",every={}", self.every)
    }
}

impl fmt::Debug for MaskSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MaskSchedule({self})")
    }
}
