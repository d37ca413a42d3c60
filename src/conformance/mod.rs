//! The op table: every operation over many geometries, as data, and what it takes to hold a device against the reference.
//!
//! ```text
//! Case --data--> operands --reference (f64)--> wanted, bound of each element
//!                         --Plan (one family)-> got          --compare--> Outcome
//! ```

mod bound;
mod bound_activation;
mod bound_loss;
mod bound_norm;
mod bound_winograd;
mod case;
mod run;
mod shaders;
mod table;
mod update;
mod update_bound;

pub use bound::{bounds, compare};
pub use case::{Case, DataKind, Fill, Operand, Ops, Partial, Wire, Work};
pub use run::{outputs, reference_outputs, run_case};
pub use shaders::shaders;
pub use table::cases;
pub use update::Update;

use crate::compiler::PlanOptions;
use crate::engine::Plan;
use crate::error::Result;
use crate::gpu::{AdapterReport, Gpu};
use crate::kernels::GemmFamily;
use std::fmt;

/// Whether a case holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every element is within its bound, and nothing else was written.
    Pass,
    /// What is wrong, and where.
    Fail(String),
}

/// What came of one case in one family.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The case.
    pub name: String,
    /// Its operations, `+` between them.
    pub op: String,
    /// The family in which matrices were multiplied.
    pub family: GemmFamily,
    /// The kernels that ran, each once, in order.
    pub kernels: Vec<&'static str>,
    /// The largest error as a fraction of what is allowed; 0 where all elements are equal.
    pub worst_error: f64,
    /// Whether it holds.
    pub verdict: Verdict,
}

impl Outcome {
    /// Whether the case holds.
    pub fn passed(&self) -> bool {
        self.verdict == Verdict::Pass
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernels = self.kernels.join(", ");
        match &self.verdict {
            Verdict::Pass => {
                write!(
                    f,
                    "ok    {} ({}; {kernels}): {:.3} of the bound",
                    self.name, self.family, self.worst_error
                )
            }
            Verdict::Fail(why) => write!(f, "FAIL  {} ({}; {kernels}): {why}", self.name, self.family),
        }
    }
}

/// The families in which a case is worth running: each that is right on the adapter, but for those that would launch the very
/// same kernels as one before. So a case without a matrix product has one.
pub fn families(case: &Case, report: &AdapterReport) -> Vec<GemmFamily> {
    let launches = |family: GemmFamily| {
        let options = case.options(PlanOptions::default().family(family));
        let launches = Plan::launches(&case.graph().ok()?, report, &options).ok()?;
        Some(launches.iter().map(|l| (l.variant(), l.params.clone(), l.groups)).collect::<Vec<_>>())
    };
    let (mut found, mut seen) = (Vec::new(), Vec::new());
    for family in GemmFamily::supported(report).into_iter().chain(GemmFamily::cooperative(report)) {
        // What cannot be planned runs as well: its verdict says why.
        let launches = launches(family);
        if launches.is_none() || !seen.contains(&launches) {
            found.push(family);
            seen.push(launches);
        }
        if !case.has_gemm() {
            break;
        }
    }
    found
}

/// Runs every case in every family that it is worth running in, see [`families`], and tells `progress` of each. `only`: in
/// these families alone, unless it is empty.
///
/// # Errors
/// [`crate::Error::DeviceLost`], [`crate::Error::Timeout`]: what ends the whole run. All else is a verdict.
pub fn run_all(gpu: &Gpu, only: &[GemmFamily], progress: &mut dyn FnMut(&Outcome)) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for case in cases()? {
        let chosen = |family: &GemmFamily| only.is_empty() || !case.has_gemm() || only.contains(family);
        for family in families(&case, gpu.report()).into_iter().filter(chosen) {
            let outcome = run_case(gpu, &case, family)?;
            progress(&outcome);
            outcomes.push(outcome);
        }
    }
    Ok(outcomes)
}
