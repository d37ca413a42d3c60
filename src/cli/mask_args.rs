//! Masks that change during training.

use clap::Args;
use frazil::mask::Schedule;
use frazil::{Error, FreezeRule, Result, Trainer};

#[derive(Args)]
pub struct MaskArgs {
    /// Prune by a schedule: a glob over parameter paths, and constant:fraction=F, polynomial:final=F or cosine:fraction=F
    /// with begin, end and every in steps. Before each step that is due, the elements of smallest magnitude are set to 0
    /// and frozen, until that fraction of each tensor is. May be given several times.
    #[arg(long, value_name = "GLOB=SCHEDULE")]
    mask_schedule: Vec<String>,
}

/// Globs with their schedules.
pub struct MaskSchedules(Vec<(String, Schedule)>);

impl MaskArgs {
    /// Reads the flags.
    pub fn schedules(&self) -> Result<MaskSchedules> {
        let one = |text: &String| {
            let (glob, schedule) = text.split_once('=').ok_or_else(|| Error::InvalidArgument {
                at: "--mask-schedule".to_owned(),
                expected: "GLOB=SCHEDULE, such as '*.kernel=polynomial:final=0.9,begin=0,end=400,every=50'"
                    .to_owned(),
                got: text.clone(),
            })?;
            Ok((glob.to_owned(), Schedule::parse(schedule)?))
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
