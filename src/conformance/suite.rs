//! The suite: which cases run in which variants, and their runs one after the other.

use super::case::{Case, Work};
use super::ops::Prepared;
use super::outcome::{Outcome, Verdict};
use super::run::{Variant, all_families, distinct_variants, run_prepared};
use super::table::{cases, large_cases, network_cases, random_cases};
use super::tensors::Tensors;
use super::training::training_cases;
use crate::compiler::{CostModel, Reduction};
use crate::error::{Error, Result};
use crate::gpu::{AdapterReport, Gpu};
use crate::kernels::{FILES, GemmFamily};
use crate::stopwatch::Stopwatch;
use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;
use wildmatch::WildMatch;

/// How much of the op table runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Extent {
    /// The cases that run a combination of WGSL files for the first time, in the adapter's own GEMM family.
    Quick,
    /// Every case of the op table, in every family.
    #[default]
    Table,
    /// The op table, convolutions of known networks, training steps with every update rule and frozen elements, tensors of
    /// the largest size that WebGPU guarantees, and 200 cases with random shapes.
    Full,
}

/// The number of cases with random shapes of a suite with a seed.
const RANDOM_CASES: usize = 200;

/// A selection of cases and variants. By default every case of the op table runs in every GEMM family that the adapter
/// supports, with both variants of reductions, as far as its kernels differ.
///
/// ```no_run
/// use frazil::conformance::Suite;
/// use frazil::{Gpu, GpuOptions};
///
/// # fn main() -> frazil::Result<()> {
/// let gpu = Gpu::new(GpuOptions::default())?;
/// let failed: Vec<_> = Suite::new().op("conv2d*").run(&gpu)?.filter(|outcome| !outcome.passed()).collect();
/// for outcome in &failed {
///     println!("{outcome}");
/// }
/// assert!(failed.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Suite {
    families: Vec<GemmFamily>,
    kernels: Vec<String>,
    ops: Vec<String>,
    cases: Vec<String>,
    shard: Option<[usize; 2]>,
    extent: Extent,
    seed: Option<u64>,
    repeat: usize,
    load: usize,
    after: Option<[usize; 2]>,
}

impl Suite {
    /// Every case of the op table in every variant.
    pub fn new() -> Self {
        Suite::default()
    }

    /// Runs in these families only; in all that the adapter supports if there are none.
    pub fn families(mut self, families: &[GemmFamily]) -> Self {
        self.families = families.to_vec();
        self
    }

    /// Runs plans with a kernel that matches this glob (`*` and `?`). Several globs select what matches any of them.
    pub fn kernel(mut self, glob: impl Into<String>) -> Self {
        self.kernels.push(glob.into());
        self
    }

    /// Runs cases with an operation whose name matches this glob. Several globs select what matches any of them.
    pub fn op(mut self, glob: impl Into<String>) -> Self {
        self.ops.push(glob.into());
        self
    }

    /// Runs cases whose name matches this glob. Several globs select what matches any of them.
    pub fn case(mut self, glob: impl Into<String>) -> Self {
        self.cases.push(glob.into());
        self
    }

    /// Runs part `number` of `count` parts of about equal size, counted from 1. Together the parts run each case once.
    pub fn shard(mut self, number: usize, count: usize) -> Self {
        self.shard = Some([number, count]);
        self
    }

    /// How much of the op table runs.
    pub fn extent(mut self, extent: Extent) -> Self {
        self.extent = extent;
        self
    }

    /// Adds 200 cases with random shapes, drawn with this seed. [`Extent::Full`] has those of seed 1.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Runs each case this many times. The results must have the same bits each time.
    pub fn repeat(mut self, times: usize) -> Self {
        self.repeat = times;
        self
    }

    /// Repeats each case in this many threads at the same time, on one device, so that submissions are in flight together: each
    /// thread runs it one time less than [`Suite::repeat`] says, and at least once. Finds kernels whose results depend on
    /// timing. Needs threads, which browsers lack.
    pub fn load(mut self, threads: usize) -> Self {
        self.load = threads;
        self
    }

    /// Begins after the run with this [`Run::position`], as a process does that continues for one that crashed.
    pub fn after(mut self, position: [usize; 2]) -> Self {
        self.after = Some(position);
        self
    }

    /// The selected cases: all but the selection by kernel, which depends on the adapter.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a shard that does not exist, or if no case is selected.
    pub fn cases(&self) -> Result<Vec<Case>> {
        let mut all = cases()?;
        let seed = self.seed.or((self.extent == Extent::Full).then_some(1));
        if self.extent == Extent::Full {
            all.extend(network_cases()?);
            all.extend(training_cases());
            all.extend(large_cases());
        }
        if let Some(seed) = seed {
            all.extend(random_cases(seed, RANDOM_CASES)?);
        }
        let any = |globs: &[String], names: &[&str]| {
            let matches = |glob: &String| names.iter().any(|name| WildMatch::new(glob).matches(name));
            globs.is_empty() || globs.iter().any(matches)
        };
        if !self.ops.is_empty() {
            all.retain(|case| any(&self.ops, &case.op().split('+').collect::<Vec<_>>()));
            if all.is_empty() {
                let expected = "a glob that matches the name of an operation, such as conv2d*";
                return Err(Error::argument("op", expected, self.ops.join(", ")));
            }
        }
        all.retain(|case| any(&self.cases, &[&case.name]));
        if all.is_empty() {
            let expected = "a glob that matches the name of a case of the selected operations";
            return Err(Error::argument("case", expected, self.cases.join(", ")));
        }
        if let Some([number, count]) = self.shard {
            if number == 0 || number > count {
                let expected = "I/N with I from 1 to N, such as 1/4";
                return Err(Error::argument("shard", expected, format!("{number}/{count}")));
            }
            let mut index = 0;
            all.retain(|_| {
                index += 1;
                index % count == number % count
            });
        }
        Ok(all)
    }

    /// Returns the runs in order. Each is planned when the iterator arrives at it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a family that the adapter does not support, a glob that matches no kernel, and as
    /// [`Suite::cases`].
    pub fn plan(&self, report: &AdapterReport) -> Result<Planned> {
        if let Some(family) = self.families.iter().find(|family| !family.is_supported(report)) {
            let supported: Vec<_> = GemmFamily::supported(report).iter().map(ToString::to_string).collect();
            let expected = format!("families that {} supports: {}", report.name, supported.join(", "));
            return Err(Error::argument("families", expected, family));
        }
        for glob in &self.kernels {
            let pattern = WildMatch::new(glob);
            if !FILES.iter().any(|file| file.is_kernel() && pattern.matches(file.name)) {
                let expected = "a glob that matches the name of a kernel, such as gemm_*";
                return Err(Error::argument("kernel", expected, glob));
            }
        }
        let cases = self.cases()?;
        Ok(Planned {
            suite: self.clone(),
            report: report.clone(),
            count: cases.len(),
            cases: cases.into_iter().enumerate().collect(),
            planned: VecDeque::new(),
            covered: BTreeSet::new(),
        })
    }

    /// Runs the selected cases on a device.
    ///
    /// # Errors
    /// As [`Suite::plan`].
    pub fn run(&self, gpu: &Gpu) -> Result<Runs> {
        let planned = self.plan(gpu.report())?;
        Ok(Runs { gpu: Some(gpu.clone()), planned, prepared: None, reopen: None })
    }
}

/// One case in one variant, before it runs.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Run {
    /// The case.
    pub case: Arc<Case>,
    /// The GEMM family of the plan.
    pub family: GemmFamily,
    /// How the plan computes sums over rows.
    pub reduction: Reduction,
    /// The kernels that it launches, each once; empty if it cannot be planned.
    pub kernels: Vec<&'static str>,
    /// The index of the case among the selected ones, and of the variant among those of the case.
    pub position: [usize; 2],
}

/// The runs of a suite on an adapter. See [`Suite::plan`].
#[derive(Debug)]
pub struct Planned {
    suite: Suite,
    report: AdapterReport,
    count: usize,
    cases: VecDeque<(usize, Case)>,
    planned: VecDeque<Run>,
    /// The sets of WGSL files of earlier launches, for [`Extent::Quick`].
    covered: BTreeSet<Vec<&'static str>>,
}

impl Planned {
    /// The number of selected cases, each of which has some runs, or none if `kernel` or the extent excludes them.
    pub fn cases(&self) -> usize {
        self.count
    }

    /// Plans the variants of a case.
    fn variants(&self, case: &Case) -> Vec<Variant> {
        let quick = self.suite.extent == Extent::Quick;
        let families = match (self.suite.families.as_slice(), quick) {
            ([], true) => vec![GemmFamily::choose(&self.report)],
            ([], false) => all_families(case, &self.report),
            (only, _) => only.to_vec(),
        };
        // A trainer uses the reductions of its adapter.
        let own = quick || matches!(case.work, Work::Training(_));
        let reductions = match (own, CostModel::of(&self.report).parallel_reductions) {
            (false, _) => &[Reduction::Serial, Reduction::Parallel][..],
            (true, false) => &[Reduction::Serial],
            (true, true) => &[Reduction::Parallel],
        };
        distinct_variants(case, &self.report, &families, reductions)
    }

    fn plan(&mut self, index: usize, case: Case) {
        let case = Arc::new(case);
        let globs: Vec<_> = self.suite.kernels.iter().map(|glob| WildMatch::new(glob)).collect();
        for (number, variant) in self.variants(&case).into_iter().enumerate() {
            let Variant { family, reduction, kernels, files } = variant;
            let selected = globs.is_empty() || globs.iter().any(|g| kernels.iter().any(|k| g.matches(k)));
            if !selected {
                continue;
            }
            let mut new = false;
            for files in files {
                new |= self.covered.insert(files);
            }
            if self.suite.extent == Extent::Quick && !new {
                continue;
            }
            let position = [index, number];
            if self.suite.after.is_none_or(|after| position > after) {
                let case = Arc::clone(&case);
                self.planned.push_back(Run { case, family, reduction, kernels, position });
            }
        }
    }
}

impl Iterator for Planned {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        loop {
            if let Some(run) = self.planned.pop_front() {
                return Some(run);
            }
            let (index, case) = self.cases.pop_front()?;
            // What a quick suite selects depends on all earlier cases.
            let skipped = self.suite.after.is_some_and(|after| index < after[0]);
            if !skipped || self.suite.extent == Extent::Quick {
                self.plan(index, case);
            }
        }
    }
}

/// The outcomes of a suite on a device, one case after the other. An error of a case is its outcome, and the next case
/// runs; after a lost device see [`Runs::reopen_with`].
pub struct Runs {
    gpu: Option<Gpu>,
    planned: Planned,
    /// The index of a case, whether its operands are rounded, and what its variants share.
    prepared: Option<(usize, bool, Prepared)>,
    reopen: Option<Reopen>,
}

/// Opens a device.
type Reopen = Box<dyn FnMut() -> Result<Gpu> + Send>;

impl Runs {
    /// Sets how to open a new device after one was lost, did not finish in time, or made wgpu panic. Without it, the cases after a
    /// lost device report the loss, too.
    pub fn reopen_with(mut self, open: impl FnMut() -> Result<Gpu> + Send + 'static) -> Self {
        self.reopen = Some(Box::new(open));
        self
    }

    /// The number of selected cases, as [`Planned::cases`].
    pub fn cases(&self) -> usize {
        self.planned.cases()
    }

    /// Plans the next run without running it, for a caller that reports what is about to run; [`Runs::execute`] runs it.
    pub fn next_run(&mut self) -> Option<Run> {
        self.planned.next()
    }

    /// Runs a case.
    pub fn execute(&mut self, run: &Run) -> Outcome {
        let begun = Stopwatch::start();
        let gpu = match self.device() {
            Ok(gpu) => gpu,
            Err(error) => return without_device(run, &error, begun.elapsed()),
        };
        let rounded = matches!(run.family, GemmFamily::Cooperative { .. });
        let prepared =
            self.prepared.take().filter(|(case, of, _)| (*case, *of) == (run.position[0], rounded));
        let mut prepared = prepared.map(|(_, _, prepared)| prepared);
        let Suite { repeat, load, .. } = self.planned.suite;
        let attempt = AssertUnwindSafe(|| repeated(&gpu, run, repeat, load, &mut prepared));
        let (mut outcome, unusable) = match catch_unwind(attempt) {
            Ok(outcome) => {
                let unusable = is_stopped(&outcome);
                (outcome, unusable)
            }
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
                prepared = None;
                (failed(run, Verdict::Fail(format!("panic: {text}"))), true)
            }
        };
        self.prepared = prepared.map(|prepared| (run.position[0], rounded, prepared));
        if unusable && self.reopen.is_some() {
            // Dropping the device would wait for work that never finishes.
            std::mem::forget(gpu);
            self.gpu = None;
        }
        outcome.elapsed = begun.elapsed();
        outcome
    }

    /// The device, opened again if the last one is unusable.
    fn device(&mut self) -> Result<Gpu> {
        if let Some(gpu) = &self.gpu {
            return Ok(gpu.clone());
        }
        let Some(open) = &mut self.reopen else {
            return Err(Error::DeviceLost { reason: "it was lost in an earlier case".to_owned() });
        };
        Ok(self.gpu.insert(open()?).clone())
    }
}

impl Iterator for Runs {
    type Item = Outcome;

    fn next(&mut self) -> Option<Outcome> {
        let run = self.next_run()?;
        Some(self.execute(&run))
    }
}

impl std::fmt::Debug for Runs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runs").field("gpu", &self.gpu).field("planned", &self.planned).finish_non_exhaustive()
    }
}

/// Runs a case `repeat` times, after the first time in `load` threads at once; if the runs differ, it is flaky.
fn repeated(gpu: &Gpu, run: &Run, repeat: usize, load: usize, prepared: &mut Option<Prepared>) -> Outcome {
    let attempt = |prepared: &mut Option<Prepared>| {
        run_prepared(gpu, &run.case, run.family, run.reduction, prepared, &mut Tensors::default())
    };
    let first = attempt(prepared);
    if is_stopped(&first) {
        return first;
    }
    let again = |mut prepared: Option<Prepared>, times: usize| {
        (0..times).map(|_| attempt(&mut prepared)).find(|other| difference(&first, other).is_some())
    };
    let other = if load == 0 {
        again(prepared.clone(), repeat.saturating_sub(1))
    } else {
        let times = repeat.saturating_sub(1).max(1);
        std::thread::scope(|scope| {
            let thread = |_| {
                let prepared = prepared.clone();
                let again = &again;
                std::thread::Builder::new().spawn_scoped(scope, move || again(prepared, times))
            };
            // All are started before the first is waited for.
            let threads: Vec<_> = (0..load).map(thread).collect();
            let end =
                |thread: std::io::Result<std::thread::ScopedJoinHandle<'_, Option<Outcome>>>| match thread {
                    Ok(thread) => {
                        thread.join().unwrap_or_else(|_| Some(failed(run, Verdict::Fail("panic".to_owned()))))
                    }
                    Err(error) => Some(failed(run, Verdict::Fail(format!("no thread for it: {error}")))),
                };
            let ended: Vec<_> = threads.into_iter().filter_map(end).collect();
            // A lost device says more than what the other threads see of it.
            let stopped = ended.iter().position(is_stopped).unwrap_or(0);
            ended.into_iter().nth(stopped)
        })
    };
    match other {
        None => first,
        Some(other) if is_stopped(&other) => other,
        Some(other) => {
            let why = difference(&first, &other).unwrap_or_default();
            let when = if load == 0 { String::new() } else { format!(" in {load} threads at the same time") };
            Outcome {
                verdict: Verdict::Flaky(format!("a repeated run{when} differs from the first: {why}")),
                ..first
            }
        }
    }
}

/// Whether the device did not finish.
fn is_stopped(outcome: &Outcome) -> bool {
    matches!(outcome.verdict, Verdict::Lost(_) | Verdict::Timeout(_))
}

/// How the second run of a case differs from the first; `None` if it does not.
fn difference(first: &Outcome, second: &Outcome) -> Option<String> {
    if first.verdict.status() != second.verdict.status() {
        let message = |outcome: &Outcome| outcome.verdict.message().unwrap_or("pass").to_owned();
        return Some(format!("first {}; then {}", message(first), message(second)));
    }
    let [a, b] = [first.digest, second.digest];
    (a != b).then(|| format!("the bits of the results: first {a:016x}, then {b:016x}"))
}

/// The outcome of a case that did not run, because there is no device.
fn without_device(run: &Run, error: &Error, elapsed: Duration) -> Outcome {
    let why = format!("not run: no device could be opened after one was lost: {error}");
    Outcome { elapsed, ..failed(run, Verdict::Lost(why)) }
}

fn failed(run: &Run, verdict: Verdict) -> Outcome {
    Outcome {
        name: run.case.name.clone(),
        op: run.case.op(),
        family: run.family,
        reduction: run.reduction,
        kernels: run.kernels.clone(),
        worst_error: f64::INFINITY,
        verdict,
        mismatch: None,
        digest: 0,
        elapsed: Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Backend, DeviceKind};

    fn outcome(verdict: Verdict, digest: u64) -> Outcome {
        let mut runs =
            Suite::new().plan(&AdapterReport::new("none", Backend::Vulkan, DeviceKind::Cpu)).unwrap();
        Outcome { digest, ..failed(&runs.next().unwrap(), verdict) }
    }

    #[test]
    fn runs_with_other_bits_or_another_verdict_are_flaky() {
        let pass = outcome(Verdict::Pass, 1);
        assert_eq!(difference(&pass, &pass.clone()), None);
        let other = difference(&pass, &outcome(Verdict::Pass, 2)).unwrap();
        assert!(other.contains("0000000000000001") && other.contains("0000000000000002"), "{other}");
        let wrong = difference(&pass, &outcome(Verdict::Fail("one element".into()), 1)).unwrap();
        assert_eq!(wrong, "first pass; then one element");
    }
}
