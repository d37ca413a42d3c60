//! Plans: graphs compiled for a device. Compilation creates all pipelines, buffers and bind groups, so runs
//! create none.

#[cfg(not(target_family = "wasm"))]
use super::ahead;
use super::encode::{Command, bind_group, encode, range};
use super::running_sums::RunningSums;
use super::store::{GUARD_WORD, Store};
use crate::compiler::{
    self, Algorithm, ArenaId, Binding, BufferId, Crossing, Dispatch, Location, PlanOptions, PlanReport,
    Program, READ_BYTES, READ_SLOTS, accumulates, state_slots, uniform_bytes,
};
use crate::error::{Error, Result};
use crate::gpu::{AdapterReport, Gpu, GpuBuffer, ReadRing, Shader};
use crate::graph::{DType, Graph, ParameterId, Role, StepScalars, ValueId};
use crate::kernels::{Launch, SUMS_BYTES, Variant};
use crate::mask::Mask;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A graph compiled for a device and ready to run: all pipelines, buffers and bind groups exist.
pub struct Plan {
    gpu: Gpu,
    graph: Graph,
    store: Store,
    options: PlanOptions,
    program: Program,
    buffers: Buffers,
    commands: Vec<Command>,
    /// Locked while a run writes its scalars and submits the dispatches that read them.
    running: Mutex<()>,
    ring: Mutex<ReadRing>,
}

/// The buffers of a plan.
struct Buffers {
    slots: Vec<GpuBuffer>,
    lists: Vec<GpuBuffer>,
    /// Uniform buffer with the kernel parameters of every dispatch.
    params: GpuBuffer,
    scalars: GpuBuffer,
    /// Running sums of the metrics, shared with the plans that were compiled from this one.
    running_sums: Arc<GpuBuffer>,
}

/// One dispatch of a profiled run.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedDispatch {
    /// Label of the operation.
    pub label: String,
    /// Algorithm, if the operation is a convolution or one of its gradients.
    pub algorithm: Option<Algorithm>,
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Begin time in nanoseconds, relative to the begin of the run's first dispatch.
    pub begin_ns: f64,
    /// Duration in nanoseconds.
    pub ns: f64,
    /// Floating-point operations for a full batch.
    pub flops: u64,
    /// Bytes that the kernel reads and writes, as counted in the plan's report.
    pub bytes: u64,
}

/// Maximum number of profiled dispatches per submission. Each one needs two timestamp queries, and wgpu
/// allows 4,096 queries in a set.
const TIMED_AT_ONCE: usize = 2_000;

impl Plan {
    /// Compiles a graph with a new store: parameters are 0 until written, and nothing is frozen.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] before anything is created if a tensor does not fit the device;
    /// [`Error::OutOfMemory`], [`Error::Validation`], [`Error::DeviceLost`].
    pub fn compile(gpu: &Gpu, graph: &Graph, options: &PlanOptions) -> Result<Self> {
        let mut store = Store::new(gpu, graph)?;
        if options.missed_steps {
            store = store.with_missed_steps()?;
        }
        Self::compile_with(gpu, graph, &store, options)
    }

    /// Compiles a graph on an existing store, which must have the graph's parameters.
    ///
    /// # Errors
    /// As [`Plan::compile`]; [`Error::InvalidArgument`] if the store's parameters or state tensors are not
    /// those of the graph, or if it lacks missed steps that the options require.
    pub fn compile_with(gpu: &Gpu, graph: &Graph, store: &Store, options: &PlanOptions) -> Result<Self> {
        Self::build(gpu, graph, store, options, None)
    }

    /// Compiles the pipelines of several graphs and of the store's digest at the same time, where a browser does that in
    /// parallel. Plans that are built before the result is dropped find them in the browser's cache.
    #[cfg(target_family = "wasm")]
    pub(crate) fn compile_together(
        gpu: &Gpu,
        graphs: [&Graph; 2],
        store: &Store,
        options: &PlanOptions,
    ) -> Result<impl Sized + use<>> {
        let mut all = vec![store.digest_shader().into()];
        for graph in graphs {
            all.extend(shaders(&compiler::compile(graph, store.layout(), gpu.report(), options)?));
        }
        Ok(gpu.compile_in_parallel(&all))
    }

    /// Compiles another graph over the same parameters, with this plan's options, masks and running sums.
    ///
    /// # Errors
    /// As [`Plan::compile_with`].
    pub fn compile_beside(&self, graph: &Graph) -> Result<Self> {
        let running_sums = Arc::clone(&self.buffers.running_sums);
        Self::build(&self.gpu, graph, &self.store, &self.options, Some(running_sums))
    }

    /// Compiles the plan for other masks; `None` if they do not change which work is omitted. The new plan
    /// continues the running sums; its inputs must be written again.
    ///
    /// # Errors
    /// As [`Plan::compile`]; [`Error::MaskMismatch`]. This plan is not changed.
    pub fn recompile(&self, masks: &[Mask]) -> Result<Option<Self>> {
        self.recompile_on(&self.store, masks)
    }

    /// [`Plan::recompile`] on a store with the same parameters, with the missed steps if this store has them.
    pub(crate) fn recompile_on(&self, store: &Store, masks: &[Mask]) -> Result<Option<Self>> {
        let options = self.options.clone().masks(masks).missed_steps(store.has_missed_steps());
        let frozen_work = compiler::analyse_masks(&self.graph, self.gpu.report(), &options)?;
        let unchanged = options.missed_steps == self.options.missed_steps;
        if unchanged && frozen_work == self.program.frozen_work {
            return Ok(None);
        }
        let running_sums = Arc::clone(&self.buffers.running_sums);
        Self::build(&self.gpu, &self.graph, store, &options, Some(running_sums)).map(Some)
    }

    /// Returns the buffers and dispatches that a graph would need on an adapter, without creating anything.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] if a tensor does not fit the adapter.
    pub fn estimate(graph: &Graph, report: &AdapterReport, options: &PlanOptions) -> Result<PlanReport> {
        let layout = compiler::layout_on(graph, report)?;
        Ok(compiler::compile(graph, &layout, report, options)?.report)
    }

    /// Returns, for each weight gradient of a graph, which shares of its kernel must be frozen for the gradient to
    /// become cheaper on an adapter, by the cost model.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a GEMM family that the adapter does not support.
    pub fn crossings(graph: &Graph, report: &AdapterReport, options: &PlanOptions) -> Result<Vec<Crossing>> {
        compiler::crossings(graph, report, options)
    }

    /// Returns the kernel launches of a plan, in order, without creating anything.
    ///
    /// # Errors
    /// As [`Plan::estimate`].
    pub fn launches(graph: &Graph, report: &AdapterReport, options: &PlanOptions) -> Result<Vec<Launch>> {
        let layout = compiler::layout_on(graph, report)?;
        let program = compiler::compile(graph, &layout, report, options)?;
        Ok(program.dispatches.into_iter().map(|dispatch| dispatch.launch).collect())
    }

    /// Compiles a graph and creates its buffers, pipelines and bind groups. `running_sums` are those of an
    /// existing plan to continue, if any.
    fn build(
        gpu: &Gpu,
        graph: &Graph,
        store: &Store,
        options: &PlanOptions,
        running_sums: Option<Arc<GpuBuffer>>,
    ) -> Result<Self> {
        check_store(graph, store, options)?;
        let program = compiler::compile(graph, store.layout(), gpu.report(), options)?;
        let buffers = Buffers::new(gpu, &program, running_sums)?;
        let shaders = shaders(&program);
        #[cfg(not(target_family = "wasm"))]
        ahead::compile(gpu, &program, &shaders, StepScalars::forward(graph.batch()));
        #[cfg(target_family = "wasm")]
        let _compiled = gpu.compile_in_parallel(&shaders);
        let mut commands = Vec::new();
        let mut params = 0;
        for (dispatch, shader) in program.dispatches.iter().zip(&shaders) {
            commands.push(command(gpu, store, &buffers, params, dispatch, shader)?);
            params += uniform_bytes(&dispatch.launch);
        }
        let ring = Mutex::new(ReadRing::new(gpu, "read back", READ_SLOTS, READ_BYTES)?);
        Ok(Plan {
            gpu: gpu.clone(),
            graph: graph.clone(),
            store: store.clone(),
            options: options.clone(),
            program,
            buffers,
            commands,
            running: Mutex::new(()),
            ring,
        })
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The store of parameters, masks and state.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Buffers, bytes, dispatches and floating-point operations.
    pub fn report(&self) -> &PlanReport {
        &self.program.report
    }

    /// Runs every operation once on `scalars.rows` examples. Returns when the work is submitted; reads wait
    /// for it to finish.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`]; [`Error::ShapeMismatch`] for more rows than the graph's batch;
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn run(&self, scalars: StepScalars) -> Result<()> {
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_scalars(scalars)?;
        let mut first = 0;
        for &end in &self.program.submission_ends {
            self.gpu.submit("step", |encoder| encode(encoder, &self.commands[first..end], None))?;
            first = end;
        }
        Ok(())
    }

    /// Runs the operations before the first that reads one of `inputs`, then `between`, which may read results and write
    /// the inputs, and then the others. If `between` fails, these are not run.
    ///
    /// # Errors
    /// As [`Plan::run`], and those of `between`.
    pub(crate) fn run_in_two(
        &self,
        scalars: StepScalars,
        inputs: &[ValueId],
        between: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let located = |id: &ValueId| match self.program.locations.get(id.0) {
            Some(&Some(Location::Slot { slot, offset })) => Some((BufferId::Slot(slot), offset)),
            _ => None,
        };
        let starts: Vec<_> = inputs.iter().filter_map(located).collect();
        let reads = |dispatch: &Dispatch| {
            dispatch.bindings.iter().any(|binding| starts.contains(&(binding.buffer, binding.offset)))
        };
        let all = self.commands.len();
        let middle = self.program.dispatches.iter().position(reads).unwrap_or(all);
        let mut between = Some(between);
        self.run_in_parts(scalars, &[middle, all], |record| {
            self.gpu.submit("step", record)?;
            between.take().map_or(Ok(()), |between| between())
        })
    }

    /// Runs the operations up to each of `ends`, numbers of dispatches that do not fall. For each part, `submit` has to
    /// make a submission of the commands that it is given: all of the part, or the last ones of a long part.
    ///
    /// # Errors
    /// As [`Plan::run`], and those of `submit`.
    pub(crate) fn run_in_parts(
        &self,
        scalars: StepScalars,
        ends: &[usize],
        mut submit: impl FnMut(&dyn Fn(&mut wgpu::CommandEncoder)) -> Result<()>,
    ) -> Result<()> {
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_scalars(scalars)?;
        let mut first = 0;
        for &end in ends {
            for &limit in self.program.submission_ends.iter().filter(|&&limit| limit < end) {
                if limit > first {
                    self.gpu
                        .submit_part("step", |encoder| encode(encoder, &self.commands[first..limit], None))?;
                    first = limit;
                }
            }
            let commands = &self.commands[first..end];
            submit(&|encoder| encode(encoder, commands, None))?;
            first = end;
        }
        Ok(())
    }

    /// The parameters whose gradients are accumulated, each with the number of dispatches until then, in their order.
    pub(crate) fn accumulated(&self) -> &[(ParameterId, usize)] {
        &self.program.accumulated
    }

    /// The number of dispatches before those of [`Plan::run_updates`].
    pub(crate) fn before_updates(&self) -> usize {
        let updates = |dispatch: &Dispatch| dispatch.launch.kernel.is_update();
        self.program.dispatches.iter().position(updates).unwrap_or(self.commands.len())
    }

    /// Runs the clipping of gradients and the updates alone, on the gradients in the store.
    ///
    /// # Errors
    /// As [`Plan::run`].
    pub(crate) fn run_updates(&self, scalars: StepScalars) -> Result<()> {
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_scalars(scalars)?;
        let commands = &self.commands[self.before_updates()..];
        self.gpu.submit("update", |encoder| encode(encoder, commands, None)).map(drop)
    }

    /// Runs like [`Plan::run`], with each dispatch in a separate compute pass between timestamps, and waits
    /// for the device.
    ///
    /// # Errors
    /// As [`Plan::run`]; [`Error::InvalidArgument`] if the adapter has no timestamps.
    pub fn profile(&self, scalars: StepScalars) -> Result<Vec<TimedDispatch>> {
        if !self.gpu.report().timestamps {
            let got = format!("{}, which has none", self.gpu.report().name);
            let expected = "an adapter with timestamp queries; time whole steps with Plan::run instead";
            return Err(Error::argument("Plan::profile", expected, got));
        }
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_scalars(scalars)?;
        let mut ticks = Vec::new();
        for commands in self.commands.chunks(TIMED_AT_ONCE) {
            ticks.extend(self.time(commands)?);
        }
        let nanoseconds = f64::from(self.gpu.timestamp_period());
        let start = ticks.first().map_or(0, |pair| pair[0]);
        let dispatches = self.program.dispatches.iter().zip(&self.report().dispatches);
        let timed = dispatches.zip(ticks).map(|((dispatch, used), [begin, end])| TimedDispatch {
            label: dispatch.label.clone(),
            algorithm: dispatch.algorithm,
            kernel: dispatch.launch.kernel.name,
            begin_ns: begin.wrapping_sub(start) as f64 * nanoseconds,
            ns: end.wrapping_sub(begin) as f64 * nanoseconds,
            flops: dispatch.launch.flops,
            bytes: used.bytes_read + used.bytes_written,
        });
        Ok(timed.collect())
    }

    /// Runs commands, and returns the device's clock before and after each of them.
    fn time(&self, commands: &[Command]) -> Result<Vec<[u64; 2]>> {
        let count = 2 * commands.len() as u32;
        let bytes = 8 * u64::from(count);
        let queries = self.gpu.error_scope("timestamps", bytes, || {
            self.gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count,
            })
        })?;
        let resolved = self.gpu.query_buffer("timestamps", bytes)?;
        self.gpu.submit("profile", |encoder| {
            encode(encoder, commands, Some(&queries));
            encoder.resolve_query_set(&queries, 0..count, resolved.raw(), 0);
        })?;
        let words = self.read_words(&resolved, 0, bytes)?;
        let tick = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        Ok(words.chunks_exact(4).map(|w| [tick(w[0], w[1]), tick(w[2], w[3])]).collect())
    }

    fn write_scalars(&self, scalars: StepScalars) -> Result<()> {
        let rows = scalars.rows as usize;
        if rows == 0 {
            return Err(Error::EmptyBatch { at: "Plan::run".into() });
        }
        if rows > self.graph.batch() {
            let expected = format!(
                "at most {} rows, the batch size of the graph; run fewer rows at a time, or give Graph::new more",
                self.graph.batch()
            );
            return Err(Error::shape("Plan::run", expected, format!("{rows} rows")));
        }
        self.gpu.write(&self.buffers.scalars, 0, bytemuck::bytes_of(&scalars))
    }

    /// Writes floats to an input or a parameter: to the first rows if it has a batch axis, else to all
    /// elements.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a wrong number of elements, [`Error::InvalidArgument`] for a computed
    /// value, a value of another graph, or a value of another type.
    pub fn write_f32(&self, value: ValueId, data: &[f32]) -> Result<()> {
        self.write(value, DType::F32, data.len(), bytemuck::cast_slice(data))
    }

    /// [`Plan::write_f32`] for unsigned integers.
    ///
    /// # Errors
    /// As [`Plan::write_f32`].
    pub fn write_u32(&self, value: ValueId, data: &[u32]) -> Result<()> {
        self.write(value, DType::U32, data.len(), bytemuck::cast_slice(data))
    }

    /// Reads the floats of an input, a parameter, a gradient that an update reads, or a value marked with
    /// [`Graph::mark_output`]. Waits for the device.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for any other value or another type; [`Error::DeviceLost`],
    /// [`Error::Timeout`].
    pub fn read_f32(&self, value: ValueId) -> Result<Vec<f32>> {
        Ok(self.read(value, DType::F32)?.into_iter().map(f32::from_bits).collect())
    }

    /// [`Plan::read_f32`] for unsigned integers.
    ///
    /// # Errors
    /// As [`Plan::read_f32`].
    pub fn read_u32(&self, value: ValueId) -> Result<Vec<u32>> {
        self.read(value, DType::U32)
    }

    /// Reads the running sums since [`Plan::clear_sums`]. Waits for the device.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn sums(&self) -> Result<RunningSums> {
        let mut sums = RunningSums::from_bytes(&[]);
        let take = |bytes: &[u8]| sums = RunningSums::from_bytes(bytes);
        self.ring().read_all(&self.gpu, &self.buffers.running_sums, 0, SUMS_BYTES, take)?;
        Ok(sums)
    }

    /// Starts an asynchronous read of the running sums through the caller's ring.
    pub(crate) fn begin_sums(&self, ring: &mut ReadRing) -> Result<()> {
        ring.begin(&self.gpu, &self.buffers.running_sums, 0, SUMS_BYTES)
    }

    /// Resets the sums of loss, correct predictions, examples and weights to 0, but not the report of a
    /// non-finite loss or update.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn clear_sums(&self) -> Result<()> {
        self.gpu.write(&self.buffers.running_sums, 0, &[0; 12])?;
        // The sums are words 0 to 2 and word 5. Words 3 and 4 contain the report of a non-finite loss, words
        // 8 and 9 that of an update; both are kept.
        self.gpu.write(&self.buffers.running_sums, 20, &[0; 4])
    }

    /// Reports a non-finite loss at this step, modulo 2^32, as if this device had computed it.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub(crate) fn set_non_finite(&self, step: u32) -> Result<()> {
        if self.sums()?.non_finite_step.is_some() {
            return Ok(());
        }
        self.gpu.write(&self.buffers.running_sums, 12, bytemuck::cast_slice(&[1, step]))
    }

    /// Clears the report of a non-finite loss or update, so that updates continue.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn clear_non_finite(&self) -> Result<()> {
        self.gpu.write(&self.buffers.running_sums, 32, &[0; 8])?;
        self.gpu.write(&self.buffers.running_sums, 12, &[0; 8])
    }

    /// Checks the guard bands after all tensors. A plan compiled without [`PlanOptions::guard_bands`] has
    /// none.
    ///
    /// # Errors
    /// [`Error::Validation`] that names the first tensor with a write beyond its end.
    pub fn check_guards(&self) -> Result<()> {
        for guard in &self.program.guards {
            let words = self.read_words(&self.buffers.slots[guard.slot], guard.begin, guard.bytes)?;
            if let Some(index) = words.iter().position(|&w| w != GUARD_WORD) {
                let message = format!("wrote {:#010x} {index} elements beyond its end", words[index]);
                return Err(Error::Validation { kernel: guard.name.clone(), message, source: None });
            }
        }
        Ok(())
    }

    /// Returns the buffer and the byte offset of a value, after checking its type.
    fn locate(&self, value: ValueId, dtype: DType) -> Result<(&GpuBuffer, u64)> {
        let Some(info) = self.graph.values().get(value.0) else {
            return Err(Error::argument("value", "a value of this graph", format!("number {}", value.0)));
        };
        if info.dtype != dtype {
            let (has, methods) = match info.dtype {
                DType::F32 => ("F32", "Plan::write_f32 or Plan::read_f32"),
                DType::U32 => ("U32", "Plan::write_u32 or Plan::read_u32"),
            };
            let expected = format!("elements of type {has}; call {methods}");
            return Err(Error::argument(&info.name, expected, format!("{dtype:?}")));
        }
        match self.program.locations[value.0] {
            Some(Location::Slot { slot, offset }) => Ok((&self.buffers.slots[slot], offset)),
            Some(Location::Weights(range)) => {
                Ok((&self.store.arena(ArenaId::Weights)[range.chunk], 4 * range.first as u64))
            }
            Some(Location::Gradients(range)) => {
                Ok((&self.store.arena(ArenaId::Gradients)[range.chunk], 4 * range.first as u64))
            }
            None => Err(unmarked(&info.name)),
        }
    }

    fn write(&self, value: ValueId, dtype: DType, count: usize, bytes: &[u8]) -> Result<()> {
        let (buffer, offset) = self.locate(value, dtype)?;
        let info = self.graph.at(value);
        if info.role == Role::Computed {
            let expected = "an input or a parameter; Plan::run writes the computed values";
            return Err(Error::argument(&info.name, expected, "a computed value"));
        }
        let row = info.elements_per_row();
        let fits = if info.batched {
            count > 0 && count.is_multiple_of(row) && count <= info.shape.elements()
        } else {
            count == row
        };
        if !fits {
            let rows = if info.batched { "rows of " } else { "" };
            let expected = format!("{rows}{row} elements, shape {}", info.shape);
            return Err(Error::shape(&info.name, expected, format!("{count} elements")));
        }
        self.gpu.write(buffer, offset, bytes)
    }

    fn read(&self, value: ValueId, dtype: DType) -> Result<Vec<u32>> {
        let (buffer, offset) = self.locate(value, dtype)?;
        let info = self.graph.at(value);
        let in_slot = matches!(self.program.locations[value.0], Some(Location::Slot { .. }));
        if in_slot && info.role == Role::Computed && !info.output {
            return Err(unmarked(&info.name));
        }
        self.read_words(buffer, offset, 4 * info.shape.elements() as u64)
    }

    fn ring(&self) -> MutexGuard<'_, ReadRing> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_words(&self, buffer: &GpuBuffer, offset: u64, bytes: u64) -> Result<Vec<u32>> {
        let mut words = Vec::with_capacity((bytes / 4) as usize);
        self.ring().read_all(&self.gpu, buffer, offset, bytes, |piece| {
            words.extend(piece.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        })?;
        Ok(words)
    }
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let labels: Vec<_> = self.commands.iter().map(|command| &command.label).collect();
        f.debug_struct("Plan").field("gpu", &self.gpu).field("commands", &labels).finish_non_exhaustive()
    }
}

impl Buffers {
    fn new(gpu: &Gpu, program: &Program, running_sums: Option<Arc<GpuBuffer>>) -> Result<Self> {
        let mut slots = Vec::new();
        for (number, &bytes) in program.slots.iter().enumerate() {
            slots.push(gpu.storage_buffer(&format!("slot {number}"), bytes)?);
        }
        for guard in &program.guards {
            let words = vec![GUARD_WORD; (guard.bytes / 4) as usize];
            gpu.write(&slots[guard.slot], guard.begin, bytemuck::cast_slice(&words))?;
        }
        let mut lists = Vec::new();
        for (number, words) in program.lists.iter().enumerate() {
            let list = gpu.storage_buffer(&format!("list {number}"), 4 * words.len() as u64)?;
            gpu.write(&list, 0, bytemuck::cast_slice(words))?;
            lists.push(list);
        }
        let dispatches = &program.dispatches;
        let mut bytes: Vec<u8> = Vec::new();
        for dispatch in dispatches {
            let end = bytes.len() + uniform_bytes(&dispatch.launch) as usize;
            bytes.extend(&dispatch.launch.params);
            bytes.resize(end, 0);
        }
        let params = gpu.uniform_buffer("parameters", (bytes.len() as u64).max(256))?;
        if !bytes.is_empty() {
            gpu.write(&params, 0, &bytes)?;
        }
        let running_sums = match running_sums {
            Some(sums) => sums,
            None => Arc::new(gpu.storage_buffer("running sums", SUMS_BYTES)?),
        };
        let scalars = gpu.uniform_buffer("step scalars", size_of::<StepScalars>() as u64)?;
        Ok(Buffers { slots, lists, params, scalars, running_sums })
    }
}

/// Creates the command of a dispatch, whose parameters are at byte `params` of the uniform buffer.
fn command(
    gpu: &Gpu,
    store: &Store,
    buffers: &Buffers,
    params: u64,
    dispatch: &Dispatch,
    shader: &Shader,
) -> Result<Command> {
    let name = dispatch.launch.kernel.name;
    let label = format!("{} ({name})", dispatch.label);
    let pipeline = gpu.pipeline(name, shader)?;
    let mut resources = vec![
        range(&buffers.params, params, uniform_bytes(&dispatch.launch)),
        range(&buffers.scalars, 0, buffers.scalars.bytes()),
    ];
    resources.extend(dispatch.bindings.iter().map(|&Binding { buffer, offset, bytes, .. }| {
        let buffer = match buffer {
            BufferId::Slot(number) => &buffers.slots[number],
            BufferId::List(number) => &buffers.lists[number],
            BufferId::RunningSums => &buffers.running_sums,
            BufferId::Arena(arena, chunk) => &store.arena(arena)[chunk],
        };
        range(buffer, offset, bytes)
    }));
    let bind_group =
        gpu.error_scope(&label, 0, || bind_group(gpu.device(), &label, &pipeline, shader, resources))?;
    Ok(Command { label, pipeline, bind_group, groups: dispatch.launch.groups })
}

/// Returns the shader of each dispatch; equal shaders are generated once.
fn shaders(program: &Program) -> Vec<Arc<Shader>> {
    let mut generated: HashMap<Variant, Arc<Shader>> = HashMap::new();
    let mut shader = |launch: &Launch| {
        Arc::clone(generated.entry(launch.variant()).or_insert_with(|| launch.shader().into()))
    };
    program.dispatches.iter().map(|dispatch| shader(&dispatch.launch)).collect()
}

/// Checks that a store has the parameters and the state that a graph and the options need.
fn check_store(graph: &Graph, store: &Store, options: &PlanOptions) -> Result<()> {
    if store.parameters() != graph.parameters() {
        let names = |parameters: &[crate::graph::Parameter]| {
            format!("{:?}", parameters.iter().map(|p| (&p.path, p.shape.to_string())).collect::<Vec<_>>())
        };
        let expected =
            format!("the parameters of the graph, {}; create it with Store::new", names(graph.parameters()));
        return Err(Error::argument("store", expected, names(store.parameters())));
    }
    if let Some(slots) = state_slots(graph)?
        && (slots != store.slots() || (!store.has_gradients() && !store.parameters().is_empty()))
    {
        let expected = format!(
            "gradients and the state {slots:?} of the graph's update rule; create it with Store::new for this graph"
        );
        let gradients = if store.has_gradients() { "gradients" } else { "no gradients" };
        return Err(Error::argument("store", expected, format!("{gradients} and {:?}", store.slots())));
    }
    if options.missed_steps && !store.has_missed_steps() {
        return Err(Error::argument(
            "store",
            "a store with missed steps (Store::with_missed_steps)",
            "a store without missed steps",
        ));
    }
    if accumulates(graph) && !store.accumulates() {
        return Err(Error::argument(
            "store",
            "a store created for a graph that accumulates gradients",
            "a store without accumulated gradients",
        ));
    }
    Ok(())
}

fn unmarked(name: &str) -> Error {
    Error::argument(name, "a value marked with Graph::mark_output", "an unmarked value")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::GpuOptions;
    use crate::graph::Op;

    #[test]
    fn write_beyond_a_tensor_is_reported() {
        let gpu = Gpu::new(GpuOptions::default()).unwrap();
        let mut graph = Graph::new(3).unwrap();
        let x = graph.batch_input("x", &[5], DType::F32).unwrap();
        let y = graph.push_one(Op::Relu, &[x], "the relu").unwrap();
        graph.mark_output(y).unwrap();
        let plan = Plan::compile(&gpu, &graph, &PlanOptions::default().guard_bands(true)).unwrap();
        plan.run(StepScalars::forward(3)).unwrap();
        plan.check_guards().unwrap();
        for guard in &plan.program.guards {
            // Overwrite the last word of the guard band, then its first word, which is the one after the
            // tensor's end. The error must name the tensor.
            for offset in [guard.begin + guard.bytes - 4, guard.begin] {
                gpu.write(&plan.buffers.slots[guard.slot], offset, &[0; 4]).unwrap();
                let error = plan.check_guards().unwrap_err().to_string();
                assert!(error.contains(&guard.name), "{error}");
                gpu.write(&plan.buffers.slots[guard.slot], offset, &GUARD_WORD.to_le_bytes()).unwrap();
            }
        }
        assert_eq!(plan.program.guards.len(), 2);
        plan.check_guards().unwrap();
    }
}
