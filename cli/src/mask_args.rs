//! Masks that change during training.

use super::at_flag;
use clap::Args;
use frazil::mask::MaskSchedule;
use frazil::{Error, FreezeRule, Result, Trainer};

/// Rules and schedules in `frazil train --help`, one example a line, in 80 columns: a narrower terminal breaks lines in two.
pub const RULES: &str = "\
Rules of --freeze, by example:
  all                    every element
  none                   no element: '*=none' freezes nothing
  random:0.5             half of each tensor, drawn by --seed
  smallest:0.5           the half of smallest magnitude; largest:0.5 likewise
  smallest-global:0.5    of all the glob's tensors together; largest-global:0.5
  random:0.5:trainable   half of what is not yet frozen; for any fraction above
  n-of-m:2:4             of 4 consecutive input channels, all but the 2 largest
  filters:0.25           a quarter of output channels, by L2 norm; :l1, :random
  filters:at:0,3         output channels 0 and 3
  input-channels:0.25    whole input channels, as filters
  input-channels:at:0    input channel 0
  position:1,1           one place (row, column) of the window
  block:0..3,0..3,0..1,4..8   ranges of rows, columns, channels in, channels out
  equal:0                elements of this value
  file:m.safetensors:mask.*   a mask in a file; * is the parameter's path

Schedules of --mask-schedule, by example:
  polynomial:final=0.9,end=400,every=50   from initial (0) to final by power (3)
  cosine:fraction=0.3,end=400             from the fraction down to 0
  constant:fraction=0.5,begin=200         the same at each time";

#[derive(Args)]
#[command(next_help_heading = "Frozen weights")]
pub struct MaskArgs {
    /// Freeze elements: a glob over parameter paths, and a rule, such as 'conv*.kernel=random:0.5'; `frazil train --help`
    /// lists the rules. May be given several times; any one replaces the default.
    #[arg(long, value_name = "GLOB=RULE", default_value = "conv*.kernel=random:0.5")]
    freeze: Vec<String>,
    /// Prune while training: a glob and a schedule of the fraction, such as
    /// '*.kernel=polynomial:final=0.9,begin=0,end=400,every=50'. Before each step that is due, the elements of smallest
    /// magnitude are set to 0 and frozen, until that fraction of each tensor is frozen. May be given several times.
    #[arg(long, value_name = "GLOB=SCHEDULE")]
    mask_schedule: Vec<String>,
}

/// Globs with their schedules.
pub struct MaskSchedules(Vec<(String, MaskSchedule)>);

impl MaskArgs {
    /// Globs with their rules.
    pub fn freezes(&self, seed: u64) -> Result<Vec<(String, FreezeRule)>> {
        let one = |text: &String| {
            let (glob, rule) = text.split_once('=').ok_or_else(|| Error::InvalidArgument {
                at: "--freeze".to_owned(),
                expected: "GLOB=RULE, such as 'conv*.kernel=random:0.5'".to_owned(),
                got: text.clone(),
            })?;
            let rule: FreezeRule = rule.parse().map_err(|error| at_flag("--freeze", error))?;
            Ok((glob.to_owned(), rule.seed(seed)))
        };
        self.freeze.iter().map(one).collect()
    }

    /// Reads the flags.
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
    /// Refuses globs that match nothing before training begins.
    pub fn check(&self, trainer: &mut Trainer) -> Result<()> {
        self.0.iter().try_for_each(|(glob, _)| trainer.freeze(glob, FreezeRule::none()).map(|_| ()))
    }

    /// Prunes what is due before the next step.
    pub fn apply(&self, trainer: &mut Trainer) -> Result<()> {
        for (glob, schedule) in &self.0 {
            if let Some(fraction) = schedule.at(trainer.steps()) {
                trainer.prune(glob, FreezeRule::smallest(fraction))?;
            }
        }
        Ok(())
    }
}
