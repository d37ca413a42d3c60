//! Prints the results of `frazil check` as they arrive, and writes the files for CI systems at the end.

use super::CheckArgs;
use super::known::{Baseline, Expected};
use super::lines::{AdapterLine, CaseLine, Change, ChangeLine, KernelLine, Line, RunLine, SummaryLine};
use crate::Failure;
use crate::output::Output;
use frazil::{Error, Result};
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Failures that a report in Markdown lists; the others are counted.
const LISTED: usize = 50;

/// Runs after which the command that reproduces a flaky case gives up.
const FLAKY_RUNS: u32 = 100;

/// All results so far.
pub struct Report<'a> {
    args: &'a CheckArgs,
    output: Output,
    bar: ProgressBar,
    begun: Instant,
    baseline: Option<Baseline>,
    expected: Expected,
    adapter: Option<Box<AdapterLine>>,
    cases: Vec<CaseLine>,
    /// Indices of cases that fail and are not known to.
    unknown: Vec<usize>,
    known: usize,
    changes: Vec<ChangeLine>,
}

impl<'a> Report<'a> {
    pub fn new(args: &'a CheckArgs) -> Result<Self> {
        let bar = ProgressBar::new(0);
        // The template is constant and valid; otherwise the default style is used.
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} cases {eta:>4} left  {msg}") {
            bar.set_style(style);
        }
        Ok(Report {
            args,
            output: Output::new(args.json),
            bar,
            begun: Instant::now(),
            baseline: args.baseline.as_deref().map(Baseline::read).transpose()?,
            expected: args.expect.as_deref().map(Expected::read).transpose()?.unwrap_or_default(),
            adapter: None,
            cases: Vec::new(),
            unknown: Vec::new(),
            known: 0,
            changes: Vec::new(),
        })
    }

    fn text(&self, line: impl std::fmt::Display) -> Result<()> {
        self.bar.suspend(|| self.output.text(line))
    }

    fn json(&self, line: &Line) -> Result<()> {
        self.bar.suspend(|| self.output.json(&line.to_json()))
    }

    /// Prints the adapter. A worker that was started again repeats it.
    pub fn adapter(&mut self, adapter: Box<AdapterLine>) -> Result<()> {
        if self.adapter.is_some() {
            return Ok(());
        }
        self.bar.set_length(adapter.cases as u64);
        let of = &adapter;
        self.text(format!("adapter: {} ({}), {}", of.adapter, of.backend, of.driver))?;
        self.text(format!("shader compiler: {}", of.shader_compiler))?;
        self.text(format!("families: {}", of.families.join(", ")))?;
        let subgroup = of.subgroup.map_or("none".to_owned(), |[least, most]| format!("{least} to {most}"));
        self.text(format!(
            "limits: subgroups {subgroup}, bindings of {} MiB, buffers of {} MiB, {} storage buffers, {} KiB of workgroup \
             memory, {} invocations",
            of.max_binding_bytes >> 20,
            of.max_buffer_bytes >> 20,
            of.max_storage_buffers,
            of.max_workgroup_memory_bytes >> 10,
            of.max_invocations
        ))?;
        let floats: Vec<_> = of.floats.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        self.text(format!("floats: {}", floats.join("; ")))?;
        self.json(&Line::Adapter(adapter.clone()))?;
        for change in self.baseline.iter().flat_map(|baseline| baseline.facts(&adapter)).collect::<Vec<_>>() {
            self.change(change)?;
        }
        self.adapter = Some(adapter);
        Ok(())
    }

    /// Shows which case runs.
    pub fn begin(&self, run: &RunLine) {
        self.bar.set_position(run.position[0] as u64);
        self.bar.set_message(run.case.clone());
    }

    /// Prints a result and counts it.
    pub fn case(&mut self, case: CaseLine) -> Result<()> {
        let change = self.baseline.as_ref().and_then(|baseline| baseline.change(&case));
        let is_new =
            self.baseline.is_none() || change.as_ref().is_some_and(|c| c.change == Change::NewFailure);
        let expected = self.expected.count(&case);
        if !case.passed() {
            if is_new && !expected {
                self.unknown.push(self.cases.len());
            } else {
                self.known += 1;
            }
        }
        if self.args.prints(&case) {
            self.text(line_of(&case, expected))?;
        }
        self.json(&Line::Case(Box::new(case.clone())))?;
        self.cases.push(case);
        if let Some(change) = change.filter(|change| change.change == Change::Fixed || !expected) {
            self.change(change)?;
        }
        Ok(())
    }

    fn change(&mut self, change: ChangeLine) -> Result<()> {
        let what = match change.change {
            Change::NewFailure => "new failure",
            Change::Fixed => "fixed",
            Change::Missing => "missing",
            Change::Fact => "changed",
        };
        let message = change.message.as_ref().map(|message| format!(": {message}")).unwrap_or_default();
        self.text(format!("{what}: {}{message}", change.of))?;
        self.json(&Line::Change(change.clone()))?;
        self.changes.push(change);
        Ok(())
    }

    /// Prints the kernels and the verdict, and writes the files. `unfinished` says why cases were not run.
    pub fn finish(mut self, unfinished: Option<String>) -> std::result::Result<(), Failure> {
        self.bar.finish_and_clear();
        if self.cases.is_empty() && unfinished.is_none() {
            return crate::usage(Err(Error::InvalidArgument {
                at: "the selection".to_owned(),
                expected:
                    "cases of the selected kernels and operations, as `frazil check --list` prints them"
                        .to_owned(),
                got: format!("none that matches {}", self.args.selection()),
            }));
        }
        let kernels = kernels(&self.cases);
        if let (Some(baseline), None) = (&self.baseline, &unfinished) {
            let run = self.cases.iter().map(CaseLine::id).collect();
            for change in baseline.missing(&self.args.selection(), &run, &kernels) {
                self.change(change)?;
            }
        }
        let stale = if unfinished.is_some() { Vec::new() } else { self.expected.stale() };
        self.print_kernels(&kernels)?;
        for line in &stale {
            self.text(format!("stale expectation: {line}"))?;
        }
        let summary = self.summary(&stale, unfinished.as_deref());
        if let Some(file) = &self.args.junit {
            write(file, &self.junit(&summary))?;
        }
        if let Some(file) = &self.args.markdown {
            write(file, &self.markdown(&summary, &kernels, unfinished.as_deref()))?;
        }
        if let Some(file) = &self.args.write_baseline {
            write(file, &self.baseline_lines(&summary, &kernels))?;
        }
        self.print_verdict(&summary, unfinished.as_deref())?;
        self.json(&Line::Summary(Box::new(summary.clone())))?;
        self.result(&summary, &kernels, unfinished)
    }

    fn print_kernels(&self, kernels: &[KernelLine]) -> Result<()> {
        self.text(format!("{:<28} {:>6}  {:>22}  {}", "kernel", "runs", "max error / bound", "verdict"))?;
        for kernel in kernels {
            let verdict = if kernel.passed { "pass" } else { "FAIL" };
            let worst = kernel.worst_of_bound.map_or("-".to_owned(), |worst| format!("{worst:.3}"));
            self.text(format!("{:<28} {:>6}  {worst:>22}  {verdict}", kernel.kernel, kernel.runs))?;
            self.json(&Line::Kernel(kernel.clone()))?;
        }
        Ok(())
    }

    fn print_verdict(&self, summary: &SummaryLine, unfinished: Option<&str>) -> Result<()> {
        for &index in &self.unknown {
            self.text(line_of(&self.cases[index], false))?;
        }
        if let Some(&first) = self.unknown.first() {
            self.text(format!("to reproduce the first: {}", self.reproduce(&self.cases[first])))?;
        }
        let counts: Vec<_> = summary.runs.iter().map(|(status, count)| format!("{count} {status}")).collect();
        self.text(format!("{} in {:.1} s", counts.join(", "), summary.seconds))?;
        if let Some(why) = unfinished {
            self.text(format!("not all cases were run: {why}"))?;
        }
        self.text(match (summary.passed, summary.known_failures) {
            (false, _) => "this adapter fails".to_owned(),
            (true, 0) => "every kernel agrees with the reference".to_owned(),
            (true, known) => {
                format!("every kernel agrees with the reference, except for {known} known failures")
            }
        })
    }

    /// The command that repeats a case on the same device.
    fn reproduce(&self, case: &CaseLine) -> String {
        let mut words = vec!["frazil", "check", "--reproduce", &case.case, "--family", &case.family];
        let (device, mut options) = (&self.args.device, Vec::new());
        let mut option = |name: &'static str, value: Option<String>| options.extend(value.map(|v| (name, v)));
        option("--adapter", device.adapter.clone());
        option("--backend", device.backend.map(|backend| backend.to_string()));
        option("--memory-budget", device.memory_budget.map(|mebibytes| mebibytes.to_string()));
        option("--timeout", self.args.timeout.map(|seconds| seconds.to_string()));
        option("--repeat", (case.status == "flaky").then(|| FLAKY_RUNS.max(self.args.repeat).to_string()));
        option("--plant", self.args.plant.as_ref().map(ToString::to_string));
        for (name, value) in &options {
            words.extend([*name, value.as_str()]);
        }
        words.extend(["--dump", "failure"]);
        words.into_iter().map(quoted).collect::<Vec<_>>().join(" ")
    }

    fn summary(&self, stale: &[String], unfinished: Option<&str>) -> SummaryLine {
        let mut runs: BTreeMap<String, usize> = BTreeMap::new();
        for case in &self.cases {
            *runs.entry(case.status.clone()).or_default() += 1;
        }
        let count = |of: Change| self.changes.iter().filter(|change| change.change == of).count();
        let missing = count(Change::Missing);
        let failures = self.unknown.iter().map(|&index| line_of(&self.cases[index], false));
        let text = |of: fn(&AdapterLine) -> &String| {
            self.adapter.as_deref().map(|adapter| of(adapter).clone()).unwrap_or_default()
        };
        SummaryLine {
            done: true,
            passed: self.unknown.is_empty() && missing == 0 && stale.is_empty() && unfinished.is_none(),
            complete: unfinished.is_none(),
            runs,
            known_failures: self.known,
            new_failures: self.unknown.len(),
            fixed: count(Change::Fixed),
            missing,
            stale: stale.to_vec(),
            failures: failures.collect(),
            seconds: (self.begun.elapsed().as_secs_f64() * 1e3).round() / 1e3,
            adapter: text(|adapter| &adapter.adapter),
            driver: text(|adapter| &adapter.driver),
            backend: text(|adapter| &adapter.backend),
            shader_compiler: text(|adapter| &adapter.shader_compiler),
            software_adapter: self.adapter.as_ref().is_some_and(|adapter| adapter.software_adapter),
        }
    }

    /// Success, or why this call fails: a wrong result before a device that stopped.
    fn result(
        &self,
        summary: &SummaryLine,
        kernels: &[KernelLine],
        unfinished: Option<String>,
    ) -> std::result::Result<(), Failure> {
        let stopped = self.unknown.iter().filter(|&&index| self.cases[index].is_stopped()).count();
        let name = &summary.adapter;
        if self.unknown.len() > stopped {
            let wrong = kernels.iter().filter(|kernel| !kernel.passed).count();
            return Err(Failure::Verdict(format!(
                "{wrong} of {} kernels are wrong on {name}",
                kernels.len()
            )));
        }
        if stopped > 0 {
            let runs = self.cases.len();
            return Err(Failure::Stopped(format!("{name} stopped in {stopped} of {runs} runs")));
        }
        if let Some(why) = unfinished {
            return Err(Failure::Stopped(format!("not all cases were run on {name}: {why}")));
        }
        if summary.missing > 0 {
            let missing = summary.missing;
            return Err(Failure::Verdict(format!("{missing} cases or kernels of the baseline were not run")));
        }
        if let Some(first) = summary.stale.first() {
            return Err(Failure::Verdict(format!(
                "{} stale expectations; the first: {first}",
                summary.stale.len()
            )));
        }
        Ok(())
    }

    /// The lines of a baseline: all but those of cases that pass.
    fn baseline_lines(&self, summary: &SummaryLine, kernels: &[KernelLine]) -> String {
        let adapter = self.adapter.iter().map(|adapter| Line::Adapter(adapter.clone()));
        let failed = self.cases.iter().filter(|case| !case.passed());
        let failed = failed.map(|case| Line::Case(Box::new(case.clone())));
        let kernels = kernels.iter().map(|kernel| Line::Kernel(kernel.clone()));
        let last = std::iter::once(Line::Summary(Box::new(summary.clone())));
        adapter.chain(failed).chain(kernels).chain(last).map(|line| format!("{}\n", line.to_json())).collect()
    }

    /// The results in the format of JUnit, which CI systems show.
    fn junit(&self, summary: &SummaryLine) -> String {
        let stopped = self.cases.iter().filter(|case| case.is_stopped()).count();
        let failed = self.cases.iter().filter(|case| !case.passed()).count() - stopped;
        let counts = format!(
            "tests=\"{}\" failures=\"{failed}\" errors=\"{stopped}\" time=\"{:.3}\"",
            self.cases.len(),
            summary.seconds
        );
        let name =
            xml(&format!("frazil check: {} ({}), {}", summary.adapter, summary.backend, summary.driver));
        let mut text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n<testsuite name=\"{name}\" {counts}>\n"
        );
        for case in &self.cases {
            let class = xml(&format!("{}.{}", case.op, case.family));
            let name = xml(&case.id());
            text += &format!("<testcase classname=\"{class}\" name=\"{name}\" time=\"{:.6}\"", case.seconds);
            let message = xml(case.message.as_deref().unwrap_or_default());
            text += &match (case.passed(), case.is_stopped()) {
                (true, _) => "/>\n".to_owned(),
                (false, true) => {
                    format!("><error type=\"{}\" message=\"{message}\"/></testcase>\n", case.status)
                }
                (false, false) => {
                    format!("><failure type=\"{}\" message=\"{message}\"/></testcase>\n", case.status)
                }
            };
        }
        text + "</testsuite>\n</testsuites>\n"
    }

    /// A summary for a pull request.
    fn markdown(&self, summary: &SummaryLine, kernels: &[KernelLine], unfinished: Option<&str>) -> String {
        let verdict = if summary.passed { "passes" } else { "**fails**" };
        let mut text = format!(
            "### `frazil check`: {} {verdict}\n\n{}, {}; {}.\n\n| runs | count |\n|---|---:|\n",
            cell(&summary.adapter),
            cell(&summary.backend),
            cell(&summary.driver),
            cell(&summary.shader_compiler)
        );
        for (status, count) in &summary.runs {
            text += &format!("| {status} | {count} |\n");
        }
        text += &format!("\n{} kernels in {:.1} s.\n", kernels.len(), summary.seconds);
        if let Some(why) = unfinished {
            text += &format!("\nNot all cases were run: {}.\n", cell(why));
        }
        let mut list = |title: &str, lines: Vec<String>| {
            if lines.is_empty() {
                return;
            }
            text += &format!("\n#### {title}\n\n");
            lines.iter().take(LISTED).for_each(|line| text += &format!("- {}\n", cell(line)));
            if lines.len() > LISTED {
                text += &format!("- and {} more\n", lines.len() - LISTED);
            }
        };
        list("Failures", summary.failures.clone());
        let changed = |of: Change| -> Vec<String> {
            let found = self.changes.iter().filter(|change| change.change == of);
            found
                .map(|change| format!("{} {}", change.of, change.message.as_deref().unwrap_or_default()))
                .collect()
        };
        list("Fixed since the baseline", changed(Change::Fixed));
        list("Missing since the baseline", changed(Change::Missing));
        list("Changed facts", changed(Change::Fact));
        list("Stale expectations", summary.stale.clone());
        text
    }
}

/// A word of a command line, quoted for a POSIX shell if it needs that.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// A result as a line of text.
pub fn line_of(case: &CaseLine, expected: bool) -> String {
    let kernels = case.kernels.join(", ");
    let status = if case.passed() { "ok".to_owned() } else { case.status.to_uppercase() };
    let result = match (&case.message, case.worst_of_bound) {
        (Some(message), _) => message.clone(),
        (None, Some(worst)) => format!("{worst:.3} of the bound"),
        (None, None) => String::new(),
    };
    let expected = if expected { " (expected)" } else { "" };
    format!("{status:<5} {}{expected} [{kernels}] {result}, {:.3} s", case.id(), case.seconds)
}

/// The results of each kernel, by name.
fn kernels(cases: &[CaseLine]) -> Vec<KernelLine> {
    let mut all: BTreeMap<&str, KernelLine> = BTreeMap::new();
    for case in cases {
        for kernel in &case.kernels {
            let line = all.entry(kernel).or_insert_with(|| KernelLine {
                kernel: kernel.clone(),
                runs: 0,
                failed: 0,
                worst_of_bound: None,
                passed: true,
            });
            line.runs += 1;
            line.failed += usize::from(!case.passed());
            line.passed = line.failed == 0;
            line.worst_of_bound = case.worst_of_bound.into_iter().chain(line.worst_of_bound).reduce(f64::max);
        }
    }
    all.into_values().collect()
}

/// Checks that a file can be created in its folder, before hours of work.
pub fn check_folder(file: &Path) -> Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_folder = std::fs::metadata(folder)
        .and_then(|of| if of.is_dir() { Ok(()) } else { Err(std::io::ErrorKind::NotADirectory.into()) });
    is_folder.map_err(|source| Error::Io { path: folder.to_owned(), source })
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).map_err(|source| Error::Io { path: file.to_owned(), source })
}

/// Text in an attribute. XML has no control characters.
fn xml(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' | '\t' => out += "&#10;",
            c if c.is_control() => out += "?",
            c => out.push(c),
        }
    }
    out
}

/// Text in a paragraph, an item or a cell of Markdown, on one line.
fn cell(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\n' | '\r' => out.push(' '),
            '<' => out += "&lt;",
            '|' | '*' | '_' | '`' | '\\' | '[' | ']' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped() {
        assert_eq!(quoted("--family"), "--family");
        assert_eq!(quoted("sgd with Nesterov's"), "'sgd with Nesterov'\\''s'");
        assert_eq!(quoted(""), "''");
        assert_eq!(xml("a<b> & \"c\"\n\u{7}"), "a&lt;b&gt; &amp; &quot;c&quot;&#10;?");
        assert_eq!(cell("a|b *c*\nd_e [f] <g>"), "a\\|b \\*c\\* d\\_e \\[f\\] &lt;g>");
    }
}
