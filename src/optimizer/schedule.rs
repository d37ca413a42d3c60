//! Learning-rate schedules.

use super::at_least_zero;
use crate::error::{Error, Result};
use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

/// Factor of the base learning rate as a pure function of the step, counted from 0.
///
/// With a warm-up of `w` steps ([`LrSchedule::warm_up`]) the factor of step `s < w` is `(s + 1) / w` times
/// the curve's first value, and the curve starts at step `w`. In the formulas below, `t = s - w`, and `n =
/// total - w` is the length of the curve. With a floor `f` ([`LrSchedule::floor`]) a value `x` of the curve
/// becomes `f + (1 - f) * x`.
///
/// Parsed from text and displayed in the same form, such as `cosine:total=2000,warm-up=100,floor=0.01`. The
/// forms are `constant`, `step:every=N,factor=F`, `cosine:total=N`, `one-cycle:total=N` and
/// `polynomial:total=N,power=P`, each with optional `warm-up=N` and `floor=F`. A custom schedule cannot be
/// parsed.
#[derive(Clone, Copy, Debug)]
pub struct LrSchedule {
    curve: Curve,
    warm_up: u64,
    floor: f64,
}

#[derive(Clone, Copy, Debug)]
enum Curve {
    Constant,
    Step { every: u64, factor: f64 },
    Cosine { total: u64 },
    OneCycle { total: u64, rise: f64, start: f64, end: f64 },
    Polynomial { total: u64, power: f64 },
    Custom(fn(u64) -> f64),
}

impl LrSchedule {
    fn new(curve: Curve) -> Self {
        LrSchedule { curve, warm_up: 0, floor: 0.0 }
    }

    /// Constant: 1.
    pub fn constant() -> Self {
        Self::new(Curve::Constant)
    }

    /// Step decay: `factor ^ floor(t / every)`.
    pub fn step(every: u64, factor: f64) -> Self {
        Self::new(Curve::Step { every, factor })
    }

    /// Cosine annealing: `(1 + cos(pi * t / n)) / 2`, and 0 from `t = n` on (Loshchilov and Hutter 2017,
    /// without restarts). `total` includes the warm-up.
    pub fn cosine(total: u64) -> Self {
        Self::new(Curve::Cosine { total })
    }

    /// One cycle: from 1/25 to 1 along a cosine over the first 0.3 of `n - 1` steps, then down to 1/250,000
    /// along a cosine (Smith and Topin 2018, with PyTorch's fractions). `total` includes the warm-up.
    pub fn one_cycle(total: u64) -> Self {
        Self::new(Curve::OneCycle { total, rise: 0.3, start: 0.04, end: 4e-6 })
    }

    /// Polynomial decay: `(1 - t / n) ^ power`, and 0 from `t = n` on. `total` includes the warm-up.
    pub fn polynomial(total: u64, power: f64) -> Self {
        Self::new(Curve::Polynomial { total, power })
    }

    /// Custom: the factor that a function returns for `t`.
    pub fn custom(factor: fn(u64) -> f64) -> Self {
        Self::new(Curve::Custom(factor))
    }

    /// Prepends a linear warm-up of this many steps.
    pub fn warm_up(mut self, steps: u64) -> Self {
        self.warm_up = steps;
        self
    }

    /// Sets the smallest factor, from 0 to 1: the curve is rescaled to between `floor` and 1.
    pub fn floor(mut self, floor: f64) -> Self {
        self.floor = floor;
        self
    }

    /// Factor of the base learning rate at step `step`.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warm_up {
            // The value with which the curve starts: 1, except for one-cycle and custom schedules.
            return self.with_floor(0) * ((step + 1) as f64 / self.warm_up as f64);
        }
        self.with_floor(step - self.warm_up)
    }

    fn with_floor(&self, t: u64) -> f64 {
        self.floor + (1.0 - self.floor) * self.curve_at(t)
    }

    fn curve_at(&self, t: u64) -> f64 {
        let progress = |total: u64| t as f64 / total.saturating_sub(self.warm_up).max(1) as f64;
        match self.curve {
            Curve::Constant => 1.0,
            Curve::Step { every, factor } => factor.powf((t / every.max(1)) as f64),
            Curve::Cosine { total } => (1.0 + (PI * progress(total).min(1.0)).cos()) / 2.0,
            Curve::OneCycle { total, rise, start, end } => {
                let last = total.saturating_sub(self.warm_up).saturating_sub(1).max(1) as f64;
                let x = (t as f64 / last).min(1.0);
                let anneal = |from: f64, to: f64, x: f64| to + (from - to) * (1.0 + (PI * x).cos()) / 2.0;
                if x <= rise {
                    anneal(start, 1.0, x / rise)
                } else {
                    anneal(1.0, end, (x - rise) / (1.0 - rise))
                }
            }
            Curve::Polynomial { total, power } => (1.0 - progress(total).min(1.0)).powf(power),
            Curve::Custom(factor) => factor(t),
        }
    }

    /// Validates all numbers.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the name of the first one that is out of range.
    pub fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.floor) {
            return Err(Error::argument("schedule: floor", "from 0 to 1", self.floor));
        }
        match self.curve {
            Curve::Step { every: 0, .. } => Err(Error::argument("schedule: every", "at least 1", 0)),
            Curve::Step { factor, .. } => at_least_zero("schedule: factor", factor),
            Curve::Cosine { total } | Curve::OneCycle { total, .. } | Curve::Polynomial { total, .. }
                if total <= self.warm_up =>
            {
                Err(Error::argument("schedule: total", format!("more than {}", self.warm_up), total))
            }
            Curve::Polynomial { power, .. } => at_least_zero("schedule: power", power),
            _ => Ok(()),
        }
    }
}

impl FromStr for LrSchedule {
    type Err = Error;

    /// # Errors
    /// [`Error::InvalidArgument`] with the part of the text that is unknown, missing or out of range; also
    /// for `custom`.
    fn from_str(text: &str) -> Result<Self> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let mut fields = Vec::new();
        for field in rest.split(',').filter(|field| !field.is_empty()) {
            let Some((key, value)) = field.split_once('=') else {
                return Err(Error::argument("schedule", "NAME:KEY=VALUE,...", text));
            };
            fields.push((key.trim(), value.trim()));
        }
        let mut take = |key: &str| {
            let found = fields.iter().position(|(k, _)| *k == key);
            found.map(|index| fields.remove(index).1.to_owned())
        };
        let missing = |key: &str| Error::argument("schedule", format!("{key}=... for {name}"), text);
        let total = take("total");
        let count = |key: &str, value: Option<String>| -> Result<u64> {
            let value = value.ok_or_else(|| missing(key))?;
            value.parse().map_err(|_| Error::argument(format!("schedule: {key}"), "a whole number", value))
        };
        let number = |key: &str, value: Option<String>| -> Result<f64> {
            let value = value.ok_or_else(|| missing(key))?;
            value.parse().map_err(|_| Error::argument(format!("schedule: {key}"), "a number", value))
        };
        let mut unused = total.is_some();
        let mut length = || {
            unused = false;
            count("total", total.clone())
        };
        let curve = match name {
            "constant" => Curve::Constant,
            "step" => Curve::Step {
                every: count("every", take("every"))?,
                factor: number("factor", take("factor"))?,
            },
            "cosine" => Curve::Cosine { total: length()? },
            "one-cycle" => LrSchedule::one_cycle(length()?).curve,
            "polynomial" => Curve::Polynomial { total: length()?, power: number("power", take("power"))? },
            _ => {
                let expected = "constant, step, cosine, one-cycle or polynomial";
                return Err(Error::argument("schedule", expected, name));
            }
        };
        let warm_up = take("warm-up").map_or(Ok(0), |value| count("warm-up", Some(value)))?;
        let floor = take("floor").map_or(Ok(0.0), |value| number("floor", Some(value)))?;
        if let Some(key) = fields.first().map(|(key, _)| *key).or(unused.then_some("total")) {
            let keys = match curve {
                Curve::Constant | Curve::Custom(_) => "",
                Curve::Step { .. } => "every, factor, ",
                Curve::Cosine { .. } | Curve::OneCycle { .. } => "total, ",
                Curve::Polynomial { .. } => "total, power, ",
            };
            let expected = format!("keys of {name}, each once: {keys}warm-up or floor");
            return Err(Error::argument("schedule", expected, key));
        }
        let schedule = LrSchedule { curve, warm_up, floor };
        schedule.check()?;
        Ok(schedule)
    }
}

impl fmt::Display for LrSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = match self.curve {
            Curve::Step { every, factor } => vec![format!("every={every}"), format!("factor={factor}")],
            Curve::Cosine { total } | Curve::OneCycle { total, .. } => vec![format!("total={total}")],
            Curve::Polynomial { total, power } => vec![format!("total={total}"), format!("power={power}")],
            Curve::Constant | Curve::Custom(_) => Vec::new(),
        };
        if self.warm_up > 0 {
            fields.push(format!("warm-up={}", self.warm_up));
        }
        if self.floor != 0.0 {
            fields.push(format!("floor={}", self.floor));
        }
        f.write_str(match self.curve {
            Curve::Constant => "constant",
            Curve::Step { .. } => "step",
            Curve::Cosine { .. } => "cosine",
            Curve::OneCycle { .. } => "one-cycle",
            Curve::Polynomial { .. } => "polynomial",
            Curve::Custom(_) => "custom",
        })?;
        if fields.is_empty() { Ok(()) } else { write!(f, ":{}", fields.join(",")) }
    }
}

impl PartialEq for LrSchedule {
    /// Compares all numbers, and custom functions by their addresses.
    fn eq(&self, other: &Self) -> bool {
        let same_function = match (self.curve, other.curve) {
            (Curve::Custom(one), Curve::Custom(two)) => std::ptr::fn_addr_eq(one, two),
            _ => true,
        };
        same_function && self.to_string() == other.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(schedule: LrSchedule, steps: &[u64]) -> Vec<f64> {
        steps.iter().map(|&step| schedule.factor(step)).collect()
    }

    #[test]
    fn factors_equal_values_computed_by_hand() {
        let check = |schedule, steps: &[u64], expected: &[f64]| {
            for (got, expected) in factors(schedule, steps).into_iter().zip(expected) {
                assert!((got - expected).abs() < 1e-15, "{schedule}: expected {expected}, got {got}");
            }
        };
        check(LrSchedule::constant(), &[0, 9], &[1.0, 1.0]);
        check(LrSchedule::constant().warm_up(4), &[0, 1, 3, 4], &[0.25, 0.5, 1.0, 1.0]);
        check(LrSchedule::step(10, 0.5), &[0, 9, 10, 29, 30], &[1.0, 1.0, 0.5, 0.25, 0.125]);
        check(LrSchedule::cosine(8), &[0, 4, 8, 99], &[1.0, 0.5, 0.0, 0.0]);
        check(LrSchedule::cosine(10).warm_up(2).floor(0.1), &[0, 1, 2, 6, 10], &[0.5, 1.0, 1.0, 0.55, 0.1]);
        check(LrSchedule::polynomial(4, 2.0), &[0, 1, 2, 4, 5], &[1.0, 0.5625, 0.25, 0.0, 0.0]);
        check(LrSchedule::one_cycle(11), &[0, 3, 10, 50], &[0.04, 1.0, 4e-6, 4e-6]);
        check(LrSchedule::custom(|t| t as f64).warm_up(2), &[0, 1, 2, 5], &[0.0, 0.0, 0.0, 3.0]);
    }

    #[test]
    fn schedules_round_trip_through_text() {
        let all = [
            LrSchedule::constant(),
            LrSchedule::constant().warm_up(7),
            LrSchedule::step(30, 0.1),
            LrSchedule::cosine(2000).warm_up(100).floor(0.01),
            LrSchedule::one_cycle(500),
            LrSchedule::polynomial(100, 0.9).floor(1e-3),
        ];
        for schedule in all {
            let parsed: LrSchedule = schedule.to_string().parse().unwrap();
            assert_eq!(parsed, schedule);
            let steps = [0, 1, 50, 101, 3000];
            assert_eq!(factors(parsed, &steps), factors(schedule, &steps), "{schedule}");
        }
        assert_eq!(
            "cosine:total=2000,warm-up=100,floor=0.01".parse::<LrSchedule>().unwrap().to_string(),
            "cosine:total=2000,warm-up=100,floor=0.01"
        );
        assert_ne!(LrSchedule::cosine(3), LrSchedule::cosine(4));
        assert_ne!(LrSchedule::custom(|t| t as f64), LrSchedule::custom(|t| 1.0 / (1 + t) as f64));
    }

    #[test]
    fn invalid_text_is_an_error() {
        let invalid = [
            ("custom", "custom"),
            ("linear:total=3", "linear"),
            ("cosine", "total"),
            ("cosine:total=x", "total"),
            ("cosine:total=5,warm-up=5", "total"),
            ("cosine:total=5,total=6", "total"),
            ("constant:total=5", "total"),
            ("cosine:total=5,power=2", "power"),
            ("step:every=0,factor=0.1", "every"),
            ("step:every=3,factor=-1", "factor"),
            ("step:every=3,factor=NaN", "factor"),
            ("cosine:total=5,floor=1.5", "floor"),
            ("polynomial:total=5,power=inf", "power"),
            ("cosine:5", "KEY=VALUE"),
        ];
        for (text, part) in invalid {
            let error = text.parse::<LrSchedule>().expect_err(text);
            assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }
}
