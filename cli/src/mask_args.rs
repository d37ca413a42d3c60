//! Flags of masks: rules that freeze weights before training, and schedules that prune during training.

use super::{at_flag, os_text};
use clap::Args;
use frazil::mask::MaskSchedule;
use frazil::{Error, FreezeRule, Model, Result, Trainer};

/// Help text of rules and schedules, one example a line. At most 80 columns, as clap would wrap longer lines.
pub const RULES: &str = "\
Rules of --freeze, by example:
  all                    all elements
  none                   no element: '*=none' freezes nothing
  random:0.5             half of each tensor, at random (--seed)
  smallest:0.5           the half of smallest magnitude; also largest:0.5
  smallest-global:0.5    over all matching tensors; also largest-global:0.5
  random:0.5:trainable   half of the trainable elements; for any fraction above
  top-score:0.05         all but the 5 % of largest gradients on 1,024 examples
  top-score:0.05:squared-gradient   of largest Fisher information (FISH)
  top-score:0.05:weight-gradient    of largest change of the loss (SNIP)
  top-score-global:0.05   over all matching tensors; also top-moved-global
  top-moved:0.05:b.safetensors   all but the 5 % that differ most from a file
  n-of-m:2:4             of 4 consecutive input channels, all but the 2 largest
  filters:0.25           a quarter of output channels, by L2 norm; :l1, :random
  filters:at:0,3         output channels 0 and 3
  input-channels:0.25    whole input channels; options as of filters
  input-channels:at:0    input channel 0
  position:1,1           kernel position (row, column), in all channels
  block:0..3,0..3,0..1,4..8   rows, columns, input channels, output channels
  equal:0                elements equal to this value
  file:m.safetensors:mask.*   a mask in a file; * is the parameter's path

Schedules of --mask-schedule, by example:
  polynomial:final=0.9,end=400,every=50   from initial (0) to final, power (3)
  cosine:fraction=0.3,end=400             from fraction to 0
  constant:fraction=0.5,begin=200         the same fraction at each step";

#[derive(Args)]
#[command(next_help_heading = "Frozen weights")]
pub struct MaskArgs {
    /// Freeze the elements that RULE selects in each parameter whose path matches GLOB, as in
    /// 'conv*.kernel=random:0.5'; `frazil train --help` lists the rules. May be repeated; replaces the
    /// default [default: conv*.kernel=random:0.5, with --weights nothing].
    #[arg(long, value_name = "GLOB=RULE", value_parser = os_text::parser())]
    freeze: Vec<String>,
    /// Freeze the running statistics of the batch norms that GLOB matches, as in 'bn1' or '*'. May be
    /// repeated.
    #[arg(long, value_name = "GLOB")]
    freeze_statistics: Vec<String>,
    /// Normalize by the running statistics in training, too, in the batch norms that GLOB matches, and freeze
    /// these statistics. May be repeated.
    #[arg(long, value_name = "GLOB")]
    use_running_statistics: Vec<String>,
    /// Prune during training: at each step of SCHEDULE, set the elements of smallest magnitude to 0 and
    /// freeze them, until the scheduled fraction of each matching parameter is frozen, as in
    /// '*.kernel=polynomial:final=0.9,begin=0,end=400,every=50'. May be repeated.
    #[arg(long, value_name = "GLOB=SCHEDULE")]
    mask_schedule: Vec<String>,
}

/// Pairs of a glob over parameter paths and its schedule.
pub struct MaskSchedules(Vec<(String, MaskSchedule)>);

/// The default of `--freeze` in a run that does not begin with given weights.
pub const DEFAULT_FREEZE: &str = "conv*.kernel=random:0.5";

impl MaskArgs {
    /// Parses `--freeze`, or `default` if it is not given, into pairs of glob and rule.
    pub fn freezes(&self, default: Option<&str>, seed: u64) -> Result<Vec<(String, FreezeRule)>> {
        let one = |text: &str| {
            let (glob, rule) = text.split_once('=').ok_or_else(|| Error::InvalidArgument {
                at: "--freeze".to_owned(),
                expected: "GLOB=RULE, such as 'conv*.kernel=random:0.5'".to_owned(),
                got: text.to_owned(),
            })?;
            let file = rule.strip_prefix("file:").and_then(|file| file.rsplit_once(':'));
            let moved = rule.strip_prefix("top-moved").and_then(|rest| rest.split_once(':'));
            let moved = moved.and_then(|(global, rest)| {
                let (fraction, path) = rest.split_once(':').filter(|(_, path)| !path.is_empty())?;
                let rule = FreezeRule::top_moved(fraction.parse().ok()?, os_text::path(path));
                match global {
                    "" => Some(rule),
                    "-global" => Some(rule.global()),
                    _ => None,
                }
            });
            let file = file.filter(|(path, tensor)| !path.is_empty() && !tensor.is_empty());
            let rule = match (file, moved) {
                (Some((path, tensor)), _) => FreezeRule::from_file(os_text::path(path), tensor),
                (_, Some(rule)) => rule,
                _ => rule.parse().map_err(|error| at_flag("--freeze", error))?,
            };
            Ok((glob.to_owned(), rule.seed(seed)))
        };
        let default = default.filter(|_| self.freeze.is_empty());
        self.freeze.iter().map(String::as_str).chain(default).map(one).collect()
    }

    /// Returns the model with the batch norms of `--use-running-statistics` set.
    pub fn model(&self, model: Model) -> Result<Model> {
        self.use_running_statistics.iter().try_fold(model, |model, glob| model.use_running_statistics(glob))
    }

    /// Freezes the running statistics of both flags.
    pub fn freeze_statistics(&self, trainer: &mut Trainer) -> Result<()> {
        let mut globs = self.freeze_statistics.iter().chain(&self.use_running_statistics);
        globs.try_for_each(|glob| trainer.freeze_statistics(glob))
    }

    /// Parses `--mask-schedule`.
    pub fn schedules(&self) -> Result<MaskSchedules> {
        let one = |text: &String| {
            let (glob, schedule) = text.split_once('=').ok_or_else(|| Error::InvalidArgument {
                at: "--mask-schedule".to_owned(),
                expected: "GLOB=SCHEDULE, such as '*.kernel=polynomial:final=0.9,begin=0,end=400,every=50'"
                    .to_owned(),
                got: text.clone(),
            })?;
            let schedule: MaskSchedule =
                schedule.parse().map_err(|error| at_flag("--mask-schedule", error))?;
            Ok((glob.to_owned(), schedule))
        };
        Ok(MaskSchedules(self.mask_schedule.iter().map(one).collect::<Result<_>>()?))
    }
}

impl MaskSchedules {
    /// Returns an error if a glob matches no parameter.
    pub fn check(&self, trainer: &mut Trainer) -> Result<()> {
        self.0.iter().try_for_each(|(glob, _)| trainer.freeze(glob, FreezeRule::none()).map(|_| ()))
    }

    /// Applies the schedules that are due before the next step; returns whether there are any.
    pub fn apply(&self, trainer: &mut Trainer) -> Result<bool> {
        let mut applied = false;
        for (glob, schedule) in &self.0 {
            if let Some(fraction) = schedule.at(trainer.steps()) {
                trainer.prune(glob, FreezeRule::smallest(fraction))?;
                applied = true;
            }
        }
        Ok(applied)
    }
}
