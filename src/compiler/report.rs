//! Report of a plan: buffers, dispatches and floating-point operations.

use super::Algorithm;
use std::fmt;

/// A buffer of a plan or of its parameter store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferUse {
    /// Name of the contents, such as `weights`.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// A dispatch of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DispatchUse {
    /// Label of the operation.
    pub label: String,
    /// Algorithm, if the operation is a convolution or one of its gradients.
    pub algorithm: Option<Algorithm>,
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Number of workgroups in x, y and z.
    pub groups: [u32; 3],
    /// Floating-point operations for a full batch.
    pub flops: u64,
    /// Bytes that the kernel reads for a full batch: each tensor or range that it binds for reading or updates
    /// in place, once, whatever caches do. A gathered operand counts in full.
    pub bytes_read: u64,
    /// Bytes that the kernel writes for a full batch: each tensor or range that it binds for writing, once.
    pub bytes_written: u64,
    /// Floating-point operations that the tiles of a GEMM perform for a full batch, those in empty rows, columns
    /// and steps of k included; 0 for other kernels.
    pub tile_flops: u64,
}

impl DispatchUse {
    /// Share of the tiles' operations that contribute to the result of a GEMM, from 0 to 1; `None` for other
    /// kernels.
    pub fn useful_share(&self) -> Option<f64> {
        useful_share(std::slice::from_ref(self))
    }
}

fn useful_share(dispatches: &[DispatchUse]) -> Option<f64> {
    let gemms = || dispatches.iter().filter(|d| d.tile_flops > 0);
    let useful: u64 = gemms().map(|d| d.flops).sum();
    let performed: u64 = gemms().map(|d| d.tile_flops).sum();
    (performed > 0).then(|| useful as f64 / performed as f64)
}

/// Shares of a kernel that must be frozen for a partial weight gradient to be computed instead of the dense one: from
/// each share on, up to 1, the cost model expects the partial gradient to be faster. `None` where it never is.
#[derive(Clone, Debug, PartialEq)]
pub struct Crossing {
    /// Label of the operation.
    pub label: String,
    /// Share of entire columns of the kernel matrix (filters).
    pub columns: Option<f64>,
    /// Share of entire rows of the kernel matrix (kernel row, kernel column, input channel).
    pub rows: Option<f64>,
    /// Share of scattered elements.
    pub elements: Option<f64>,
}

/// Work that frozen elements save in one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Avoided {
    /// Label of the operation.
    pub label: String,
    /// Floating-point operations that are omitted, compared with a plan with nothing frozen.
    pub flops: u64,
}

/// Buffers, dispatches and floating-point operations of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanReport {
    /// The adapter's name.
    pub adapter: String,
    /// Name of the GEMM family.
    pub family: String,
    /// Examples in a full batch.
    pub batch: usize,
    /// Buffers that outlive the plan, such as those of the parameter store.
    pub persistent: Vec<BufferUse>,
    /// Buffers of the plan itself; its intermediate values share them.
    pub per_step: Vec<BufferUse>,
    /// Dispatches in order.
    pub dispatches: Vec<DispatchUse>,
    /// Work of each operation that is omitted because of frozen elements.
    pub avoided: Vec<Avoided>,
    /// The least bytes that a run must read and write if only convolutions, matrix multiplications and the
    /// updates of parameters access memory and all other operations are fused into them: the operands and
    /// results of each of these, once.
    pub minimum_bytes: u64,
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

    /// Bytes that all dispatches of one run read and write: the sums of [`DispatchUse::bytes_read`] and
    /// [`DispatchUse::bytes_written`].
    pub fn traffic(&self) -> u64 {
        self.dispatches.iter().map(|d| d.bytes_read + d.bytes_written).sum()
    }

    /// Share of the operations of all GEMMs' tiles that contribute to results, from 0 to 1; the others are in rows,
    /// columns and steps of k beyond the edges of the matrices. `None` without a GEMM.
    pub fn useful_share(&self) -> Option<f64> {
        useful_share(&self.dispatches)
    }

    /// Floating-point operations of one run that are omitted because of frozen elements.
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
        for (kind, buffers) in [("persistent", &self.persistent), ("per step", &self.per_step)] {
            for buffer in buffers {
                writeln!(f, "  {:<10} {:<24} {:>10.3} MiB", kind, buffer.name, mebibytes(buffer.bytes))?;
            }
        }
        for d in &self.dispatches {
            let groups = format!("{}x{}x{}", d.groups[0], d.groups[1], d.groups[2]);
            let useful = d.useful_share().map(|share| format!(", {:.1} % of its tiles", 100.0 * share));
            writeln!(
                f,
                "  {:<26} {:<16} {:<28} {:>12} {:>10.3} MFLOP {:>9.3} MB read {:>9.3} MB written{}",
                d.label,
                d.algorithm.map(|algorithm| algorithm.to_string()).unwrap_or_default(),
                d.kernel,
                groups,
                d.flops as f64 / 1e6,
                d.bytes_read as f64 / 1e6,
                d.bytes_written as f64 / 1e6,
                useful.unwrap_or_default()
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
            "  {} dispatches, {:.3} MFLOP, {:.3} MB read and written (at least {:.3} MB), {:.3} MiB",
            self.dispatches.len(),
            self.flops() as f64 / 1e6,
            self.traffic() as f64 / 1e6,
            self.minimum_bytes as f64 / 1e6,
            mebibytes(self.bytes())
        )?;
        match self.useful_share() {
            Some(share) => write!(f, ", {:.1} % of the GEMMs' tiles useful", 100.0 * share),
            None => Ok(()),
        }
    }
}
