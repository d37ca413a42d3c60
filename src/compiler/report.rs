//! What a plan uses.

use super::Algorithm;
use std::fmt;

/// A buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferUse {
    /// What it holds.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
}

/// A dispatch of each run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DispatchUse {
    /// The operation it belongs to.
    pub label: String,
    /// By which algorithm, of a convolution or its gradients.
    pub algorithm: Option<Algorithm>,
    /// The kernel.
    pub kernel: &'static str,
    /// Workgroups.
    pub groups: [u32; 3],
    /// Floating-point operations for a full batch.
    pub flops: u64,
}

/// What frozen elements save in one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Avoided {
    /// The operation.
    pub label: String,
    /// Floating-point operations that a plan with nothing frozen does more.
    pub flops: u64,
}

/// Everything that a plan holds and does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanReport {
    /// The adapter's name.
    pub adapter: String,
    /// How matrices are multiplied.
    pub family: String,
    /// Examples in a full batch.
    pub batch: usize,
    /// Buffers that outlive the plan.
    pub persistent: Vec<BufferUse>,
    /// Buffers that the plan's values share.
    pub per_step: Vec<BufferUse>,
    /// Dispatches in order.
    pub dispatches: Vec<DispatchUse>,
    /// By operation, what is left out because of what is frozen.
    pub avoided: Vec<Avoided>,
}

impl PlanReport {
    /// Bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        self.persistent.iter().chain(&self.per_step).map(|b| b.bytes).sum()
    }

    /// Floating-point operations of one run.
    pub fn flops(&self) -> u64 {
        self.dispatches.iter().map(|d| d.flops).sum()
    }

    /// Floating-point operations that one run with nothing frozen would do more.
    pub fn flops_avoided(&self) -> u64 {
        self.avoided.iter().map(|a| a.flops).sum()
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

impl fmt::Display for PlanReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan for batches of {} on {}, gemm family {}", self.batch, self.adapter, self.family)?;
        for (kind, buffers) in [("kept", &self.persistent), ("per step", &self.per_step)] {
            for buffer in buffers {
                writeln!(f, "  {:<10} {:<24} {:>10.3} MiB", kind, buffer.name, mebibytes(buffer.bytes))?;
            }
        }
        for d in &self.dispatches {
            let groups = format!("{}x{}x{}", d.groups[0], d.groups[1], d.groups[2]);
            writeln!(
                f,
                "  {:<26} {:<16} {:<28} {:>12} {:>10.3} MFLOP",
                d.label,
                d.algorithm.map(|algorithm| algorithm.to_string()).unwrap_or_default(),
                d.kernel,
                groups,
                d.flops as f64 / 1e6
            )?;
        }
        for a in &self.avoided {
            writeln!(
                f,
                "  {:<26} {:<16} {:<28} {:>12} {:>10.3} MFLOP",
                a.label,
                "",
                "avoided: frozen",
                "",
                a.flops as f64 / 1e6
            )?;
        }
        write!(
            f,
            "  {} dispatches, {:.3} MFLOP, {:.3} MiB",
            self.dispatches.len(),
            self.flops() as f64 / 1e6,
            mebibytes(self.bytes())
        )
    }
}
