//! Options of compilation, and the settings that the compiler passes derive from them for an adapter.

use super::cost::CostModel;
use crate::error::{Error, Result};
use crate::gpu::AdapterReport;
use crate::kernels::{GemmFamily, MAX_ITERATIONS, supports_winograd_fused};
use crate::mask::Mask;
use std::str::FromStr;

/// Default maximum bytes of a workspace; one image may exceed it. Larger column matrices do not fit the
/// caches and are not faster.
const WORKSPACE_BYTES: u64 = 64 << 20;

/// When convolutions use Winograd's minimal filtering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Winograd {
    /// Never use Winograd.
    Never,
    /// Use Winograd where the cost model predicts a speedup.
    Auto,
    /// Use Winograd wherever the geometry allows it.
    Always,
    /// Use F(2x2, 3x3) in one kernel for the forward pass and the input gradient of 3x3 convolutions of stride 1,
    /// wherever the geometry and the adapter allow it, and no Winograd for the others. It needs 256
    /// invocations and 16 KiB of workgroup memory per workgroup.
    Fused,
}

/// Parses `auto`, `direct` (never), `winograd` (always) or `winograd-fused`.
impl FromStr for Winograd {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Winograd::Auto),
            "direct" => Ok(Winograd::Never),
            "winograd" => Ok(Winograd::Always),
            "winograd-fused" => Ok(Winograd::Fused),
            _ => Err(Error::argument("algorithm", "auto, direct, winograd or winograd-fused", text)),
        }
    }
}

/// How the weight gradients of partly frozen kernels are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GradientStrategy {
    /// The cheapest of the other strategies under the cost model.
    Auto,
    /// Compute the dense gradient, and ignore its frozen elements.
    Dense,
    /// Compute only the columns of the kernel matrix (output channels) that have trainable elements.
    Columns,
    /// Compute only the rows of the kernel matrix (kernel row, kernel column, input channel) that have
    /// trainable elements.
    Rows,
    /// Compute each trainable element separately, as a dot product.
    Elements,
}

/// How sums over rows are computed: bias gradients, batch statistics and their gradients, global average
/// pooling and the reduction of split-K. The two variants differ in the order of summation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reduction {
    /// As the cost model of the adapter's class sets it.
    Auto,
    /// Each invocation computes one partial sum: for software adapters.
    Serial,
    /// The invocations of a workgroup share the terms of a sum: for GPUs.
    Parallel,
}

/// Options of graph compilation.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanOptions {
    pub(crate) family: Option<GemmFamily>,
    pub(crate) guard_bands: bool,
    pub(crate) flops_per_submission: u64,
    pub(crate) workspace_bytes: u64,
    pub(crate) explicit_columns: bool,
    pub(crate) masks: Vec<Mask>,
    pub(crate) gradient_strategy: GradientStrategy,
    pub(crate) winograd: Winograd,
    pub(crate) reduction: Reduction,
    pub(crate) cost_model: Option<CostModel>,
    pub(crate) missed_steps: bool,
    pub(crate) max_iterations: usize,
}

impl Default for PlanOptions {
    /// GEMM family and cost model of the adapter, no masks, no guard bands.
    fn default() -> Self {
        PlanOptions {
            family: None,
            guard_bands: false,
            // This many operations take about one second on the slowest adapter that is still practical. A
            // run with fewer operations is a single submission.
            flops_per_submission: 40_000_000_000,
            workspace_bytes: WORKSPACE_BYTES,
            explicit_columns: false,
            masks: Vec::new(),
            gradient_strategy: GradientStrategy::Auto,
            winograd: Winograd::Auto,
            reduction: Reduction::Auto,
            cost_model: None,
            missed_steps: false,
            max_iterations: MAX_ITERATIONS,
        }
    }
}

impl PlanOptions {
    /// Sets the GEMM family, instead of the one chosen for the adapter.
    pub fn family(mut self, family: GemmFamily) -> Self {
        self.family = Some(family);
        self
    }

    /// Adds a guard band with a fixed pattern after every tensor, for `Plan::check_guards`, and disables
    /// memory sharing between tensors.
    pub fn guard_bands(mut self, on: bool) -> Self {
        self.guard_bands = on;
        self
    }

    /// Splits a run into submissions of about this many floating-point operations, so that the driver's
    /// watchdog does not reset the device.
    pub fn flops_per_submission(mut self, flops: u64) -> Self {
        self.flops_per_submission = flops;
        self
    }

    /// Computes every convolution with an explicit column matrix in memory (im2col), as a baseline for the
    /// faster algorithms.
    pub fn explicit_columns(mut self, on: bool) -> Self {
        self.explicit_columns = on;
        self
    }

    /// Skips work whose results only frozen elements would use. Takes one mask per parameter, or an empty
    /// slice. Whenever the plan runs, the store must contain these masks, or masks that freeze more elements.
    pub fn masks(mut self, masks: &[Mask]) -> Self {
        self.masks = masks.to_vec();
        self
    }

    /// Sets how the gradients of partly frozen kernels are computed. Where the graph or the geometry does not
    /// allow the strategy, the dense gradient is computed.
    pub fn gradient_strategy(mut self, strategy: GradientStrategy) -> Self {
        self.gradient_strategy = strategy;
        self
    }

    /// Sets when convolutions use Winograd's minimal filtering.
    pub fn winograd(mut self, when: Winograd) -> Self {
        self.winograd = when;
        self
    }

    /// Sets how sums over rows are computed.
    pub fn reduction(mut self, reduction: Reduction) -> Self {
        self.reduction = reduction;
        self
    }

    /// Sets the cost model that decides between algorithms, instead of the one of the adapter's class.
    pub fn cost_model(mut self, cost: CostModel) -> Self {
        self.cost_model = Some(cost);
        self
    }

    /// Makes updates by Adam read how many steps each element missed (`Store::write_missed_steps`), for the
    /// bias correction. Without this option, no element missed a step.
    pub fn missed_steps(mut self, on: bool) -> Self {
        self.missed_steps = on;
        self
    }

    /// Divides a batch so that the column matrix of each part takes at most about this many bytes; a part has
    /// at least one image.
    pub fn workspace_bytes(mut self, bytes: u64) -> Self {
        self.workspace_bytes = bytes;
        self
    }

    /// Sets the maximum number of loop iterations of one invocation of a kernel: the default is 65,000, because
    /// software adapters end every loop after 65,535 iterations. Sums and loops that exceed it are divided
    /// into parts. A smaller number divides shorter sums, for tests, except those of a GEMM.
    pub fn max_iterations(mut self, iterations: usize) -> Self {
        self.max_iterations = iterations.min(MAX_ITERATIONS);
        self
    }
}

/// Options resolved for an adapter: the settings that the compiler passes read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Number of examples in a full batch.
    pub batch: usize,
    pub family: GemmFamily,
    /// Maximum size of a storage buffer binding, in bytes.
    pub max_binding: u64,
    pub workspace_bytes: u64,
    pub explicit_columns: bool,
    pub guard_bands: bool,
    pub gradient_strategy: GradientStrategy,
    pub winograd: Winograd,
    /// Whether the adapter supports the fused Winograd kernel.
    pub winograd_fused: bool,
    pub parallel_reductions: bool,
    pub cost: CostModel,
    pub missed_steps: bool,
    /// Maximum number of loop iterations of one invocation.
    pub max_iterations: usize,
}

impl Settings {
    /// Resolves the options for an adapter.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a GEMM family that the adapter does not support.
    pub fn new(batch: usize, adapter: &AdapterReport, options: &PlanOptions) -> Result<Self> {
        let family = options.family.unwrap_or_else(|| GemmFamily::choose(adapter));
        if !family.is_supported(adapter) {
            let supported: Vec<_> = GemmFamily::supported(adapter).iter().map(ToString::to_string).collect();
            let mut expected = format!("a family that {} supports: {}", adapter.name, supported.join(", "));
            if matches!(family, GemmFamily::Cooperative { .. }) && adapter.cooperative_matrix.is_none() {
                expected += " (cooperative matrices need `GpuOptions::cooperative_matrix` and a device that has them)";
            }
            return Err(Error::argument("gemm family", expected, family));
        }
        let cost = options.cost_model.unwrap_or_else(|| CostModel::of(adapter));
        Ok(Settings {
            batch,
            family,
            max_binding: adapter.max_binding.min(adapter.max_buffer),
            workspace_bytes: options.workspace_bytes,
            explicit_columns: options.explicit_columns,
            guard_bands: options.guard_bands,
            gradient_strategy: options.gradient_strategy,
            winograd: options.winograd,
            winograd_fused: supports_winograd_fused(adapter),
            parallel_reductions: match options.reduction {
                Reduction::Auto => cost.parallel_reductions,
                Reduction::Serial => false,
                Reduction::Parallel => true,
            },
            cost,
            missed_steps: options.missed_steps,
            max_iterations: options.max_iterations,
        })
    }
}

#[cfg(test)]
impl Settings {
    /// Settings of software Vulkan, with batches of 64.
    pub const SOFTWARE: Settings = Settings {
        batch: 64,
        family: GemmFamily::Subgroup { lanes: 8 },
        max_binding: 128 << 20,
        workspace_bytes: WORKSPACE_BYTES,
        explicit_columns: false,
        guard_bands: false,
        gradient_strategy: GradientStrategy::Auto,
        winograd: Winograd::Auto,
        winograd_fused: true,
        parallel_reductions: false,
        cost: CostModel::SOFTWARE,
        missed_steps: false,
        max_iterations: MAX_ITERATIONS,
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_are_parsed_and_others_refused() {
        let parsed =
            ["auto", "direct", "winograd", "winograd-fused"].map(|name| name.parse::<Winograd>().unwrap());
        assert_eq!(parsed, [Winograd::Auto, Winograd::Never, Winograd::Always, Winograd::Fused]);
        for wrong in ["", "fused", "Winograd"] {
            let error = wrong.parse::<Winograd>().unwrap_err();
            assert!(error.to_string().contains("winograd-fused"), "{error}");
        }
    }
}
