//! Resuming a run: the flags and the position that a checkpoint stores.

use super::{Failure, TrainArgs, os_text, usage};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use frazil::Error;
use frazil::checkpoint::Checkpoint;
use std::collections::BTreeMap;
use std::path::Path;

/// Flags that may differ between a resumed run and its checkpoint: those that do not change results, and those
/// that freeze running statistics from there on.
const MAY_DIFFER: [&str; 10] = [
    "epochs",
    "out",
    "resume",
    "save-every",
    "cache-prefix",
    "json",
    "adapter",
    "backend",
    "freeze-statistics",
    "use-running-statistics",
];

/// Flags that are not stored in a checkpoint, because they concern a single machine or call.
const NOT_STORED: [&str; 6] = ["out", "resume", "cache-prefix", "json", "adapter", "backend"];

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

    /// The flags given on the command line, and defaults for the others.
    fn all(matches: &ArgMatches) -> Self {
        Self::collect(matches, true)
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

    fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|long, _| keep(long));
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

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// The position of a run in its training data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Completed epochs.
    pub epoch: u64,
    /// Completed batches of the next epoch.
    pub batch: u64,
}

impl Position {
    /// Reads the position from the notes of a checkpoint.
    pub fn read(checkpoint: &Checkpoint, path: &Path) -> Result<Self, Error> {
        let number = |name: &str| {
            let text = note(checkpoint, name, path)?;
            let why = || format!("note {name}: expected a number, got {text:?}");
            text.parse().map_err(|error: std::num::ParseIntError| Error::Checkpoint {
                path: path.to_owned(),
                why: why(),
                source: Some(error.into()),
            })
        };
        Ok(Position { epoch: number("epoch")?, batch: number("batch")? })
    }
}

/// The notes that store flags and position in a checkpoint.
pub fn notes(flags: &Flags, at: Position) -> Vec<(&'static str, String)> {
    let mut stored = flags.clone();
    stored.retain(|long| !NOT_STORED.contains(&long));
    let arguments = serde_json::Value::from(stored.arguments()).to_string();
    vec![("arguments", arguments), ("epoch", at.epoch.to_string()), ("batch", at.batch.to_string())]
}

/// Combines the flags of the command line with those of the checkpoint; returns the arguments and all flags
/// given.
///
/// # Errors
/// - [`Failure::Usage`] for a flag that differs from the checkpoint and is not in [`MAY_DIFFER`];
/// - [`Error::Checkpoint`] if the file has no such notes or they do not parse.
pub fn merge(given: &Flags, file: &Checkpoint, path: &Path) -> Result<(TrainArgs, Flags), Failure> {
    let refused = |why: String| Error::Checkpoint { path: path.to_owned(), why, source: None };
    let text = note(file, "arguments", path)?;
    let broken = |error: &dyn std::fmt::Display| refused(format!("note arguments: {text:?}: {error}"));
    let arguments: Vec<String> = serde_json::from_str(text).map_err(|error| broken(&error))?;
    let matches = command().try_get_matches_from(&arguments).map_err(|error| broken(&error.kind()))?;
    let (mut flags, stored) = (Flags::given(&matches), Flags::all(&matches));
    for (long, values) in given.iter() {
        if MAY_DIFFER.contains(&long) {
            flags.set(long, values);
        } else if !stored.get(long).is_some_and(|old| same(old, values)) {
            let text = |values: Option<&[String]>| match values {
                None => "the flag to be absent".to_owned(),
                Some([]) => "the flag".to_owned(),
                Some(values) => values.join(" "),
            };
            return usage(Err(Error::InvalidArgument {
                at: format!("--{long}"),
                expected: format!("{}, as in {}", text(stored.get(long)), path.display()),
                got: text(Some(values)),
            }));
        }
    }
    // Both sets of flags were parsed before, but their combination may still be in conflict.
    let matches = command().try_get_matches_from(flags.arguments()).map_err(|error| broken(&error.kind()))?;
    let args = TrainArgs::from_arg_matches(&matches).map_err(|error| broken(&error.kind()))?;
    Ok((args, flags))
}

/// Whether values are equal as text or as numbers.
fn same(old: &[String], new: &[String]) -> bool {
    let equal = |(a, b): (&String, &String)| {
        a == b || matches!((a.parse::<f64>(), b.parse::<f64>()), (Ok(a), Ok(b)) if a == b)
    };
    old.len() == new.len() && old.iter().zip(new).all(equal)
}

/// A note of the checkpoint that `frazil train` writes.
fn note<'a>(checkpoint: &'a Checkpoint, name: &str, path: &Path) -> Result<&'a str, Error> {
    let missing = || Error::Checkpoint {
        path: path.to_owned(),
        why: format!("expected the note {name} of a checkpoint of `frazil train`, got none"),
        source: None,
    };
    checkpoint.notes().get(&format!("note.{name}")).map(String::as_str).ok_or_else(missing)
}
