//! Graphs of operations, their compilation and their execution: for custom networks and losses, single
//! operations, and inspection tools.
//!
//! A [`Graph`] is a flat list of operations. [`Reference`] interprets it in f64 on the CPU; [`Plan`] compiles
//! it for a device and runs it. [`Graph::backward`] appends the gradients of any loss. A single operation,
//! compiled and run:
//!
//! ```
//! use frazil::low_level::{Conv2d, DType, Graph, Op, Plan, PlanOptions, Shape, StepScalars, Window};
//! use frazil::{Gpu, GpuOptions, Padding};
//!
//! let window = Window { padding: Padding::Same, ..Window::new([3, 3]) };
//! let conv = Conv2d::new([5, 5, 1], 1, window, 1, "blur")?;
//! let mut graph = Graph::new(2)?; // batches of up to 2 examples
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

pub use crate::compiler::{
    Algorithm, ArenaRange, Avoided, BufferUse, CostModel, Crossing, DispatchUse, GradientStrategy, Layout,
    PlanOptions, PlanReport, Reduction, Winograd, WinogradCost,
};
pub use crate::engine::{Arena, Elements, Peaks, Plan, Rejected, RunningSums, Store, TimedDispatch, peaks};
pub use crate::graph::{
    Activation, Clip, Conv2d, DType, Dropout, ElementLoss, Graph, Node, Normalization, Op, Parameter,
    ParameterId, ParameterKind, Pool2d, Resample2d, Resampling, ResamplingRule, Role, StatisticsRule,
    StepScalars, Target, UpdateRule, Value, ValueId,
};
pub use crate::kernels::{
    Digest, FILES, GemmFamily, Launch, TILES, Tile, TileSet, Variant, WgslFile, digest,
};
pub use crate::reference::{Reference, ReferenceSums};
pub use crate::rng::{Purpose, Stream, threefry};
pub use crate::shape::{MAX_ELEMENTS, Padding, Shape, Window, WindowGeometry};
