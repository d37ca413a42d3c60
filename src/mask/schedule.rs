//! A fraction as a function of the step.

use crate::error::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// What [`MaskSchedule::parse`] reads.
pub const SCHEDULE_FORMS: &str = "constant:fraction=F, polynomial:final=F[,initial=F][,power=P] or cosine:fraction=F, each \
    with ,begin=STEP ,end=STEP ,every=STEPS as wanted (polynomial and cosine need an end); fractions from 0 to 1";

/// A fraction that changes with the step, and the steps at which it is to be applied: `begin`, every `every` steps
/// from there, and `end`.
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
    Polynomial { initial: f64, last: f64, power: f64 },
    Cosine(f64),
    Custom(Arc<dyn Fn(u64) -> f64 + Send + Sync>),
}

impl MaskSchedule {
    fn of(curve: Curve) -> Self {
        MaskSchedule { curve, begin: 0, end: u64::MAX, every: 1 }
    }

    /// The same fraction each time.
    pub fn constant(fraction: f64) -> Self {
        Self::of(Curve::Constant(fraction))
    }

    /// From `initial` at `begin` to `last` at `end`: `last + (initial - last) * (1 - t)^3` for t from 0 to 1 (Zhu and
    /// Gupta 2017, To prune, or not to prune). It needs an `end`.
    pub fn polynomial(initial: f64, last: f64) -> Self {
        Self::of(Curve::Polynomial { initial, last, power: 3.0 })
    }

    /// `fraction / 2 * (1 + cos(pi t))` for t from 0 at `begin` to 1 at `end`: the share of weights that RigL drops and
    /// grows (Evci et al. 2020). It needs an `end`.
    pub fn cosine(fraction: f64) -> Self {
        Self::of(Curve::Cosine(fraction))
    }

    /// A function of the step.
    pub fn custom(fraction: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Self {
        Self::of(Curve::Custom(Arc::new(fraction)))
    }

    /// The first step at which it is due (0 unless set).
    pub fn begin(mut self, step: u64) -> Self {
        self.begin = step;
        self
    }

    /// The last step at which it is due.
    pub fn end(mut self, step: u64) -> Self {
        self.end = step;
        self
    }

    /// Steps between two times (1 unless set).
    pub fn every(mut self, steps: u64) -> Self {
        self.every = steps;
        self
    }

    /// The power of a polynomial (3 unless set); of no effect on others.
    pub fn power(mut self, exponent: f64) -> Self {
        if let Curve::Polynomial { power, .. } = &mut self.curve {
            *power = exponent;
        }
        self
    }

    /// Refuses numbers out of range.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`].
    pub fn check(&self) -> Result<()> {
        let share = |f: f64| (0.0..=1.0).contains(&f);
        let (fractions, needs_end) = match self.curve {
            Curve::Constant(f) => (share(f), false),
            Curve::Polynomial { initial, last, power } => {
                (share(initial) && share(last) && power.is_finite() && power > 0.0, true)
            }
            Curve::Cosine(f) => (share(f), true),
            Curve::Custom(_) => (true, false),
        };
        if !fractions {
            return Err(Error::argument("schedule", "fractions from 0 to 1, a power above 0", self));
        }
        if self.every == 0 || self.end < self.begin || (needs_end && self.end == u64::MAX) {
            return Err(Error::argument("schedule", "every above 0, and an end at or after begin", self));
        }
        Ok(())
    }

    /// The fraction to apply before the step of this number; `None`: nothing is due. A step counts from 0.
    pub fn at(&self, step: u64) -> Option<f64> {
        if step < self.begin || step > self.end || self.every == 0 {
            return None;
        }
        let since = step - self.begin;
        if !since.is_multiple_of(self.every) && step != self.end {
            return None;
        }
        let length = self.end - self.begin;
        let t = if length == 0 { 1.0 } else { since as f64 / length as f64 };
        Some(match &self.curve {
            Curve::Constant(fraction) => *fraction,
            Curve::Polynomial { initial, last, power } => last + (initial - last) * (1.0 - t).powf(*power),
            Curve::Cosine(fraction) => fraction / 2.0 * (1.0 + (std::f64::consts::PI * t).cos()),
            Curve::Custom(function) => function(step),
        })
    }

    /// Reads one of the forms in [`SCHEDULE_FORMS`], such as `polynomial:final=0.9,begin=0,end=500,every=50`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the forms.
    pub fn parse(text: &str) -> Result<Self> {
        let read = read(text).filter(|schedule| schedule.check().is_ok());
        read.ok_or_else(|| Error::argument("schedule", SCHEDULE_FORMS, text))
    }
}

fn read(text: &str) -> Option<MaskSchedule> {
    let (name, rest) = text.split_once(':')?;
    let (mut fraction, mut initial, mut last, mut power) = (None, None, None, None);
    let (mut begin, mut end, mut every) = (None, None, None);
    for part in rest.split(',') {
        let (key, value) = part.split_once('=')?;
        let (number, steps) = (value.parse::<f64>().ok(), value.parse::<u64>().ok());
        // A key given twice, or unknown, is refused.
        let again = match key {
            "fraction" => fraction.replace(number?).is_some(),
            "initial" => initial.replace(number?).is_some(),
            "final" => last.replace(number?).is_some(),
            "power" => power.replace(number?).is_some(),
            "begin" => begin.replace(steps?).is_some(),
            "end" => end.replace(steps?).is_some(),
            "every" => every.replace(steps?).is_some(),
            _ => return None,
        };
        if again {
            return None;
        }
    }
    let schedule = match (name, fraction, initial, last, power) {
        ("constant", Some(f), None, None, None) => MaskSchedule::constant(f),
        ("cosine", Some(f), None, None, None) => MaskSchedule::cosine(f),
        ("polynomial", None, initial, Some(last), power) => {
            MaskSchedule::polynomial(initial.unwrap_or(0.0), last).power(power.unwrap_or(3.0))
        }
        _ => return None,
    };
    Some(schedule.begin(begin.unwrap_or(0)).end(end.unwrap_or(u64::MAX)).every(every.unwrap_or(1)))
}

impl fmt::Display for MaskSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.curve {
            Curve::Constant(fraction) => write!(f, "constant:fraction={fraction}")?,
            Curve::Polynomial { initial, last, power } => {
                write!(f, "polynomial:final={last},initial={initial},power={power}")?;
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
