//! Results of cases.

use crate::compiler::Reduction;
use crate::error::Error;
use crate::kernels::GemmFamily;
use std::fmt;

/// Whether a case passed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Every element is within its bound, and nothing was written outside of the results.
    Pass,
    /// Description of what differs, and where.
    Fail(String),
}

/// The result of one case in one GEMM family.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// The name of the case.
    pub name: String,
    /// The names of its operations, joined by `+`.
    pub op: String,
    /// The GEMM family of the plan.
    pub family: GemmFamily,
    /// How the plan computes sums over rows.
    pub reduction: Reduction,
    /// The kernels of the plan, each once, in order of first use; empty if planning failed.
    pub kernels: Vec<&'static str>,
    /// The largest error as a fraction of its element's bound: 0 if all elements are equal, infinity if the
    /// case failed.
    pub worst_error: f64,
    /// Whether the case passed.
    pub verdict: Verdict,
}

impl Outcome {
    /// Whether the case passed.
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

/// Measurements of a case that passed.
pub(super) struct Measured {
    pub kernels: Vec<&'static str>,
    pub worst_error: f64,
}

/// Why a case did not pass.
pub(super) enum Failure {
    /// A result differs from the reference.
    Mismatch(String),
    /// Planning or running failed.
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Failure::Mismatch(message)
    }
}

/// Each name once, in order of first use.
pub(super) fn distinct(names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut found = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}
