//! Flags of the optimizer.

use clap::{Args, ValueEnum};
use frazil::{Adagrad, Adam, AdamW, BiasCorrection, Clip, Error, LrSchedule, Optimizer, RmsProp, Sgd};

#[derive(Args)]
#[command(next_help_heading = "Optimizer")]
pub struct OptimizerArgs {
    /// Update rule.
    #[arg(long, value_enum, default_value = "sgd")]
    optimizer: Rule,
    /// Learning rate [default: 0.05 for sgd, 0.01 for adagrad, 0.001 otherwise].
    #[arg(long, value_name = "RATE")]
    lr: Option<f64>,
    /// Momentum; sgd and rmsprop only [default: 0.9 for sgd, 0 for rmsprop].
    #[arg(long)]
    momentum: Option<f64>,
    /// Nesterov momentum; sgd only.
    #[arg(long)]
    nesterov: bool,
    /// Normalize the gradient by an estimate of its variance instead of its second moment; rmsprop only.
    #[arg(long)]
    centered: bool,
    /// Weight decay: decoupled for adamw, coupled (L2) otherwise [default: 0.01 for adamw, 0 otherwise].
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Steps that the bias correction counts for an element that was frozen for a while: element-steps
    /// (those in which it was trained) or trainer-steps (all); adam, adamw and amsgrad only [default:
    /// element-steps].
    #[arg(long, value_name = "COUNT")]
    bias_correction: Option<BiasCorrection>,
    /// Learning-rate schedule: constant, step:every=N,factor=F, cosine:total=N, one-cycle:total=N or
    /// polynomial:total=N,power=P; each takes warm-up=N and floor=F, as in cosine:total=2000,warm-up=100.
    #[arg(long, value_name = "SCHEDULE", default_value = "constant")]
    schedule: LrSchedule,
    /// Clip gradients by their global L2 norm over all trainable elements.
    #[arg(long, value_name = "NORM", conflicts_with = "clip_value")]
    clip_norm: Option<f64>,
    /// Clip each gradient element to [-VALUE, VALUE].
    #[arg(long, value_name = "VALUE")]
    clip_value: Option<f64>,
    /// Accumulate the gradients of K batches for each update.
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
    /// The optimizer of this rule with the given learning rate and defaults otherwise.
    pub fn optimizer(self, learning_rate: f64) -> frazil::Result<Optimizer> {
        let defaults = OptimizerArgs {
            optimizer: self,
            lr: Some(learning_rate),
            momentum: None,
            nesterov: false,
            centered: false,
            weight_decay: None,
            bias_correction: None,
            schedule: LrSchedule::constant(),
            clip_norm: None,
            clip_value: None,
            accumulate: 1,
        };
        defaults.optimizer()
    }
}

impl OptimizerArgs {
    fn default_lr(&self) -> f64 {
        match self.optimizer {
            Rule::Sgd => 0.05,
            Rule::Adagrad => 0.01,
            Rule::Adam | Rule::Adamw | Rule::Amsgrad | Rule::Rmsprop => 0.001,
        }
    }

    /// `None` for a rule without momentum.
    fn default_momentum(&self) -> Option<f64> {
        match self.optimizer {
            Rule::Sgd => Some(0.9),
            Rule::Rmsprop => Some(0.0),
            Rule::Adam | Rule::Adamw | Rule::Amsgrad | Rule::Adagrad => None,
        }
    }

    fn default_weight_decay(&self) -> f64 {
        if self.optimizer == Rule::Adamw { 0.01 } else { 0.0 }
    }

    /// The defaults that depend on the update rule, by flag.
    pub fn implied(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("lr", self.default_lr().to_string()),
            ("weight-decay", self.default_weight_decay().to_string()),
        ];
        all.extend(self.default_momentum().map(|momentum| ("momentum", momentum.to_string())));
        all
    }

    /// Number of batches for each update.
    pub fn accumulate(&self) -> usize {
        self.accumulate.into()
    }

    pub fn optimizer(&self) -> frazil::Result<Optimizer> {
        // An error if a flag is given that the optimizer does not have.
        let only = |given: bool, flag: &str, rules: &[Rule], expected: &str| {
            if !given || rules.contains(&self.optimizer) {
                return Ok(());
            }
            let name = self.optimizer.to_possible_value().map_or(String::new(), |v| v.get_name().to_owned());
            Err(Error::InvalidArgument {
                at: flag.to_owned(),
                expected: expected.to_owned(),
                got: format!("--optimizer {name}"),
            })
        };
        let with_momentum = "--optimizer sgd or rmsprop";
        only(self.momentum.is_some(), "--momentum", &[Rule::Sgd, Rule::Rmsprop], with_momentum)?;
        only(self.nesterov, "--nesterov", &[Rule::Sgd], "--optimizer sgd")?;
        only(self.centered, "--centered", &[Rule::Rmsprop], "--optimizer rmsprop")?;
        let adam = [Rule::Adam, Rule::Adamw, Rule::Amsgrad];
        let with_correction = "--optimizer adam, adamw or amsgrad";
        only(self.bias_correction.is_some(), "--bias-correction", &adam, with_correction)?;
        let counts = self.bias_correction.unwrap_or_default();
        let lr = self.lr.unwrap_or(self.default_lr());
        let momentum = self.momentum.or(self.default_momentum()).unwrap_or(0.0);
        let decay = self.weight_decay.unwrap_or(self.default_weight_decay());
        let mut optimizer: Optimizer = match self.optimizer {
            Rule::Sgd => Sgd::new(lr).momentum(momentum).nesterov(self.nesterov).weight_decay(decay).into(),
            Rule::Adam => Adam::new(lr).weight_decay(decay).bias_correction(counts).into(),
            Rule::Adamw => AdamW::new(lr).weight_decay(decay).bias_correction(counts).into(),
            Rule::Amsgrad => Adam::new(lr).amsgrad(true).weight_decay(decay).bias_correction(counts).into(),
            Rule::Rmsprop => {
                RmsProp::new(lr).momentum(momentum).centered(self.centered).weight_decay(decay).into()
            }
            Rule::Adagrad => Adagrad::new(lr).weight_decay(decay).into(),
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
