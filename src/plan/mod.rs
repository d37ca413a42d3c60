//! A graph compiled for a device: every kernel, buffer and bind group is made before the first run.
//!
//! ```text
//! Graph --lower--> Steps over Places --liveness--> slots --compile--> Plan --run--> one pass, one submission
//! ```
//!
//! A single operation, built by hand, compiled, fed, run and read:
//!
//! ```
//! use frazil::graph::{Conv2d, DType, Graph, Op, StepScalars};
//! use frazil::shape::{Padding, Shape, Window};
//! use frazil::{Gpu, GpuOptions, Plan, PlanOptions};
//!
//! let window = Window { padding: Padding::Same, ..Window::new([3, 3]) };
//! let conv = Conv2d::new([5, 5, 1], 1, window, 1, "blur")?;
//! let mut graph = Graph::new(2)?; // batches of up to 2
//! let x = graph.batch_input("x", &[5, 5, 1], DType::F32)?;
//! let kernel = graph.input("kernel", Shape::new(conv.kernel_shape())?, DType::F32);
//! let y = graph.push_one(Op::Conv2d(conv), &[x, kernel], "blur")?;
//! graph.mark_output(y)?;
//!
//! let plan = Plan::compile(&Gpu::new(GpuOptions::default())?, &graph, &PlanOptions::default())?;
//! plan.write_f32(x, &[1.0; 50])?;
//! plan.write_f32(kernel, &[1.0; 9])?;
//! plan.run(StepScalars::forward(2))?;
//! assert_eq!(plan.read_f32(y)?[..5], [4.0, 6.0, 6.0, 6.0, 4.0]);
//! # Ok::<(), frazil::Error>(())
//! ```

mod alias;
mod compile;
mod cost;
mod digest;
mod fuse;
mod fuse_pool;
mod gaps;
mod gradients;
mod layout;
mod liveness;
mod lower;
mod prepare;
mod profile;
mod report;
mod store;
mod sums;
mod transfer;

pub use cost::{CostModel, WinogradCost};
pub use digest::{Arena, Elements};
pub use layout::{Layout, Spot};
pub use lower::{Algorithm, GradientStrategy, Winograd};
pub use profile::TimedDispatch;
pub use report::{Avoided, BufferUse, DispatchUse, PlanReport};
pub use store::{Digest, Store};
pub use sums::RunningSums;

use crate::error::{Error, Result};
use crate::gpu::{AdapterReport, Gpu, GpuBuffer, Pipeline, ReadRing};
use crate::graph::{Graph, StepScalars};
use crate::kernels::{GemmFamily, Launch};
use crate::mask::Mask;
use std::sync::{Arc, Mutex};

/// How to compile a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanOptions {
    family: Option<GemmFamily>,
    guard_bands: bool,
    flops_per_submission: u64,
    workspace_bytes: u64,
    explicit_columns: bool,
    masks: Vec<Mask>,
    gradient_strategy: GradientStrategy,
    winograd: Winograd,
    cost_model: Option<CostModel>,
}

impl Default for PlanOptions {
    /// The adapter's own family, no guard bands.
    fn default() -> Self {
        // About a second on the slowest adapter worth using; a step below that is one submission.
        PlanOptions {
            family: None,
            guard_bands: false,
            flops_per_submission: 40_000_000_000,
            workspace_bytes: lower::WORKSPACE_BYTES,
            explicit_columns: false,
            masks: Vec::new(),
            gradient_strategy: GradientStrategy::Auto,
            winograd: Winograd::Auto,
            cost_model: None,
        }
    }
}

impl PlanOptions {
    /// Multiplies matrices in this family, rather than in the one chosen for the adapter.
    pub fn family(mut self, family: GemmFamily) -> Self {
        self.family = Some(family);
        self
    }

    /// Puts a band with a known pattern behind every tensor, for [`Plan::check_guards`], and shares no memory.
    pub fn guard_bands(mut self, on: bool) -> Self {
        self.guard_bands = on;
        self
    }

    /// Cuts a run into submissions of about this many operations, so that no watchdog takes it for hung.
    pub fn flops_per_submission(mut self, flops: u64) -> Self {
        self.flops_per_submission = flops;
        self
    }

    /// Writes the patches of every convolution to memory first, even where the product can gather them: the check of the
    /// faster way.
    pub fn explicit_columns(mut self, on: bool) -> Self {
        self.explicit_columns = on;
        self
    }

    /// Leaves out the work whose results only frozen elements would discard. By parameter, for all of them or for none; the
    /// store must hold these masks, or masks in which more is frozen, whenever the plan runs.
    pub fn masks(mut self, masks: &[Mask]) -> Self {
        self.masks = masks.to_vec();
        self
    }

    /// Computes the gradients of all partly frozen kernels in this way, rather than in the cheapest one. What the graph or the
    /// geometry does not allow is computed whole.
    pub fn gradient_strategy(mut self, how: GradientStrategy) -> Self {
        self.gradient_strategy = how;
        self
    }

    /// When convolutions go by Winograd's transforms.
    pub fn winograd(mut self, when: Winograd) -> Self {
        self.winograd = when;
        self
    }

    /// What operations cost, rather than the constants of the adapter's class: decides between algorithms.
    pub fn cost_model(mut self, cost: CostModel) -> Self {
        self.cost_model = Some(cost);
        self
    }

    /// Cuts a batch's convolution into parts whose columns take about this many bytes, but never less than one image.
    pub fn workspace_bytes(mut self, bytes: u64) -> Self {
        self.workspace_bytes = bytes;
        self
    }
}

/// A graph, ready to run. See the module's text.
pub struct Plan {
    gpu: Gpu,
    graph: Graph,
    store: Store,
    values: Vec<Option<Home>>,
    slots: Vec<GpuBuffer>,
    scalars: GpuBuffer,
    sums: Arc<GpuBuffer>,
    options: PlanOptions,
    savings: lower::Savings,
    /// Bind groups use it; it is kept so that its bytes count.
    _params: GpuBuffer,
    _lists: Vec<GpuBuffer>,
    commands: Vec<Command>,
    submission_ends: Vec<usize>,
    guards: Vec<prepare::Guard>,
    report: PlanReport,
    ring: Mutex<ReadRing>,
}

/// Where a value lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    /// A slot of the plan.
    Slot(usize),
    /// The store's weights.
    Weights(Spot),
    /// The store's gradients.
    Gradients(Spot),
}

/// A dispatch with everything bound.
struct Command {
    label: String,
    pipeline: Arc<Pipeline>,
    bind_group: wgpu::BindGroup,
    groups: [u32; 3],
    /// Bytes of everything bound.
    bytes: u64,
}

impl Plan {
    /// Compiles a graph with a store of its own: parameters 0 until written, nothing frozen.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] before anything is created if a tensor does not fit the device;
    /// [`Error::OutOfMemory`], [`Error::Validation`], [`Error::DeviceLost`].
    pub fn compile(gpu: &Gpu, graph: &Graph, options: &PlanOptions) -> Result<Self> {
        let store = Store::new(gpu, graph)?;
        Self::compile_with(gpu, graph, &store, options)
    }

    /// Compiles a graph on an existing store, which must have the graph's parameters.
    ///
    /// # Errors
    /// As [`Plan::compile`]; [`Error::InvalidArgument`] if the store holds other parameters.
    pub fn compile_with(gpu: &Gpu, graph: &Graph, store: &Store, options: &PlanOptions) -> Result<Self> {
        compile::compile(gpu, graph, store, options, None)
    }

    /// A plan of another graph over the same parameters, with this one's options and masks, which goes on with its running sums.
    ///
    /// # Errors
    /// As [`Plan::compile_with`].
    pub fn beside(&self, graph: &Graph) -> Result<Self> {
        compile::compile(&self.gpu, graph, &self.store, &self.options, Some(Arc::clone(&self.sums)))
    }

    /// The plan for other masks, if they make a difference to what is computed: its running sums go on from here, inputs
    /// have to be written again.
    ///
    /// # Errors
    /// As [`Plan::compile`]; [`Error::MaskMismatch`]. This plan stays as it is.
    pub fn replan(&self, masks: &[Mask]) -> Result<Option<Self>> {
        let options = self.options.clone().masks(masks);
        if prepare::saved(&self.graph, self.gpu.report(), &options)? == self.savings {
            return Ok(None);
        }
        compile::compile(&self.gpu, &self.graph, &self.store, &options, Some(Arc::clone(&self.sums)))
            .map(Some)
    }

    /// Bytes that a graph would take on this adapter, without creating anything.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] if it does not fit.
    pub fn estimate(graph: &Graph, report: &AdapterReport, options: &PlanOptions) -> Result<PlanReport> {
        prepare::estimate(graph, report, options)
    }

    /// The kernels that a plan would run, in order, without creating anything.
    ///
    /// # Errors
    /// As [`Plan::estimate`].
    pub fn launches(graph: &Graph, report: &AdapterReport, options: &PlanOptions) -> Result<Vec<Launch>> {
        prepare::launches(graph, report, options)
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Parameters, masks and state.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Buffers, bytes, dispatches and operations.
    pub fn report(&self) -> &PlanReport {
        &self.report
    }

    /// Runs every operation once on `scalars.rows` examples. Returns when the work is submitted; reading waits for it.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`]; [`Error::ShapeMismatch`] for more rows than the graph's batch; [`Error::DeviceLost`],
    /// [`Error::Timeout`].
    pub fn run(&self, scalars: StepScalars) -> Result<()> {
        self.check_rows(scalars)?;
        self.gpu.write(&self.scalars, 0, bytemuck::bytes_of(&scalars))?;
        let mut first = 0;
        for &end in &self.submission_ends {
            self.gpu.submit("step", |encoder| {
                encode(encoder, &self.commands[first..end]);
            })?;
            first = end;
        }
        Ok(())
    }

    fn check_rows(&self, scalars: StepScalars) -> Result<()> {
        let rows = scalars.rows as usize;
        if rows == 0 {
            return Err(Error::EmptyBatch { at: "Plan::run".into() });
        }
        if rows > self.graph.batch() {
            return Err(Error::shape("Plan::run", format!("at most {} rows", self.graph.batch()), rows));
        }
        Ok(())
    }
}

fn encode(encoder: &mut wgpu::CommandEncoder, commands: &[Command]) {
    let descriptor = wgpu::ComputePassDescriptor { label: Some("step"), timestamp_writes: None };
    let mut pass = encoder.begin_compute_pass(&descriptor);
    let mut current: Option<&Arc<Pipeline>> = None;
    for command in commands {
        if !current.is_some_and(|c| Arc::ptr_eq(c, &command.pipeline)) {
            pass.set_pipeline(&command.pipeline.raw);
            current = Some(&command.pipeline);
        }
        pass.set_bind_group(0, &command.bind_group, &[]);
        pass.dispatch_workgroups(command.groups[0], command.groups[1], command.groups[2]);
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let labels: Vec<_> = self.commands.iter().map(|c| &c.label).collect();
        f.debug_struct("Plan").field("gpu", &self.gpu).field("commands", &labels).finish_non_exhaustive()
    }
}
