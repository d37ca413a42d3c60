//! Optimizers: hyper-parameters, and the numbers of each step. The rules themselves are [`UpdateRule`]s.

mod adam;
mod sgd;

pub use adam::{Adam, AdamW};
pub use sgd::Sgd;

use crate::error::{Error, Result};
use crate::graph::{StepScalars, UpdateRule};

/// A rule with its learning rate. Made from [`Sgd`], [`Adam`] or [`AdamW`].
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    name: &'static str,
    rule: UpdateRule,
    learning_rate: f64,
}

impl Optimizer {
    /// `sgd`, `adam` or `adamw`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The rule.
    pub fn rule(&self) -> &UpdateRule {
        &self.rule
    }

    /// The learning rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    /// Sets the learning rate from the next step on.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless it is finite and 0 or more.
    pub fn set_learning_rate(&mut self, learning_rate: f64) -> Result<()> {
        at_least_zero("learning rate", learning_rate)?;
        self.learning_rate = learning_rate;
        Ok(())
    }

    /// Checks all hyper-parameters.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], naming the first that is out of its range.
    pub fn check(&self) -> Result<()> {
        at_least_zero("learning rate", self.learning_rate)?;
        match self.rule {
            UpdateRule::Sgd { momentum, nesterov, weight_decay } => {
                below_one("momentum", momentum)?;
                at_least_zero("weight decay", weight_decay)?;
                if nesterov && momentum == 0.0 {
                    return Err(Error::argument("nesterov", "a momentum above 0", momentum));
                }
                Ok(())
            }
            UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, .. } => {
                below_one("beta1", beta1)?;
                below_one("beta2", beta2)?;
                at_least_zero("weight decay", weight_decay)?;
                // Below the smallest normal f32 a flushing device would divide by 0.
                if epsilon.is_finite() && epsilon >= f64::from(f32::MIN_POSITIVE) {
                    return Ok(());
                }
                Err(Error::argument("epsilon", "at least 1.2e-38", epsilon))
            }
        }
    }

    /// The numbers of step `step` (from 0) on `rows` examples.
    pub fn scalars(&self, step: u64, rows: usize) -> StepScalars {
        let (correction1, correction2) = match self.rule {
            UpdateRule::Adam { beta1, beta2, .. } => (correction(beta1, step), correction(beta2, step)),
            UpdateRule::Sgd { .. } => (1.0, 1.0),
        };
        StepScalars {
            learning_rate: self.learning_rate as f32,
            correction1,
            correction2,
            // The low half counts on the device; nothing but a message reads it.
            step: step as u32,
            ..StepScalars::forward(rows)
        }
    }
}

/// `1 - beta^t` with t = 1 at step 0.
fn correction(beta: f64, step: u64) -> f32 {
    let t = i32::try_from(step.saturating_add(1)).unwrap_or(i32::MAX);
    (1.0 - beta.powi(t)) as f32
}

fn at_least_zero(what: &str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 && value <= f64::from(f32::MAX) {
        return Ok(());
    }
    Err(Error::argument(what, "a finite number, 0 or more", value))
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
    fn hyper_parameters_out_of_range_are_named() {
        let wrong: [(Optimizer, &str); 8] = [
            (Sgd::new(f64::NAN).into(), "learning rate"),
            (Sgd::new(-0.1).into(), "learning rate"),
            (Sgd::new(0.1).momentum(1.0).into(), "momentum"),
            (Sgd::new(0.1).nesterov(true).into(), "nesterov"),
            (Sgd::new(0.1).weight_decay(-1.0).into(), "weight decay"),
            (Adam::new(0.1).betas(0.9, 1.0).into(), "beta2"),
            (Adam::new(0.1).epsilon(0.0).into(), "epsilon"),
            (AdamW::new(f64::INFINITY).into(), "learning rate"),
        ];
        for (optimizer, what) in wrong {
            let error = optimizer.check().unwrap_err();
            assert!(matches!(&error, Error::InvalidArgument { at, .. } if at == what), "{error}");
        }
        for right in [Sgd::new(0.0).into(), Optimizer::from(AdamW::new(1e-3))] {
            right.check().unwrap();
        }
    }

    #[test]
    fn corrections_count_from_one() {
        let scalars = Optimizer::from(Adam::new(0.01)).scalars(0, 5);
        assert_eq!((scalars.correction1, scalars.correction2, scalars.rows), (0.1, 0.001, 5));
        assert_eq!(Optimizer::from(Adam::new(0.01)).scalars(u64::MAX, 1).correction2, 1.0);
    }
}
