//! The wgpu device: adapters, limits, buffers, pipelines, submission and read-back.

mod adapter;
#[cfg(target_family = "wasm")]
mod browser;
mod buffer;
mod pipeline;
mod read_ring;
#[cfg(not(target_family = "wasm"))]
mod second_device;
mod wait;

pub use adapter::{AdapterReport, Backend, DeviceKind, GpuOptions, ShaderCompiler, devices};
pub use buffer::GpuBuffer;
#[cfg(not(target_family = "wasm"))]
pub(crate) use pipeline::create_pipeline;
pub use pipeline::{Access, Shader};
pub(crate) use pipeline::{Change, Pipeline};
pub(crate) use read_ring::ReadRing;
#[cfg(not(target_family = "wasm"))]
pub(crate) use second_device::Job;
pub(crate) use wait::block_on;

use crate::error::{Error, Result};
use pipeline::{ChangeShader, PipelineCache};
#[cfg(not(target_family = "wasm"))]
use second_device::SecondDevice;
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use wait::{ErrorScopes, Interrupted, Submission};

/// Maximum number of submissions in flight; the next one waits for the oldest.
const MAX_IN_FLIGHT: usize = 3;

/// A wgpu device and its queue. Clones are cheap and share the device; it can be used from several threads.
#[derive(Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
}

struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    report: AdapterReport,
    timeout: Duration,
    budget: Arc<buffer::MemoryBudget>,
    errors: Arc<Mutex<DeviceErrors>>,
    in_flight: Mutex<VecDeque<Submission>>,
    pipelines: PipelineCache,
    change_shader: OnceLock<ChangeShader>,
    #[cfg(not(target_family = "wasm"))]
    second_device: Option<SecondDevice>,
    submissions: AtomicU64,
}

/// Errors that wgpu has reported to the device's error and device-lost callbacks.
#[derive(Default)]
struct DeviceErrors {
    lost: Option<String>,
    uncaptured: Option<Error>,
}

/// Locks a mutex even if it is poisoned: the data behind these mutexes stays valid after a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the report of a device and its adapter.
fn report_of(adapter: &wgpu::Adapter, device: &wgpu::Device) -> AdapterReport {
    let report = AdapterReport::of_device(adapter, device);
    #[cfg(target_family = "wasm")]
    let report = browser::identified(report, device);
    report
}

impl Gpu {
    /// Opens a device. Blocks until it is open.
    ///
    /// # Errors
    /// - [`Error::NoAdapter`] if no adapter matches `options`;
    /// - [`Error::AdapterRejected`] if the adapter refuses to open a device.
    pub fn new(options: GpuOptions) -> Result<Self> {
        block_on(Self::request(options))
    }

    /// Opens a device like [`Gpu::new`], but without blocking.
    ///
    /// # Errors
    /// As [`Gpu::new`].
    pub async fn request(options: GpuOptions) -> Result<Self> {
        let adapter = adapter::request_adapter(&options).await?;
        let (device, queue) = adapter::request_device(&adapter, &options).await?;
        let errors = Arc::new(Mutex::new(DeviceErrors::default()));
        let on_lost = Arc::clone(&errors);
        device.set_device_lost_callback(move |reason, message| {
            let reason = match reason {
                wgpu::DeviceLostReason::Destroyed => "it was destroyed".to_owned(),
                _ => message,
            };
            lock(&on_lost).lost.get_or_insert(reason);
        });
        let on_error = Arc::clone(&errors);
        // Record uncaptured errors instead of calling wgpu's default handler, which panics.
        device.on_uncaptured_error(Arc::new(move |error| {
            log::error!("uncaptured device error: {error}");
            lock(&on_error).uncaptured.get_or_insert(convert_error(error, "device", 0));
        }));
        let report = report_of(&adapter, &device);
        if report.software {
            log::warn!("{} is a software adapter: correct, but slow", report.name);
        }
        Ok(Self::from_parts(&adapter, device, queue, report, errors, &options))
    }

    /// Returns the descriptor of a device that has what Frazil can use of an adapter, for an application that opens the
    /// device itself: its limits, subgroups and timestamps. A device with wgpu's defaults works, too, but has smaller
    /// buffers and neither subgroups nor profiling. Features that the application needs are added to it.
    ///
    /// ```
    /// use frazil::{Gpu, wgpu};
    ///
    /// # pollster::block_on(async {
    /// let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    /// let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await?;
    /// let (device, queue) = adapter.request_device(&Gpu::wanted(&adapter)).await?;
    /// let gpu = Gpu::from_wgpu(&adapter, device, queue);
    /// assert_eq!(gpu.report().max_buffer, adapter.limits().max_buffer_size);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn wanted(adapter: &wgpu::Adapter) -> wgpu::DeviceDescriptor<'static> {
        adapter::wanted(adapter)
    }

    /// Wraps a device that the application owns. Its error handlers are not replaced, and work is submitted
    /// to `queue`. If the device is lost, the next call returns [`Error::DeviceLost`]; only the application's
    /// device-lost callback receives the driver's reason.
    ///
    /// Features (subgroups, timestamps) and limits are those with which the device was opened; [`Gpu::wanted`] names
    /// those that are useful.
    pub fn from_wgpu(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let report = report_of(adapter, &device);
        let errors = Arc::new(Mutex::new(DeviceErrors::default()));
        let options = GpuOptions::default().compile_ahead(false);
        Self::from_parts(adapter, device, queue, report, errors, &options)
    }

    #[cfg_attr(target_family = "wasm", expect(unused_variables))]
    fn from_parts(
        adapter: &wgpu::Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
        report: AdapterReport,
        errors: Arc<Mutex<DeviceErrors>>,
        options: &GpuOptions,
    ) -> Self {
        #[cfg(not(target_family = "wasm"))]
        let second_device = SecondDevice::new(adapter, &report, options);
        let budget = Arc::new(buffer::MemoryBudget::new(options.memory_budget_for(&report)));
        Gpu {
            inner: Arc::new(Inner {
                device,
                queue,
                report,
                timeout: options.timeout,
                budget,
                errors,
                in_flight: Mutex::new(VecDeque::new()),
                pipelines: PipelineCache::default(),
                change_shader: OnceLock::new(),
                #[cfg(not(target_family = "wasm"))]
                second_device,
                submissions: AtomicU64::new(0),
            }),
        }
    }

    /// Queues jobs that compile the shaders of a plan on the second device, if there is one. The jobs are in
    /// the order of the first dispatches.
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn compile_ahead(&self, plan: impl Iterator<Item = Job>) {
        if let Some(second_device) = &self.inner.second_device {
            second_device.push(plan);
        }
    }

    /// Returns the numbers of shaders queued for and compiled on the second device, if there is one.
    #[cfg(test)]
    pub(crate) fn compiled_ahead(&self) -> Option<(usize, usize)> {
        self.inner.second_device.as_ref().map(SecondDevice::counts)
    }

    /// Waits until the second device has no jobs left.
    #[cfg(test)]
    pub(crate) fn wait_for_second_device(&self) {
        if let Some(second_device) = &self.inner.second_device {
            second_device.wait();
        }
    }

    /// Returns the identity, features and limits of the adapter.
    pub fn report(&self) -> &AdapterReport {
        &self.inner.report
    }

    /// Returns the total bytes of all existing buffers.
    pub fn allocated_bytes(&self) -> u64 {
        self.inner.budget.used()
    }

    /// Checks that `bytes` more bytes fit the memory budget.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`].
    pub(crate) fn check_budget(&self, what: &str, bytes: u64) -> Result<()> {
        self.inner.budget.check(what, bytes)
    }

    /// Number of buffers created since the device was opened, including dropped ones.
    pub fn buffers_created(&self) -> u64 {
        self.inner.budget.created()
    }

    /// Number of command buffers submitted since the device was opened.
    pub fn submissions(&self) -> u64 {
        self.inner.submissions.load(Ordering::Relaxed)
    }

    /// Waits until all submitted work is done.
    ///
    /// # Errors
    /// - [`Error::DeviceLost`];
    /// - [`Error::Timeout`] after [`GpuOptions::timeout`];
    /// - [`Error::OutOfMemory`] or [`Error::Validation`] if the device reported such an error outside of a
    ///   scope.
    pub fn wait(&self) -> Result<()> {
        self.wait_for(None, "all submitted work")?;
        lock(&self.inner.in_flight).clear();
        Ok(())
    }

    /// Nanoseconds per timestamp tick.
    pub(crate) fn timestamp_period(&self) -> f32 {
        self.inner.queue.get_timestamp_period()
    }

    pub(crate) fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// Fails if the device is lost or has reported an error outside of a scope.
    pub(crate) fn check_errors(&self) -> Result<()> {
        let mut errors = lock(&self.inner.errors);
        if let Some(reason) = &errors.lost {
            return Err(Error::DeviceLost { reason: reason.clone() });
        }
        errors.uncaptured.take().map_or(Ok(()), Err)
    }

    /// Fails if the device is lost, even if the loss has not been reported yet.
    ///
    /// wgpu reports a loss to the device-lost callback alone: after [`wgpu::Device::destroy`] only when the
    /// device is polled, and to the application if it owns the device. All other calls do nothing and report
    /// no error. A lost device maps no buffer, which is detected here. A browser reports every loss, and maps buffers
    /// of a lost device.
    fn check_alive(&self) -> Result<()> {
        if cfg!(target_family = "wasm") {
            return self.check_errors();
        }
        let mapped = self.scoped("device loss probe", 4, || {
            let probe = self.inner.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("device loss probe"),
                size: 4,
                usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: true,
            });
            probe.get_mapped_range(..).is_ok()
        })?;
        if mapped { Ok(()) } else { Err(self.lost()) }
    }

    /// Records that the device is lost, and returns the error.
    fn lost(&self) -> Error {
        // Polling calls the device-lost callback, if it was not called before, once all work is done.
        let _ = self.wait_on_device(None);
        let reason = lock(&self.inner.errors)
            .lost
            .get_or_insert_with(|| {
                "it was destroyed, or the driver reset it (see the device-lost callback of its owner)"
                    .to_owned()
            })
            .clone();
        Error::DeviceLost { reason }
    }

    /// Calls `work` inside wgpu error scopes (validation, out of memory, internal), and converts the captured
    /// error, if any. Fails if the device is lost.
    ///
    /// The error contains `label`, the name of the resource, and `bytes`, its size if memory is allocated.
    pub(crate) fn error_scope<T>(&self, label: &str, bytes: u64, work: impl FnOnce() -> T) -> Result<T> {
        let result = self.scoped(label, bytes, work)?;
        self.check_alive()?;
        Ok(result)
    }

    /// [`Gpu::error_scope`] without detecting a loss that was not reported.
    ///
    /// In a browser, the error arrives later, and is returned by the next call that checks for errors.
    fn scoped<T>(&self, label: &str, bytes: u64, work: impl FnOnce() -> T) -> Result<T> {
        self.check_errors()?;
        let scopes = ErrorScopes::push(&self.inner.device);
        let result = work();
        let (errors, name) = (Arc::clone(&self.inner.errors), label.to_owned());
        let late = move |error| {
            lock(&errors).uncaptured.get_or_insert(convert_error(error, &name, bytes));
        };
        match wait::pop(scopes, late) {
            Some(error) => Err(convert_error(error, label, bytes)),
            None => Ok(result),
        }
    }

    /// Records commands with `record` and submits them, once fewer than [`MAX_IN_FLIGHT`] submissions are in
    /// flight.
    ///
    /// After an error, nothing was submitted.
    pub(crate) fn submit(
        &self,
        label: &str,
        record: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> Result<Submission> {
        let mut in_flight = lock(&self.inner.in_flight);
        while in_flight.len() >= MAX_IN_FLIGHT {
            self.wait_for(in_flight.front(), label)?;
            in_flight.pop_front();
        }
        self.submit_to(&mut in_flight, label, record)
    }

    /// [`Gpu::submit`] without waiting, for a part of a step that the caller waits for.
    pub(crate) fn submit_part(
        &self,
        label: &str,
        record: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> Result<Submission> {
        self.submit_to(&mut lock(&self.inner.in_flight), label, record)
    }

    fn submit_to(
        &self,
        in_flight: &mut VecDeque<Submission>,
        label: &str,
        record: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> Result<Submission> {
        let index = self.error_scope(label, 0, || {
            let descriptor = wgpu::CommandEncoderDescriptor { label: Some(label) };
            let mut encoder = self.inner.device.create_command_encoder(&descriptor);
            record(&mut encoder);
            self.inner.queue.submit([encoder.finish()])
        })?;
        self.inner.submissions.fetch_add(1, Ordering::Relaxed);
        let submission = wait::submitted(&self.inner.queue, index);
        in_flight.push_back(submission.clone());
        Ok(submission)
    }

    /// Writes `bytes` at a byte offset of a buffer, before the next submission.
    pub(crate) fn write(&self, buffer: &GpuBuffer, offset: u64, bytes: &[u8]) -> Result<()> {
        let Some(size) = NonZeroU64::new(bytes.len() as u64) else { return self.check_alive() };
        let queue = &self.inner.queue;
        let write = || {
            let view = queue.write_buffer_with(buffer.raw(), offset, size);
            view.map(|mut view| view.copy_from_slice(bytes))
        };
        // In a browser, wgpu checks a write itself, so that scopes would find nothing.
        let written = if cfg!(target_family = "wasm") {
            self.check_errors()?;
            write()
        } else {
            self.scoped(buffer.label(), 0, write)?
        };
        // Without an error in the scope, a write fails only if the device is lost.
        written.ok_or_else(|| self.lost())
    }

    /// Waits for one submission, or for all if `None`; [`Error::Timeout`] contains `what`.
    pub(crate) fn wait_for(&self, submission: Option<&Submission>, what: &str) -> Result<()> {
        match self.wait_on_device(submission) {
            Err(Interrupted::Timeout) => {
                self.check_errors()?;
                Err(Error::Timeout { what: what.to_owned(), limit: self.inner.timeout })
            }
            result => self.waited(result),
        }
    }

    /// Runs the callbacks of finished work without waiting.
    pub(crate) fn poll(&self) -> Result<()> {
        self.waited(wait::poll(&self.inner.device))
    }

    fn waited(&self, result: std::result::Result<(), Interrupted>) -> Result<()> {
        if result.is_err() {
            return Err(self.lost());
        }
        self.check_errors()?;
        self.check_alive()
    }

    fn wait_on_device(&self, submission: Option<&Submission>) -> std::result::Result<(), Interrupted> {
        wait::wait(&self.inner.device, &self.inner.queue, submission, self.inner.timeout)
    }
}

#[cfg(test)]
impl Gpu {
    /// Opens a device on the same adapter as an application would, and wraps it.
    pub(crate) fn of_application() -> Result<Self> {
        let options = GpuOptions::default();
        let adapter = block_on(adapter::request_adapter(&options))?;
        let (device, queue) = block_on(adapter::request_device(&adapter, &options))?;
        Ok(Self::from_wgpu(&adapter, device, queue))
    }

    /// Destroys the device.
    pub(crate) fn destroy(&self) {
        self.inner.device.destroy();
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gpu({}, {})", self.report().name, self.report().backend)
    }
}

/// Converts wgpu's error into this crate's, with the label of the resource and the bytes that were requested.
#[cfg_attr(target_arch = "wasm32", expect(unused_variables))]
fn convert_error(error: wgpu::Error, label: &str, bytes: u64) -> Error {
    match error {
        wgpu::Error::OutOfMemory { .. } => Error::OutOfMemory { label: label.to_owned(), bytes },
        wgpu::Error::Validation { source, description } | wgpu::Error::Internal { source, description } => {
            Error::Validation {
                kernel: label.to_owned(),
                message: description,
                // wgpu's error sources are `Send + Sync` on native targets only.
                #[cfg(not(target_arch = "wasm32"))]
                source: Some(source),
                #[cfg(target_arch = "wasm32")]
                source: None,
            }
        }
    }
}
