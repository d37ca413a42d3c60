//! The optimizer's flags.

use clap::{Args, ValueEnum};
use frazil::{Adagrad, Adam, AdamW, Clip, Error, LrSchedule, Optimizer, RmsProp, Sgd};

#[derive(Args)]
#[command(next_help_heading = "Optimizer")]
pub struct OptimizerArgs {
    /// The rule of the updates.
    #[arg(long, value_enum, default_value = "sgd")]
    optimizer: Rule,
    /// Learning rate [default: 0.05 for sgd, 0.01 for adagrad, 0.001 for others].
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// Momentum, for sgd and rmsprop only [default: 0.9 for sgd, 0 for rmsprop].
    #[arg(long)]
    momentum: Option<f64>,
    /// Nesterov momentum, for sgd only.
    #[arg(long)]
    nesterov: bool,
    /// Divide by the deviation of the gradients around their mean, for rmsprop only.
    #[arg(long)]
    centered: bool,
    /// Weight decay: decoupled for adamw, coupled for all others [default: 0, 0.01 for adamw].
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Factor of the learning rate over the steps: constant, step:every=N,factor=F, cosine:total=N, one-cycle:total=N or
    /// polynomial:total=N,power=P; each takes warm-up=N and floor=F, as in cosine:total=2000,warm-up=100.
    #[arg(long, value_name = "SCHEDULE", default_value = "constant")]
    schedule: LrSchedule,
    /// Scale gradients down so that their norm over all trainable elements is at most this.
    #[arg(long, value_name = "NORM", conflicts_with = "clip_value")]
    clip_norm: Option<f64>,
    /// Cut each element of a gradient to this magnitude.
    #[arg(long, value_name = "SIZE")]
    clip_value: Option<f64>,
    /// Batches whose gradients make one update.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    accumulate: u16,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Rule {
    Sgd,
    Adam,
    Adamw,
    Amsgrad,
    Rmsprop,
    Adagrad,
}

impl Rule {
    /// The rule at this learning rate, with the defaults of all other flags.
    pub fn optimizer(self, learning_rate: f64) -> frazil::Result<Optimizer> {
        let defaults = OptimizerArgs {
            optimizer: self,
            lr: Some(learning_rate),
            momentum: None,
            nesterov: false,
            centered: false,
            weight_decay: None,
            schedule: LrSchedule::constant(),
            clip_norm: None,
            clip_value: None,
            accumulate: 1,
        };
        defaults.optimizer()
    }
}

impl OptimizerArgs {
    /// Batches of one update.
    pub fn accumulate(&self) -> usize {
        self.accumulate.into()
    }

    pub fn optimizer(&self) -> frazil::Result<Optimizer> {
        let only = |given: bool, what: &str, rules: &[Rule], expected: &str| {
            if !given || rules.contains(&self.optimizer) {
                return Ok(());
            }
            Err(Error::InvalidArgument {
                at: what.to_owned(),
                expected: expected.to_owned(),
                got: "another optimizer".to_owned(),
            })
        };
        let with_momentum = "--optimizer sgd or rmsprop";
        only(self.momentum.is_some(), "--momentum", &[Rule::Sgd, Rule::Rmsprop], with_momentum)?;
        only(self.nesterov, "--nesterov", &[Rule::Sgd], "--optimizer sgd")?;
        only(self.centered, "--centered", &[Rule::Rmsprop], "--optimizer rmsprop")?;
        let lr = |default: f64| self.lr.unwrap_or(default);
        let decay = self.weight_decay.unwrap_or(0.0);
        let mut optimizer: Optimizer = match self.optimizer {
            Rule::Sgd => Sgd::new(lr(0.05))
                .momentum(self.momentum.unwrap_or(0.9))
                .nesterov(self.nesterov)
                .weight_decay(decay)
                .into(),
            Rule::Adam => Adam::new(lr(0.001)).weight_decay(decay).into(),
            Rule::Adamw => AdamW::new(lr(0.001)).weight_decay(self.weight_decay.unwrap_or(0.01)).into(),
            Rule::Amsgrad => Adam::new(lr(0.001)).amsgrad(true).weight_decay(decay).into(),
            Rule::Rmsprop => RmsProp::new(lr(0.001))
                .momentum(self.momentum.unwrap_or(0.0))
                .centered(self.centered)
                .weight_decay(decay)
                .into(),
            Rule::Adagrad => Adagrad::new(lr(0.01)).weight_decay(decay).into(),
        };
        optimizer = optimizer.schedule(self.schedule);
        if let Some(max) = self.clip_norm {
            optimizer = optimizer.clip(Clip::norm(max));
        }
        if let Some(limit) = self.clip_value {
            optimizer = optimizer.clip(Clip::value(limit));
        }
        optimizer.check()?;
        Ok(optimizer)
    }
}
