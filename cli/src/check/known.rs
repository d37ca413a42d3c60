//! Failures that are known: those of a baseline, and those that a file of expected failures lists.

use super::lines::{AdapterLine, CaseLine, Change, ChangeLine, KernelLine, Line, SCHEMA};
use frazil::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use wildmatch::WildMatch;

/// The lines of an earlier call.
#[derive(Default)]
pub struct Baseline {
    adapter: Option<AdapterLine>,
    /// Whether each case in a variant passed.
    cases: BTreeMap<String, bool>,
    kernels: BTreeSet<String>,
}

impl Baseline {
    /// Reads a file of `frazil check --json`, or some of its lines.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::InvalidArgument`] for a line that `frazil check` does not write, and without an adapter.
    pub fn read(file: &Path) -> Result<Self> {
        let mut baseline = Baseline::default();
        for (at, text) in numbered_lines("--baseline", file)? {
            let expected = "a JSON line of `frazil check --json`";
            match serde_json::from_str(&text) {
                Ok(Line::Adapter(adapter)) => {
                    if adapter.schema != SCHEMA {
                        let expected = format!("schema {SCHEMA}; write the baseline again with this version");
                        return Err(invalid(&at, expected, adapter.schema));
                    }
                    baseline.adapter = Some(*adapter);
                }
                Ok(Line::Case(case)) => {
                    baseline.cases.insert(case.id(), case.passed());
                }
                Ok(Line::Kernel(kernel)) if kernel.runs > 0 => {
                    baseline.kernels.insert(kernel.kernel);
                }
                Ok(_) => {}
                // The last line of a call that failed.
                Err(_) if text.starts_with("{\"error\":") => {}
                Err(error) => return Err(invalid(&at, expected, format!("{error}: {}", excerpt(&text)))),
            }
        }
        if baseline.adapter.is_none() {
            let at = format!("--baseline {}", file.display());
            return Err(invalid(&at, "a line of type `adapter`", "none"));
        }
        Ok(baseline)
    }

    /// The facts about the adapter that have changed.
    pub fn facts(&self, now: &AdapterLine) -> Vec<ChangeLine> {
        let Some(old) = &self.adapter else { return Vec::new() };
        let mut facts = vec![
            ("adapter", old.adapter.clone(), now.adapter.clone()),
            ("driver", old.driver.clone(), now.driver.clone()),
            ("families", old.families.join(", "), now.families.join(", ")),
        ];
        for (name, value) in &now.floats {
            facts.push((name.as_str(), old.floats.get(name).cloned().unwrap_or_default(), value.clone()));
        }
        let changed = facts.into_iter().filter(|(_, old, new)| old != new);
        let line = |(name, old, new): (&str, String, String)| {
            let message = Some(format!("was {old:?}, is {new:?}"));
            ChangeLine { change: Change::Fact, of: name.to_owned(), message }
        };
        changed.map(line).collect()
    }

    /// How a result differs; `None` if it does not.
    pub fn change(&self, case: &CaseLine) -> Option<ChangeLine> {
        let of = case.id();
        match (self.cases.get(&of), case.passed()) {
            (Some(false), true) => Some(ChangeLine { change: Change::Fixed, of, message: None }),
            (Some(true) | None, false) => {
                Some(ChangeLine { change: Change::NewFailure, of, message: case.message.clone() })
            }
            _ => None,
        }
    }

    /// What was run, and is no longer; nothing if other cases are selected than for the baseline.
    pub fn missing(
        &self,
        selection: &str,
        run: &BTreeSet<String>,
        kernels: &[KernelLine],
    ) -> Vec<ChangeLine> {
        if self.adapter.as_ref().is_none_or(|adapter| adapter.selection != selection) {
            return Vec::new();
        }
        let now: BTreeSet<_> = kernels.iter().map(|kernel| &kernel.kernel).collect();
        let cases = self.cases.keys().filter(|case| !run.contains(*case));
        let kernels = self.kernels.iter().filter(|kernel| !now.contains(kernel));
        let line = |of: String| ChangeLine { change: Change::Missing, of, message: None };
        cases.cloned().chain(kernels.map(|kernel| format!("kernel {kernel}"))).map(line).collect()
    }
}

/// Expected failures: a glob of cases in variants per line; `#` begins a comment.
#[derive(Default)]
pub struct Expected {
    lines: Vec<Exemption>,
}

struct Exemption {
    text: String,
    failed: usize,
    /// The first case that matches and passes.
    passed: Option<String>,
}

impl Expected {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::InvalidArgument`] if it is not text.
    pub fn read(file: &Path) -> Result<Self> {
        let lines = numbered_lines("--expect", file)?.into_iter();
        let text = lines.map(|(_, line)| line.split('#').next().unwrap_or_default().trim().to_owned());
        let lines = text.filter(|text| !text.is_empty());
        Ok(Expected { lines: lines.map(|text| Exemption { text, failed: 0, passed: None }).collect() })
    }

    /// Counts a result, and returns whether it is a failure that is expected.
    pub fn count(&mut self, case: &CaseLine) -> bool {
        let id = case.id();
        let mut expected = false;
        let matches = |line: &&mut Exemption| {
            let glob = WildMatch::new(&line.text);
            glob.matches(&id) || glob.matches(&case.case)
        };
        for line in self.lines.iter_mut().filter(matches) {
            if case.passed() {
                line.passed.get_or_insert_with(|| id.clone());
            } else {
                line.failed += 1;
                expected = true;
            }
        }
        expected
    }

    /// The lines that exempt a case that does not fail.
    pub fn stale(&self) -> Vec<String> {
        let why = |line: &Exemption| match &line.passed {
            Some(case) => Some(format!("{}: {case} passes", line.text)),
            None if line.failed == 0 => Some(format!("{}: no such case was run", line.text)),
            None => None,
        };
        self.lines.iter().filter_map(why).collect()
    }
}

/// The lines of a text file that are not empty, each with the place that an error names.
fn numbered_lines(flag: &str, file: &Path) -> Result<Vec<(String, String)>> {
    let bytes = std::fs::read(file).map_err(|source| Error::Io { path: file.to_owned(), source })?;
    let text = String::from_utf8(bytes)
        .map_err(|error| invalid(&format!("{flag} {}", file.display()), "a text in UTF-8", error))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let numbered = lines
        .map(|(number, line)| (format!("{flag} {}, line {}", file.display(), number + 1), line.to_owned()));
    Ok(numbered.collect())
}

fn invalid(at: &str, expected: impl ToString, got: impl ToString) -> Error {
    Error::InvalidArgument { at: at.to_owned(), expected: expected.to_string(), got: got.to_string() }
}

fn excerpt(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    if short.len() < text.len() { format!("{short}...") } else { short }
}
