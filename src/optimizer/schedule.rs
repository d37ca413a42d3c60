//! Learning rates that change from step to step.

use super::at_least_zero;
use crate::error::{Error, Result};
use std::f64::consts::PI;

/// What the base learning rate is multiplied by in step `t`, counted from 0: a pure function of `t`.
///
/// With [`LrSchedule::warm_up`] of `w` steps the factor is `(t + 1) / w` times the shape's first one before step `w`, and
/// the shape begins at step `w`. Below, `t` counts from there, and `n` is the shape's own length: `total - w`. With
/// [`LrSchedule::floor`] `f` a factor `x` of a shape becomes `f + (1 - f) * x`. Its text, such as
/// `cosine:total=2000,warm-up=100,floor=0.01`, is parsed back to the same schedule.
#[derive(Clone, Copy, Debug)]
pub struct LrSchedule {
    shape: Form,
    warm_up: u64,
    floor: f64,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Constant,
    Step { every: u64, factor: f64 },
    Cosine { total: u64 },
    OneCycle { total: u64, rise: f64, start: f64, end: f64 },
    Polynomial { total: u64, power: f64 },
    Custom(fn(u64) -> f64),
}

impl LrSchedule {
    fn of(shape: Form) -> Self {
        LrSchedule { shape, warm_up: 0, floor: 0.0 }
    }

    /// 1.
    pub fn constant() -> Self {
        Self::of(Form::Constant)
    }

    /// `factor ^ floor(t / every)`.
    pub fn step(every: u64, factor: f64) -> Self {
        Self::of(Form::Step { every, factor })
    }

    /// `(1 + cos(pi * t / n)) / 2`, and 0 from `t = n` on (Loshchilov and Hutter 2017, without restarts). `total` counts
    /// the warm-up, too.
    pub fn cosine(total: u64) -> Self {
        Self::of(Form::Cosine { total })
    }

    /// Up by a cosine from 1/25 to 1 over the first 0.3 of `n - 1` steps, and down by a cosine to 1/250,000 (Smith and
    /// Topin 2018; the shares are PyTorch's).
    pub fn one_cycle(total: u64) -> Self {
        Self::of(Form::OneCycle { total, rise: 0.3, start: 0.04, end: 4e-6 })
    }

    /// `(1 - t / n) ^ power`, and 0 from `t = n` on. `total` counts the warm-up, too.
    pub fn polynomial(total: u64, power: f64) -> Self {
        Self::of(Form::Polynomial { total, power })
    }

    /// A function of the step. It has no text that could be parsed.
    pub fn custom(factor: fn(u64) -> f64) -> Self {
        Self::of(Form::Custom(factor))
    }

    /// Rises linearly over so many steps first.
    pub fn warm_up(mut self, steps: u64) -> Self {
        self.warm_up = steps;
        self
    }

    /// Squeezes the shape between this factor, from 0 to 1, and 1.
    pub fn floor(mut self, floor: f64) -> Self {
        self.floor = floor;
        self
    }

    /// The factor in step `step`.
    pub fn factor(&self, step: u64) -> f64 {
        if step < self.warm_up {
            // The first factor is 1 but for shapes that rise by themselves.
            return self.shaped(0) * ((step + 1) as f64 / self.warm_up as f64);
        }
        self.shaped(step - self.warm_up)
    }

    fn shaped(&self, t: u64) -> f64 {
        self.floor + (1.0 - self.floor) * self.form(t)
    }

    fn form(&self, t: u64) -> f64 {
        let done = |total: u64| t as f64 / total.saturating_sub(self.warm_up).max(1) as f64;
        match self.shape {
            Form::Constant => 1.0,
            Form::Step { every, factor } => factor.powf((t / every.max(1)) as f64),
            Form::Cosine { total } => (1.0 + (PI * done(total).min(1.0)).cos()) / 2.0,
            Form::OneCycle { total, rise, start, end } => {
                let last = total.saturating_sub(self.warm_up).saturating_sub(1).max(1) as f64;
                let at = (t as f64 / last).min(1.0);
                let between = |from: f64, to: f64, x: f64| to + (from - to) * (1.0 + (PI * x).cos()) / 2.0;
                if at <= rise {
                    between(start, 1.0, at / rise)
                } else {
                    between(1.0, end, (at - rise) / (1.0 - rise))
                }
            }
            Form::Polynomial { total, power } => (1.0 - done(total).min(1.0)).powf(power),
            Form::Custom(factor) => factor(t),
        }
    }

    /// Checks all numbers.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], naming the first that is out of its range.
    pub fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.floor) {
            return Err(Error::argument("schedule: floor", "from 0 to 1", self.floor));
        }
        match self.shape {
            Form::Step { every: 0, .. } => Err(Error::argument("schedule: every", "at least 1", 0)),
            Form::Step { factor, .. } => at_least_zero("schedule: factor", factor),
            Form::Cosine { total } | Form::OneCycle { total, .. } | Form::Polynomial { total, .. }
                if total <= self.warm_up =>
            {
                Err(Error::argument("schedule: total", format!("more than {}", self.warm_up), total))
            }
            Form::Polynomial { power, .. } => at_least_zero("schedule: power", power),
            _ => Ok(()),
        }
    }

    /// Reads a schedule's text: `constant`, `step:every=N,factor=F`, `cosine:total=N`, `one-cycle:total=N` or
    /// `polynomial:total=N,power=P`; each with `warm-up=N` and `floor=F` if wanted.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], naming what is not understood, missing or out of range; `custom` among them.
    pub fn parse(text: &str) -> Result<Self> {
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
        let shape = match name {
            "constant" => Form::Constant,
            "step" => Form::Step {
                every: count("every", take("every"))?,
                factor: number("factor", take("factor"))?,
            },
            "cosine" => Form::Cosine { total: length()? },
            "one-cycle" => LrSchedule::one_cycle(length()?).shape,
            "polynomial" => Form::Polynomial { total: length()?, power: number("power", take("power"))? },
            _ => {
                let known = "constant, step, cosine, one-cycle or polynomial";
                return Err(Error::argument("schedule", known, name));
            }
        };
        let warm_up = take("warm-up").map_or(Ok(0), |value| count("warm-up", Some(value)))?;
        let floor = take("floor").map_or(Ok(0.0), |value| number("floor", Some(value)))?;
        if let Some(key) = fields.first().map(|(key, _)| *key).or(unused.then_some("total")) {
            let own = match shape {
                Form::Constant | Form::Custom(_) => "",
                Form::Step { .. } => "every, factor, ",
                Form::Cosine { .. } | Form::OneCycle { .. } => "total, ",
                Form::Polynomial { .. } => "total, power, ",
            };
            let known = format!("keys of {name}, each once: {own}warm-up or floor");
            return Err(Error::argument("schedule", known, key));
        }
        let schedule = LrSchedule { shape, warm_up, floor };
        schedule.check()?;
        Ok(schedule)
    }
}

impl std::fmt::Display for LrSchedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = match self.shape {
            Form::Step { every, factor } => vec![format!("every={every}"), format!("factor={factor}")],
            Form::Cosine { total } | Form::OneCycle { total, .. } => vec![format!("total={total}")],
            Form::Polynomial { total, power } => vec![format!("total={total}"), format!("power={power}")],
            Form::Constant | Form::Custom(_) => Vec::new(),
        };
        if self.warm_up > 0 {
            fields.push(format!("warm-up={}", self.warm_up));
        }
        if self.floor != 0.0 {
            fields.push(format!("floor={}", self.floor));
        }
        f.write_str(match self.shape {
            Form::Constant => "constant",
            Form::Step { .. } => "step",
            Form::Cosine { .. } => "cosine",
            Form::OneCycle { .. } => "one-cycle",
            Form::Polynomial { .. } => "polynomial",
            Form::Custom(_) => "custom",
        })?;
        if fields.is_empty() { Ok(()) } else { write!(f, ":{}", fields.join(",")) }
    }
}

impl PartialEq for LrSchedule {
    /// Equal numbers; custom functions if they are the same one.
    fn eq(&self, other: &Self) -> bool {
        let same = match (self.shape, other.shape) {
            (Form::Custom(one), Form::Custom(two)) => std::ptr::fn_addr_eq(one, two),
            _ => true,
        };
        same && self.to_string() == other.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(schedule: LrSchedule, steps: &[u64]) -> Vec<f64> {
        steps.iter().map(|&step| schedule.factor(step)).collect()
    }

    #[test]
    fn shapes_at_steps_worked_out_by_hand() {
        let near = |schedule, steps: &[u64], want: &[f64]| {
            for (got, want) in factors(schedule, steps).into_iter().zip(want) {
                assert!((got - want).abs() < 1e-15, "{schedule}: {got} is not {want}");
            }
        };
        near(LrSchedule::constant(), &[0, 9], &[1.0, 1.0]);
        near(LrSchedule::constant().warm_up(4), &[0, 1, 3, 4], &[0.25, 0.5, 1.0, 1.0]);
        near(LrSchedule::step(10, 0.5), &[0, 9, 10, 29, 30], &[1.0, 1.0, 0.5, 0.25, 0.125]);
        near(LrSchedule::cosine(8), &[0, 4, 8, 99], &[1.0, 0.5, 0.0, 0.0]);
        near(LrSchedule::cosine(10).warm_up(2).floor(0.1), &[0, 1, 2, 6, 10], &[0.5, 1.0, 1.0, 0.55, 0.1]);
        near(LrSchedule::polynomial(4, 2.0), &[0, 1, 2, 4, 5], &[1.0, 0.5625, 0.25, 0.0, 0.0]);
        near(LrSchedule::one_cycle(11), &[0, 3, 10, 50], &[0.04, 1.0, 4e-6, 4e-6]);
        near(LrSchedule::custom(|t| t as f64).warm_up(2), &[0, 1, 2, 5], &[0.0, 0.0, 0.0, 3.0]);
    }

    #[test]
    fn text_is_parsed_back() {
        let all = [
            LrSchedule::constant(),
            LrSchedule::constant().warm_up(7),
            LrSchedule::step(30, 0.1),
            LrSchedule::cosine(2000).warm_up(100).floor(0.01),
            LrSchedule::one_cycle(500),
            LrSchedule::polynomial(100, 0.9).floor(1e-3),
        ];
        for schedule in all {
            let back = LrSchedule::parse(&schedule.to_string()).unwrap();
            assert_eq!(back, schedule);
            let steps = [0, 1, 50, 101, 3000];
            assert_eq!(factors(back, &steps), factors(schedule, &steps), "{schedule}");
        }
        assert_eq!(
            LrSchedule::parse("cosine:total=2000,warm-up=100,floor=0.01").unwrap().to_string(),
            "cosine:total=2000,warm-up=100,floor=0.01"
        );
        assert_ne!(LrSchedule::cosine(3), LrSchedule::cosine(4));
        assert_ne!(LrSchedule::custom(|t| t as f64), LrSchedule::custom(|t| 1.0 / (1 + t) as f64));
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        let wrong = [
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
        for (text, part) in wrong {
            let error = LrSchedule::parse(text).expect_err(text);
            assert!(matches!(error, Error::InvalidArgument { .. }), "{error:?}");
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }
}
