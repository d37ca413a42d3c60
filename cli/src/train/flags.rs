//! Flags as they were given, so that a file can say how its run was made.

use super::TrainArgs;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command};
use std::collections::BTreeMap;

/// The values of each flag by its long name, as text; a switch has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(BTreeMap<String, Vec<String>>);

/// The command whose flags these are.
pub fn command() -> Command {
    TrainArgs::augment_args(Command::new("train")).no_binary_name(true)
}

impl Flags {
    /// Those of the command line itself.
    pub fn given(matches: &ArgMatches) -> Self {
        Self::collect(matches, false)
    }

    /// Those of the command line, and the defaults of the others.
    pub fn all(matches: &ArgMatches) -> Self {
        Self::collect(matches, true)
    }

    fn collect(matches: &ArgMatches, defaults: bool) -> Self {
        let mut flags = Flags::default();
        for arg in command().get_arguments() {
            let Some(long) = arg.get_long() else { continue };
            let id = arg.get_id().as_str();
            // Help is no flag of a run, and its values are not there to be asked for.
            let Ok(Some(raw)) = matches.try_get_raw(id) else { continue };
            let given = matches.value_source(id) == Some(ValueSource::CommandLine);
            if given || (defaults && !is_switch(arg)) {
                let values = if is_switch(arg) {
                    Vec::new()
                } else {
                    raw.map(|value| value.to_string_lossy().into_owned()).collect()
                };
                flags.0.insert(long.to_owned(), values);
            }
        }
        flags
    }

    /// The values of one flag; `None` if it was not given.
    pub fn get(&self, long: &str) -> Option<&[String]> {
        self.0.get(long).map(Vec::as_slice)
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(long, values)| (long.as_str(), values.as_slice()))
    }

    /// Sets a flag.
    pub fn set(&mut self, long: &str, values: &[String]) {
        self.0.insert(long.to_owned(), values.to_vec());
    }

    /// Leaves only those that `keep` wants.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|long, _| keep(long));
    }

    /// As arguments that parse to the same.
    pub fn arguments(&self) -> Vec<String> {
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
