//! Going on from a file: with its flags, at its place.

use super::flags::{Flags, command};
use super::{Failure, TrainArgs, usage};
use clap::FromArgMatches;
use frazil::Error;
use frazil::checkpoint::Checkpoint;
use std::path::Path;

/// Flags of a resumed run that may be other than the file's: how long, where, and what is said.
const FREE: [&str; 8] =
    ["epochs", "out", "resume", "save-every", "cache-prefix", "json", "adapter", "backend"];

/// Flags that are not kept in a file, for they are of one machine or one call.
const NOT_KEPT: [&str; 6] = ["out", "resume", "cache-prefix", "json", "adapter", "backend"];

/// How far a run has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Whole epochs.
    pub epoch: u64,
    /// Batches of the next one.
    pub batch: u64,
}

impl Position {
    /// What the file says.
    pub fn read(checkpoint: &Checkpoint, path: &Path) -> Result<Self, Error> {
        let number = |name: &str| {
            let text = note(checkpoint, name, path)?;
            let why = || format!("note {name}: expected a number, got {text:?}");
            text.parse().map_err(|_| Error::Checkpoint { path: path.to_owned(), why: why() })
        };
        Ok(Position { epoch: number("epoch")?, batch: number("batch")? })
    }
}

/// What a file is to say of the run.
pub fn notes(flags: &Flags, at: Position) -> Vec<(&'static str, String)> {
    let mut kept = flags.clone();
    kept.retain(|long| !NOT_KEPT.contains(&long));
    let arguments = serde_json::Value::from(kept.arguments()).to_string();
    vec![("arguments", arguments), ("epoch", at.epoch.to_string()), ("batch", at.batch.to_string())]
}

/// The arguments of the file's run, with those that the command line may change; and all flags given for it.
pub fn merge(given: &Flags, file: &Checkpoint, path: &Path) -> Result<(TrainArgs, Flags), Failure> {
    let refused = |why: String| Error::Checkpoint { path: path.to_owned(), why };
    let text = note(file, "arguments", path)?;
    let broken = |error: &dyn std::fmt::Display| refused(format!("note arguments: {text:?}: {error}"));
    let arguments: Vec<String> = serde_json::from_str(text).map_err(|error| broken(&error))?;
    let matches = command().try_get_matches_from(&arguments).map_err(|error| broken(&error.kind()))?;
    let (mut flags, known) = (Flags::given(&matches), Flags::all(&matches));
    for (long, values) in given.iter() {
        if FREE.contains(&long) {
            flags.set(long, values);
        } else if !known.get(long).is_some_and(|old| same(old, values)) {
            let words = |values: Option<&[String]>| match values {
                None => "that it is not given".to_owned(),
                Some([]) => "that it is given".to_owned(),
                Some(values) => values.join(" "),
            };
            return usage(Err(Error::InvalidArgument {
                at: format!("--{long}"),
                expected: format!("{}, as in {}", words(known.get(long)), path.display()),
                got: if values.is_empty() { "it given".to_owned() } else { values.join(" ") },
            }));
        }
    }
    // The command line was parsed before, and so was the file's: together they may still exclude each other.
    let matches = command().try_get_matches_from(flags.arguments()).map_err(|error| broken(&error.kind()))?;
    let args = TrainArgs::from_arg_matches(&matches).map_err(|error| broken(&error.kind()))?;
    Ok((args, flags))
}

/// Equal text, or equal numbers.
fn same(old: &[String], new: &[String]) -> bool {
    let equal = |(a, b): (&String, &String)| {
        a == b || matches!((a.parse::<f64>(), b.parse::<f64>()), (Ok(a), Ok(b)) if a == b)
    };
    old.len() == new.len() && old.iter().zip(new).all(equal)
}

fn note<'a>(checkpoint: &'a Checkpoint, name: &str, path: &Path) -> Result<&'a str, Error> {
    let missing = || Error::Checkpoint {
        path: path.to_owned(),
        why: format!("expected the note {name} of a run of `frazil train`, got none"),
    };
    checkpoint.notes().get(&format!("note.{name}")).map(String::as_str).ok_or_else(missing)
}
