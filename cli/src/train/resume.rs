//! Resuming a run: the flags, the identity and the position that a checkpoint stores.

use super::{Failure, TrainArgs, os_text, usage};
use crate::data::{CLASSES, NORMALIZE, Source};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use frazil::checkpoint::Checkpoint;
use frazil::data::{Augment, Normalize};
use frazil::low_level::Digest;
use frazil::mask::MaskSchedule;
use frazil::trainer::Metrics;
use frazil::{Error, FreezeRule, LrSchedule};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

/// Flags that may differ between a resumed run and its checkpoint: those that do not change results, and those
/// that freeze running statistics from there on.
const MAY_DIFFER: [&str; 19] = [
    "adapter-per-rank",
    "check-ranks-every",
    "rank-timeout",
    "epochs",
    "patience",
    "skip-bad",
    "workers",
    "out",
    "overwrite",
    "resume",
    "override",
    "save-every",
    "cache-prefix",
    "json",
    "adapter",
    "backend",
    "memory-budget",
    "freeze-statistics",
    "use-running-statistics",
];

/// Flags that are not stored in a checkpoint, because they concern a single machine or call.
const NOT_STORED: [&str; 13] = [
    "adapter-per-rank",
    "check-ranks-every",
    "rank-timeout",
    "out",
    "overwrite",
    "resume",
    "override",
    "workers",
    "cache-prefix",
    "json",
    "adapter",
    "backend",
    "memory-budget",
];

/// Stored flags on which the results of an epoch do not depend, or only by the contents of a file.
const NOT_IN_IDENTITY: [&str; 5] = ["data", "epochs", "patience", "save-every", "weights"];

/// Flags that a resumed run may change with --override.
const MAY_OVERRIDE: [&str; 4] = ["lr", "weight-decay", "schedule", "mask-schedule"];

/// Flags of `frazil train` by long name, with their values as text; a switch has no values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(BTreeMap<String, Vec<String>>);

/// The command line of `frazil train`, as clap describes it.
fn command() -> Command {
    TrainArgs::augment_args(Command::new("train")).no_binary_name(true)
}

impl Flags {
    /// The flags given on the command line.
    pub fn given(matches: &ArgMatches) -> Self {
        Self::collect(matches, false)
    }

    /// The flags given on the command line, and the defaults of the others, as far as these are constant or
    /// depend on other flags.
    fn effective(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::collect(matches, true);
        for (long, value) in TrainArgs::from_arg_matches(matches)?.implied() {
            flags.0.entry(long.to_owned()).or_insert_with(|| vec![value]);
        }
        Ok(flags)
    }

    fn collect(matches: &ArgMatches, defaults: bool) -> Self {
        let mut flags = Flags::default();
        for arg in command().get_arguments() {
            let Some(long) = arg.get_long() else { continue };
            let id = arg.get_id().as_str();
            // `--help` has no values.
            let Ok(Some(raw)) = matches.try_get_raw(id) else { continue };
            let given = matches.value_source(id) == Some(ValueSource::CommandLine);
            if given || (defaults && !is_switch(arg)) {
                let values = if is_switch(arg) { Vec::new() } else { raw.map(os_text::text).collect() };
                flags.0.insert(long.to_owned(), values);
            }
        }
        flags
    }

    /// The values of a flag; `None` if it was not given.
    fn get(&self, long: &str) -> Option<&[String]> {
        self.0.get(long).map(Vec::as_slice)
    }

    /// Names and values, sorted by name.
    fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(long, values)| (long.as_str(), values.as_slice()))
    }

    fn set(&mut self, long: &str, values: &[String]) {
        self.0.insert(long.to_owned(), values.to_vec());
    }

    fn without(&self, names: &[&str]) -> Self {
        Flags(self.0.iter().filter(|(long, _)| !names.contains(&long.as_str())).map(cloned).collect())
    }

    /// Arguments that parse to these flags.
    fn arguments(&self) -> Vec<String> {
        let one = |(long, values): (&String, &Vec<String>)| -> Vec<String> {
            if values.is_empty() {
                return vec![format!("--{long}")];
            }
            values.iter().map(|value| format!("--{long}={value}")).collect()
        };
        self.0.iter().flat_map(one).collect()
    }
}

fn cloned((long, values): (&String, &Vec<String>)) -> (String, Vec<String>) {
    (long.clone(), values.clone())
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// The position of a run in its training data.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Position {
    /// Completed epochs.
    pub epoch: u64,
    /// Completed batches of the next epoch.
    pub batch: u64,
    /// Metrics of these batches, if the run ended after them.
    pub partial: Option<Metrics>,
    /// The epoch with the lowest loss in the evaluation and this loss, with --patience.
    pub best: Option<(u64, f64)>,
}

impl Position {
    /// Reads the position from the notes of a checkpoint.
    pub fn read(checkpoint: &Checkpoint, path: &Path) -> Result<Self, Error> {
        let number = |name: &str| -> Result<u64, Error> {
            let text = note(checkpoint, name, path)?;
            let why = || format!("note {name}: expected a number, got {text:?}");
            text.parse().map_err(|error: std::num::ParseIntError| Error::Checkpoint {
                path: path.to_owned(),
                why: why(),
                source: Some(error.into()),
            })
        };
        let mut partial = None;
        if let Some(text) = optional_note(checkpoint, "partial") {
            let why = format!("note partial: expected a loss and two counts, got {text:?}");
            let refused = Error::Checkpoint { path: path.to_owned(), why, source: None };
            partial = Some(parse_metrics(text).ok_or(refused)?);
        }
        let mut best = None;
        if let Some(text) = optional_note(checkpoint, "best") {
            let parsed = text
                .split_once(' ')
                .and_then(|(epoch, loss)| Some((epoch.parse().ok()?, loss.parse().ok()?)));
            let why = format!("note best: expected an epoch and a loss, got {text:?}");
            let refused = Error::Checkpoint { path: path.to_owned(), why, source: None };
            best = Some(parsed.ok_or(refused)?);
        }
        Ok(Position { epoch: number("epoch")?, batch: number("batch")?, partial, best })
    }
}

/// Parses mean loss, correct examples and all examples.
fn parse_metrics(text: &str) -> Option<Metrics> {
    let [loss, correct, examples] = text.split(' ').collect::<Vec<_>>().try_into().ok()?;
    Some(Metrics {
        loss: loss.parse().ok()?,
        correct: Some(correct.parse().ok()?),
        examples: examples.parse().ok()?,
    })
}

/// What a checkpoint stores about its run, besides the position.
pub struct Record {
    /// The flags given, without defaults.
    pub flags: Flags,
    /// Identity of the run, the same in all its checkpoints and in each row of metrics.csv.
    pub run: String,
    /// Digest of the data.
    pub data: String,
    /// Flags that were changed by a resume, each with its position and both values.
    pub overrides: Vec<String>,
    /// Names of the classes.
    pub classes: Vec<String>,
    pub normalize: Normalize,
    /// Number of processes that train together.
    pub ranks: usize,
}

impl Record {
    /// Creates the record of a new run. Its identity covers all that the results depend on: the flags, the
    /// data, the adapter and the version of this program. Equal runs thus have equal identities.
    pub fn new(flags: Flags, data: String, adapter: &str) -> Result<Self, Failure> {
        let refused = |error: clap::Error| {
            let (at, expected, got) = ("arguments".to_owned(), "valid flags".to_owned(), error.to_string());
            Failure::Usage(Error::InvalidArgument { at, expected, got })
        };
        let matches = command().try_get_matches_from(flags.arguments()).map_err(refused)?;
        let effective = Flags::effective(&matches).map_err(refused)?.without(&NOT_STORED);
        let arguments = effective.without(&NOT_IN_IDENTITY).arguments();
        let text = format!("{}\n{data}\n{adapter}\n{arguments:?}", env!("CARGO_PKG_VERSION"));
        let run = format!("{:016x}", Digest::of(text.bytes().map(u32::from).enumerate()).value());
        let (overrides, classes, normalize) = (Vec::new(), Vec::new(), Normalize::none());
        Ok(Record { flags, run, data, overrides, classes, normalize, ranks: 1 })
    }

    /// The notes that store this record and a position in a checkpoint.
    pub fn notes(&self, at: Position) -> Vec<(&'static str, String)> {
        let list = |lines: Vec<String>| serde_json::Value::from(lines).to_string();
        let mut notes = vec![
            ("arguments", list(self.flags.without(&NOT_STORED).arguments())),
            ("run", self.run.clone()),
            ("data", self.data.clone()),
            ("epoch", at.epoch.to_string()),
            ("batch", at.batch.to_string()),
            (CLASSES, list(self.classes.clone())),
            (NORMALIZE, self.normalize.to_string()),
        ];
        if let Some((epoch, loss)) = at.best {
            notes.push(("best", format!("{epoch} {loss}")));
        }
        if self.ranks > 1 {
            notes.push(("ranks", self.ranks.to_string()));
        }
        if !self.overrides.is_empty() {
            notes.push(("overrides", list(self.overrides.clone())));
        }
        if let Some(Metrics { loss, correct, examples, .. }) = at.partial {
            notes.push(("partial", format!("{loss} {} {examples}", correct.unwrap_or(0))));
        }
        notes
    }
}

/// A run to resume.
pub struct Resumed {
    /// The flags of the checkpoint, with those of the command line that differ.
    pub args: TrainArgs,
    pub flags: Flags,
    pub at: Position,
    /// Identity of the run and digest of its data; `None` in a file of an earlier version.
    pub run: Option<String>,
    pub data: Option<String>,
    pub overrides: Vec<String>,
    /// Whether flags are changed by this resume.
    pub overridden: bool,
    /// Number of processes of the run before.
    pub ranks: usize,
}

/// Combines the flags of the command line with those of the checkpoint.
///
/// # Errors
/// - [`Failure::Usage`] for a flag that differs from the checkpoint and may not;
/// - [`Error::Checkpoint`] if the file lacks the notes of `frazil train`, or they do not parse.
pub fn merge(given: &Flags, file: &Checkpoint, path: &Path) -> Result<Resumed, Failure> {
    let refused = |why: String| Error::Checkpoint { path: path.to_owned(), why, source: None };
    let text = note(file, "arguments", path)?;
    let broken = |error: &dyn Display| refused(format!("note arguments: {text:?}: {error}"));
    let arguments: Vec<String> = serde_json::from_str(text).map_err(|error| broken(&error))?;
    let matches = command().try_get_matches_from(&arguments).map_err(|error| broken(&error.kind()))?;
    let mut flags = Flags::given(&matches);
    let stored = Flags::effective(&matches).map_err(|error| broken(&error.kind()))?;
    let at = Position::read(file, path)?;
    let data = optional_note(file, "data").map(str::to_owned);
    let mut overrides: Vec<String> = match optional_note(file, "overrides") {
        Some(text) => serde_json::from_str(text)
            .map_err(|error| refused(format!("note overrides: {text:?}: {error}")))?,
        None => Vec::new(),
    };
    let before = overrides.len();
    for (long, values) in given.iter() {
        let old = stored.get(long);
        // The digest, not the place, tells whether the data are the same.
        let moved_data = long == "data" && data.is_some() && same_kind(old, values);
        if MAY_DIFFER.contains(&long) || moved_data {
            flags.set(long, values);
            continue;
        }
        if old.is_some_and(|old| same(long, old, values)) {
            continue;
        }
        let text = |values: Option<&[String]>| match values {
            None => "the flag to be absent".to_owned(),
            Some([]) => "the flag".to_owned(),
            Some(values) => values.join(" "),
        };
        let may_override = MAY_OVERRIDE.contains(&long);
        if may_override && given.get("override").is_some() {
            let old = old.map_or("none".to_owned(), |old| old.join(" "));
            overrides.push(format!(
                "after epoch {}, batch {}: --{long} {old} -> {}",
                at.epoch,
                at.batch,
                values.join(" ")
            ));
            flags.set(long, values);
            continue;
        }
        let advice = if may_override {
            "add --override to continue with another value"
        } else {
            "start a new run, without --resume, to change it"
        };
        return usage(Err(Error::InvalidArgument {
            at: format!("--{long}"),
            expected: format!("{}, as in {} ({advice})", text(old), path.display()),
            got: text(Some(values)),
        }));
    }
    // Both sets of flags were parsed before, but their combination may still be in conflict.
    let matches = command().try_get_matches_from(flags.arguments()).map_err(|error| broken(&error.kind()))?;
    let args = TrainArgs::from_arg_matches(&matches).map_err(|error| broken(&error.kind()))?;
    let run = optional_note(file, "run").map(str::to_owned);
    let overridden = overrides.len() > before;
    let ranks = optional_note(file, "ranks").and_then(|text| text.parse().ok()).unwrap_or(1);
    Ok(Resumed { args, flags, at, run, data, overrides, overridden, ranks })
}

/// Whether values of a flag have the same meaning.
fn same(long: &str, old: &[String], new: &[String]) -> bool {
    let canonical = |values: &[String]| values.iter().map(|value| canonical(long, value)).collect::<Vec<_>>();
    canonical(old) == canonical(new)
}

/// Returns the one text of all values of a flag that have the same meaning.
fn canonical(long: &str, value: &str) -> String {
    fn parsed<T: std::str::FromStr + Display>(text: &str) -> Option<String> {
        text.parse::<T>().ok().map(|value| value.to_string())
    }
    fn after_glob<T: std::str::FromStr + Display>(text: &str) -> Option<String> {
        let (glob, rest) = text.split_once('=')?;
        Some(format!("{glob}={}", parsed::<T>(rest)?))
    }
    let canonical = match long {
        "schedule" => parsed::<LrSchedule>(value),
        "freeze" => after_glob::<FreezeRule>(value),
        "mask-schedule" => after_glob::<MaskSchedule>(value),
        "normalize" => parsed::<Normalize>(value),
        "augment" => parsed::<Augment>(value),
        _ => parsed::<u64>(value).or_else(|| parsed::<f64>(value)),
    };
    canonical.unwrap_or_else(|| value.to_owned())
}

/// Whether both name data sets of one kind.
fn same_kind(old: Option<&[String]>, new: &[String]) -> bool {
    let kind = |values: &[String]| {
        values.first().and_then(|value| Source::parse(value).ok()).map(|source| source.name())
    };
    old.is_some_and(|old| kind(old).is_some() && kind(old) == kind(new))
}

/// A note of the checkpoint that `frazil train` writes.
fn note<'a>(checkpoint: &'a Checkpoint, name: &str, path: &Path) -> Result<&'a str, Error> {
    optional_note(checkpoint, name).ok_or_else(|| Error::Checkpoint {
        path: path.to_owned(),
        why: format!("expected the note {name} of a checkpoint of `frazil train`, got none"),
        source: None,
    })
}

fn optional_note<'a>(checkpoint: &'a Checkpoint, name: &str) -> Option<&'a str> {
    checkpoint.notes().get(&format!("note.{name}")).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn values_are_compared_by_meaning() {
        let same = |long: &str, old: &str, new: &str| same(long, &[old.to_owned()], &[new.to_owned()]);
        assert!(same("lr", "0.002", "2e-3") && !same("lr", "0.002", "0.003"));
        // These seeds are equal as f64.
        assert!(!same("seed", "9007199254740993", "9007199254740992"));
        assert!(same("schedule", "cosine:total=9", "cosine:total=9,floor=0"));
        assert!(!same("schedule", "cosine:total=9", "cosine:total=8"));
        assert!(same("freeze", "conv*=random:0.5", "conv*=random:0.50"));
        assert!(!same("freeze", "conv*=random:0.5", "conv?=random:0.5"));
        let schedule = |end| format!("*=polynomial:final=0.9,end={end}");
        assert!(same("mask-schedule", &schedule("400,every=1"), &schedule("400")));
        assert!(!same("mask-schedule", &schedule("400"), &schedule("500")));
        assert!(!same("optimizer", "sgd", "adam"));
    }
}
