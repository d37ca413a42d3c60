//! Results of cases.

use super::compare::Mismatch;
use crate::compiler::Reduction;
use crate::error::Error;
use crate::kernels::GemmFamily;
use std::fmt;
use std::time::Duration;

/// Whether a case passed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Every element is within its bound, and nothing was written outside of the results.
    Pass,
    /// A kernel is wrong: what differs, and where.
    Fail(String),
    /// Repeated runs differ: which one, and how.
    Flaky(String),
    /// The device was lost, with the driver's reason.
    Lost(String),
    /// The device did not finish in time.
    Timeout(String),
}

impl Verdict {
    /// The name of the variant in lower case: `pass`, `fail`, `flaky`, `lost` or `timeout`.
    pub fn status(&self) -> &'static str {
        match self {
            Verdict::Pass => "pass",
            Verdict::Fail(_) => "fail",
            Verdict::Flaky(_) => "flaky",
            Verdict::Lost(_) => "lost",
            Verdict::Timeout(_) => "timeout",
        }
    }

    /// The description of a failure; `None` for a pass.
    pub fn message(&self) -> Option<&str> {
        match self {
            Verdict::Pass => None,
            Verdict::Fail(why) | Verdict::Flaky(why) | Verdict::Lost(why) | Verdict::Timeout(why) => {
                Some(why)
            }
        }
    }
}

/// The result of one case in one variant: a GEMM family and a variant of reductions.
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
    /// The worst element, if a result is beyond its bound.
    pub mismatch: Option<Mismatch>,
    /// A hash of the bits of all results that were read. Equal adapters, drivers and cases have equal digests.
    pub digest: u64,
    /// How long the case ran: planning, the reference, shader compilation, and all runs on the device.
    pub elapsed: Duration,
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
        match self.verdict.message() {
            None => {
                write!(
                    f,
                    "ok    {} ({}; {kernels}): {:.3} of the bound",
                    self.name, self.family, self.worst_error
                )
            }
            Some(why) => {
                let status = self.verdict.status().to_uppercase();
                write!(f, "{status}  {} ({}; {kernels}): {why}", self.name, self.family)
            }
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
    /// Elements of a result are beyond their bounds.
    Wrong(Mismatch),
    /// Something else differs from the reference.
    Other(String),
    /// Planning or running failed.
    Error(Error),
}

impl Failure {
    /// The verdict, and the worst element if there is one.
    pub fn verdict(self) -> (Verdict, Option<Mismatch>) {
        match self {
            Failure::Wrong(mismatch) => (Verdict::Fail(mismatch.to_string()), Some(mismatch)),
            Failure::Other(why) => (Verdict::Fail(why), None),
            Failure::Error(error @ Error::DeviceLost { .. }) => (Verdict::Lost(error.to_string()), None),
            Failure::Error(error @ Error::Timeout { .. }) => (Verdict::Timeout(error.to_string()), None),
            Failure::Error(error) => (Verdict::Fail(error.to_string()), None),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Error(error)
    }
}

impl From<Mismatch> for Failure {
    fn from(mismatch: Mismatch) -> Self {
        Failure::Wrong(mismatch)
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Failure::Other(message)
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
