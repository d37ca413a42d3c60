//! Comparison with the results of an earlier call.

use super::report::Row;
use super::workload::Workload;
use super::{Output, invalid};
use frazil::{Error, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Fields that identify a measurement. Lines that lack one, such as `structure`, have it equal to null.
const KEY: [&str; 7] = ["workload", "batch", "cached", "control", "frozen", "frozen_fraction", "structure"];

/// The lines of a file that `frazil bench --json` wrote on this adapter.
pub struct Old {
    file: PathBuf,
    lines: Vec<Value>,
}

impl Old {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::InvalidArgument`] for a line that is not a result, and if no line is from
    /// `adapter`.
    pub fn read(file: &Path, adapter: &str) -> Result<Self> {
        let text = std::fs::read(file).map_err(|source| Error::Io { path: file.to_owned(), source })?;
        let text = String::from_utf8_lossy(&text);
        let mut lines = Vec::new();
        let mut others: Vec<String> = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let at = || format!("--compare {}, line {}", file.display(), number + 1);
            let value: Value = serde_json::from_str(line)
                .map_err(|error| invalid(&at(), "a JSON line of `frazil bench --json`", error))?;
            // The time of one dispatch, printed with --profile.
            if value["operation"].is_string() {
                continue;
            }
            let time = value["median_step_ms"].as_f64().filter(|ms| ms.is_finite() && *ms > 0.0);
            let (Some(of), Some(_), Some(_)) = (value["adapter"].as_str(), value["workload"].as_str(), time)
            else {
                let expected =
                    "a result of `frazil bench --json` with adapter, workload and a positive median_step_ms";
                return Err(invalid(&at(), expected, excerpt(line)));
            };
            if of == adapter {
                lines.push(value);
            } else if !others.iter().any(|other| other == of) {
                others.push(of.to_owned());
            }
        }
        if lines.is_empty() {
            let got = if others.is_empty() { "no results".to_owned() } else { others.join("; ") };
            let expected = format!("results of this adapter, {adapter}");
            return Err(invalid(&format!("--compare {}", file.display()), &expected, got));
        }
        Ok(Old { file: file.to_owned(), lines })
    }

    /// Checks that there are results of all workloads, except of the convolutions, of which a call may leave out
    /// some, and that they are of one run.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a workload without results, or with several of the same variant.
    pub fn check(&self, workloads: &[(Workload, usize)]) -> Result<()> {
        for (workload, batch) in workloads {
            let name = format!("{workload}, batch {batch}");
            let of = |line: &&Value| line["workload"] == workload.to_string() && line["batch"] == *batch;
            let found: Vec<_> = self.lines.iter().filter(of).collect();
            if found.is_empty() && !matches!(workload, Workload::Convolution(_)) {
                return Err(self.missing(&name));
            }
            let repeated = |line: &&Value| found.iter().filter(|other| is_same(line, other)).count() > 1;
            if found.iter().any(repeated) {
                let got = format!("{}; keep those of one run", found.len());
                return Err(invalid(&self.at(), &format!("one line of {name} and variant"), got));
            }
        }
        Ok(())
    }

    /// Returns the old median step time of a result in milliseconds.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if there is no line of the same workload and variant.
    pub fn median(&self, row: &Row) -> Result<f64> {
        let new = row.json();
        let line = self.lines.iter().find(|line| is_same(line, &new));
        let time = line.and_then(|line| line["median_step_ms"].as_f64());
        time.ok_or_else(|| self.missing(&format!("{}, batch {}", row.name, row.batch)))
    }

    fn at(&self) -> String {
        format!("--compare {}", self.file.display())
    }

    fn missing(&self, wanted: &str) -> Error {
        let mut found: Vec<String> = Vec::new();
        for line in &self.lines {
            let name = format!("{}, batch {}", line["workload"].as_str().unwrap_or_default(), line["batch"]);
            if !found.contains(&name) {
                found.push(name);
            }
        }
        invalid(&self.at(), &format!("results of {wanted}"), found.join("; "))
    }
}

/// Whether two results are of the same workload and variant.
fn is_same(a: &Value, b: &Value) -> bool {
    KEY.iter().all(|field| value(a, field) == value(b, field))
}

/// A field of a result. Older versions have no `control` in lines with nothing frozen.
fn value<'a>(line: &'a Value, field: &str) -> &'a Value {
    match &line[field] {
        Value::Bool(false) => &Value::Null,
        value => value,
    }
}

/// The beginning of a line.
fn excerpt(line: &str) -> String {
    let short: String = line.chars().take(60).collect();
    if short.len() < line.len() { format!("{short}...") } else { short }
}

/// Prints the table of ratios, and returns the workloads whose ratio of the new to the old time exceeds `limit`.
pub fn print(output: &Output, old: &Old, rows: &[Row], limit: Option<f64>) -> Result<Vec<String>> {
    output.text(format!("\ncompared with {}:", old.file.display()))?;
    output.text(format!(
        "{:<44} {:>6} {:>10} {:>10} {:>9}",
        "workload", "batch", "old ms", "new ms", "new / old"
    ))?;
    let mut slower = Vec::new();
    for row in rows {
        let Some(before) = row.old else { continue };
        let ratio = row.median / before;
        let exceeds = limit.is_some_and(|limit| ratio > limit);
        let mark = if exceeds { "  slower than allowed" } else { "" };
        output.text(format!(
            "{:<44} {:>6} {before:>10.3} {:>10.3} {ratio:>9.2}{mark}",
            row.name, row.batch, row.median
        ))?;
        if exceeds {
            slower.push(format!("{} ({ratio:.2})", row.name));
        }
    }
    Ok(slower)
}
