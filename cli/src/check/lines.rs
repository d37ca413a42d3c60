//! The JSON lines of `frazil check`, which its worker process and its baselines have, too. `docs/check.md` and
//! `docs/check.schema.json` describe them.

use frazil::conformance::{Mismatch, Outcome, Run};
use frazil::low_level::Reduction;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Version of the lines. A change that readers may not expect increments it.
pub const SCHEMA: u32 = 1;

/// One line.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    Adapter(Box<AdapterLine>),
    Run(RunLine),
    Case(Box<CaseLine>),
    Change(ChangeLine),
    Kernel(KernelLine),
    Summary(Box<SummaryLine>),
}

/// The adapter, first.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct AdapterLine {
    pub schema: u32,
    pub frazil: String,
    pub adapter: String,
    pub driver: String,
    pub backend: String,
    pub shader_compiler: String,
    pub kind: String,
    pub software_adapter: bool,
    pub subgroup: Option<[u32; 2]>,
    pub cooperative_matrix: Option<u32>,
    pub timestamps: bool,
    pub max_buffer_bytes: u64,
    pub max_binding_bytes: u64,
    pub max_storage_buffers: u32,
    pub max_workgroup_memory_bytes: u32,
    pub max_invocations: u32,
    /// The GEMM families that the adapter supports.
    pub families: Vec<String>,
    /// How the device treats special floats.
    pub floats: BTreeMap<String, String>,
    /// The arguments that select cases and variants.
    pub selection: String,
    /// The number of selected cases.
    pub cases: usize,
}

/// A run that is about to begin (of a worker), or that `--list` prints.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RunLine {
    pub case: String,
    pub op: String,
    pub family: String,
    pub reduction: String,
    pub kernels: Vec<String>,
    pub shapes: Vec<Vec<usize>>,
    pub seed: String,
    /// The index of the case, and of the variant among those of the case.
    pub position: [usize; 2],
}

/// The result of a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CaseLine {
    pub case: String,
    pub family: String,
    pub reduction: String,
    /// `pass`, `fail`, `flaky`, `lost`, `timeout` or `crash`.
    pub status: String,
    #[serde(default)]
    pub op: String,
    #[serde(default)]
    pub kernels: Vec<String>,
    #[serde(default)]
    pub worst_of_bound: Option<f64>,
    #[serde(default)]
    pub seconds: f64,
    #[serde(default)]
    pub shapes: Vec<Vec<usize>>,
    #[serde(default)]
    pub seed: String,
    #[serde(default)]
    pub digest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<Worst>,
}

/// The worst element of a wrong result. Numbers that JSON lacks are the strings `NaN`, `inf` and `-inf`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Worst {
    pub tensor: String,
    pub elements: usize,
    pub wrong: usize,
    pub index: usize,
    pub expected: Value,
    pub got: Value,
    pub bound: Value,
}

/// A difference from the baseline.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ChangeLine {
    pub change: Change,
    /// A case with its variant, or a kernel.
    pub of: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It fails, and did not.
    NewFailure,
    /// It passes, and did not.
    Fixed,
    /// It was run, and is no longer.
    Missing,
    /// A fact about the adapter is another one.
    Fact,
}

/// All runs of a kernel.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct KernelLine {
    pub kernel: String,
    pub runs: usize,
    pub failed: usize,
    pub worst_of_bound: Option<f64>,
    pub passed: bool,
}

/// The last line.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SummaryLine {
    pub done: bool,
    pub passed: bool,
    /// Whether every selected case was run to its end.
    pub complete: bool,
    /// The number of runs with each status.
    pub runs: BTreeMap<String, usize>,
    /// Failures that the baseline or `--expect` know.
    pub known_failures: usize,
    pub new_failures: usize,
    pub fixed: usize,
    pub missing: usize,
    /// Lines of `--expect` whose cases do not fail.
    pub stale: Vec<String>,
    pub failures: Vec<String>,
    pub seconds: f64,
    pub adapter: String,
    pub driver: String,
    pub backend: String,
    pub shader_compiler: String,
    pub software_adapter: bool,
}

impl Line {
    pub fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

pub fn reduction_name(reduction: Reduction) -> &'static str {
    match reduction {
        Reduction::Serial => "serial",
        Reduction::Parallel => "parallel",
        _ => "auto",
    }
}

/// The name of a case in a variant: what `--expect` matches, and what is printed.
fn id(case: &str, family: &str, reduction: &str) -> String {
    format!("{case} ({family}, {reduction})")
}

fn seed_text(seed: u64) -> String {
    format!("{seed:#018x}")
}

impl RunLine {
    pub fn new(run: &Run) -> Self {
        RunLine {
            case: run.case.name.clone(),
            op: run.case.op(),
            family: run.family.to_string(),
            reduction: reduction_name(run.reduction).to_owned(),
            kernels: run.kernels.iter().map(|&kernel| kernel.to_owned()).collect(),
            shapes: run.case.shapes(),
            seed: seed_text(run.case.seed()),
            position: run.position,
        }
    }

    pub fn id(&self) -> String {
        id(&self.case, &self.family, &self.reduction)
    }

    /// The line of a run that did not return: it timed out, or its process crashed.
    pub fn ended(self, status: &str, message: String, seconds: f64) -> CaseLine {
        CaseLine {
            case: self.case,
            family: self.family,
            reduction: self.reduction,
            status: status.to_owned(),
            op: self.op,
            kernels: self.kernels,
            worst_of_bound: None,
            seconds,
            shapes: self.shapes,
            seed: self.seed,
            digest: None,
            message: Some(message),
            worst: None,
        }
    }
}

impl CaseLine {
    pub fn new(run: &Run, outcome: &Outcome) -> Self {
        CaseLine {
            case: outcome.name.clone(),
            family: outcome.family.to_string(),
            reduction: reduction_name(outcome.reduction).to_owned(),
            status: outcome.verdict.status().to_owned(),
            op: outcome.op.clone(),
            kernels: outcome.kernels.iter().map(|&kernel| kernel.to_owned()).collect(),
            worst_of_bound: Some(outcome.worst_error).filter(|error| error.is_finite()),
            seconds: (outcome.elapsed.as_secs_f64() * 1e6).round() / 1e6,
            shapes: run.case.shapes(),
            seed: seed_text(run.case.seed()),
            digest: outcome.passed().then(|| format!("{:016x}", outcome.digest)),
            message: outcome.verdict.message().map(str::to_owned),
            worst: outcome.mismatch.as_ref().map(Worst::new),
        }
    }

    pub fn id(&self) -> String {
        id(&self.case, &self.family, &self.reduction)
    }

    pub fn passed(&self) -> bool {
        self.status == "pass"
    }

    /// Whether the device or the driver stopped, so that no result is wrong.
    pub fn is_stopped(&self) -> bool {
        ["lost", "timeout", "crash"].contains(&self.status.as_str())
    }
}

impl Worst {
    fn new(mismatch: &Mismatch) -> Self {
        let number = |x: f64| if x.is_finite() { Value::from(x) } else { Value::from(x.to_string()) };
        Worst {
            tensor: mismatch.what.clone(),
            elements: mismatch.elements,
            wrong: mismatch.wrong,
            index: mismatch.index,
            expected: number(mismatch.expected),
            got: number(mismatch.got),
            bound: number(mismatch.bound),
        }
    }
}
