//! The device: adapter, limits, buffers, pipelines, submission and read-back.

mod adapter;
mod buffer;
mod pipeline;
mod read_ring;
mod second_device;

pub use adapter::{AdapterReport, Backend, DeviceKind, GpuOptions, ShaderCompiler, devices};
pub use buffer::GpuBuffer;
pub use pipeline::{Access, Shader};
pub(crate) use pipeline::{Pipeline, make_pipeline};
pub(crate) use read_ring::ReadRing;
pub(crate) use second_device::Job;

use crate::error::{Error, Result};
use pipeline::PipelineCache;
use second_device::SecondDevice;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Submissions under way at most; the next one waits for the oldest.
const IN_FLIGHT: usize = 3;

/// A device and its queue. Cheap to clone; all clones are the same device. May be used from several threads.
#[derive(Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
}

struct Inner {
    device: wgpu::Device,
    queue: wgpu::Queue,
    report: AdapterReport,
    timeout: Duration,
    budget: Arc<buffer::Budget>,
    fault: Arc<Mutex<Fault>>,
    in_flight: Mutex<VecDeque<wgpu::SubmissionIndex>>,
    pipelines: PipelineCache,
    second_device: Option<SecondDevice>,
    submissions: AtomicU64,
}

/// What the device's callbacks have reported.
#[derive(Default)]
struct Fault {
    lost: Option<String>,
    uncaptured: Option<wgpu::Error>,
}

/// A panic elsewhere leaves our plain data usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// Opens a device as `options` say; blocks.
    ///
    /// # Errors
    /// [`Error::NoAdapter`], [`Error::AdapterRejected`].
    pub fn new(options: GpuOptions) -> Result<Self> {
        pollster::block_on(Self::request(options))
    }

    /// [`Gpu::new`] without blocking.
    ///
    /// # Errors
    /// As [`Gpu::new`].
    pub async fn request(options: GpuOptions) -> Result<Self> {
        let adapter = adapter::choose(&options).await?;
        let (device, queue) = adapter::open(&adapter, &options).await?;
        let fault = Arc::new(Mutex::new(Fault::default()));
        let on_lost = Arc::clone(&fault);
        device.set_device_lost_callback(move |reason, message| {
            lock(&on_lost).lost = Some(format!("{reason:?}: {message}"));
        });
        let on_error = Arc::clone(&fault);
        // wgpu's own handler ends the process.
        device.on_uncaptured_error(Arc::new(move |error| {
            log::error!("uncaptured device error: {error}");
            lock(&on_error).uncaptured.get_or_insert(error);
        }));
        let report = AdapterReport::new(&adapter, &device);
        if report.software {
            log::warn!("{} is a software adapter: right, but slow", report.name);
        }
        let second_device = SecondDevice::new(&adapter, &report, &options);
        Ok(Self::assemble(device, queue, report, fault, &options, second_device))
    }

    /// Uses a device that the application already owns. Its error handlers are left alone; work shares its queue.
    /// Features (subgroups, timestamps) and limits are those with which the device was made.
    pub fn from_wgpu(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let report = AdapterReport::new(adapter, &device);
        let fault = Arc::new(Mutex::new(Fault::default()));
        Self::assemble(device, queue, report, fault, &GpuOptions::default(), None)
    }

    fn assemble(
        device: wgpu::Device,
        queue: wgpu::Queue,
        report: AdapterReport,
        fault: Arc<Mutex<Fault>>,
        options: &GpuOptions,
        second_device: Option<SecondDevice>,
    ) -> Self {
        let budget = Arc::new(buffer::Budget::new(options.memory_budget_for(&report)));
        Gpu {
            inner: Arc::new(Inner {
                device,
                queue,
                report,
                timeout: options.timeout,
                budget,
                fault,
                in_flight: Mutex::new(VecDeque::new()),
                pipelines: PipelineCache::default(),
                second_device,
                submissions: AtomicU64::new(0),
            }),
        }
    }

    /// Queues jobs that compile the shaders of a plan on a second device, in the order of their first dispatches, where that
    /// gains time.
    pub(crate) fn compile_ahead(&self, plan: impl Iterator<Item = Job>) {
        if let Some(second_device) = &self.inner.second_device {
            second_device.push(plan);
        }
    }

    /// Shaders queued and shaders compiled on the second device, if there is one.
    #[cfg(test)]
    pub(crate) fn compiled_ahead(&self) -> Option<(usize, usize)> {
        self.inner.second_device.as_ref().map(SecondDevice::counts)
    }

    /// Waits until the second device has nothing left to do.
    #[cfg(test)]
    pub(crate) fn wait_for_second_device(&self) {
        if let Some(second_device) = &self.inner.second_device {
            second_device.wait();
        }
    }

    /// What the adapter is and allows.
    pub fn report(&self) -> &AdapterReport {
        &self.inner.report
    }

    /// Bytes in buffers that live now.
    pub fn allocated_bytes(&self) -> u64 {
        self.inner.budget.used()
    }

    /// Checks that so many more bytes fit the memory budget.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`].
    pub(crate) fn check_budget(&self, what: &str, bytes: u64) -> Result<()> {
        self.inner.budget.check(what, bytes)
    }

    /// Buffers made since the device was opened, dropped ones included.
    pub fn buffers_created(&self) -> u64 {
        self.inner.budget.created()
    }

    /// Command buffers submitted since the device was opened.
    pub fn submissions(&self) -> u64 {
        self.inner.submissions.load(Ordering::Relaxed)
    }

    /// Waits until all submitted work is done.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], [`Error::Timeout`].
    pub fn wait(&self) -> Result<()> {
        self.poll(None, "all submitted work")?;
        lock(&self.inner.in_flight).clear();
        Ok(())
    }

    /// Nanoseconds of one tick of the device's clock.
    pub(crate) fn timestamp_period(&self) -> f32 {
        self.inner.queue.get_timestamp_period()
    }

    pub(crate) fn device(&self) -> &wgpu::Device {
        &self.inner.device
    }

    /// Fails if the device is gone or has reported an error outside of any scope.
    pub(crate) fn check(&self) -> Result<()> {
        let mut fault = lock(&self.inner.fault);
        if let Some(reason) = &fault.lost {
            return Err(Error::DeviceLost { reason: reason.clone() });
        }
        match fault.uncaptured.take() {
            Some(error) => Err(named(error, "device", 0)),
            None => Ok(()),
        }
    }

    /// Runs `work` and turns what wgpu reports meanwhile into an error that names `label`.
    pub(crate) fn scope<T>(&self, label: &str, bytes: u64, work: impl FnOnce() -> T) -> Result<T> {
        self.check()?;
        let device = &self.inner.device;
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let result = work();
        let errors = [
            pollster::block_on(validation.pop()),
            pollster::block_on(internal.pop()),
            pollster::block_on(memory.pop()),
        ];
        match errors.into_iter().flatten().next() {
            Some(error) => Err(named(error, label, bytes)),
            None => Ok(result),
        }
    }

    /// Waits until fewer than [`IN_FLIGHT`] submissions are under way, then records commands with `record` and submits them.
    /// An error means that nothing was submitted.
    pub(crate) fn submit(
        &self,
        label: &str,
        record: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> Result<wgpu::SubmissionIndex> {
        let mut in_flight = lock(&self.inner.in_flight);
        while in_flight.len() >= IN_FLIGHT {
            self.poll(in_flight.front().cloned(), label)?;
            in_flight.pop_front();
        }
        let index = self.scope(label, 0, || {
            let descriptor = wgpu::CommandEncoderDescriptor { label: Some(label) };
            let mut encoder = self.inner.device.create_command_encoder(&descriptor);
            record(&mut encoder);
            self.inner.queue.submit([encoder.finish()])
        })?;
        self.inner.submissions.fetch_add(1, Ordering::Relaxed);
        in_flight.push_back(index.clone());
        Ok(index)
    }

    /// Writes into a buffer before the next submission.
    pub(crate) fn write(&self, buffer: &GpuBuffer, offset: u64, bytes: &[u8]) -> Result<()> {
        self.scope(buffer.label(), 0, || self.inner.queue.write_buffer(buffer.raw(), offset, bytes))
    }

    /// Waits for one submission, or for all.
    pub(crate) fn poll(&self, submission: Option<wgpu::SubmissionIndex>, what: &str) -> Result<()> {
        let wait = wgpu::PollType::Wait { submission_index: submission, timeout: Some(self.inner.timeout) };
        match self.inner.device.poll(wait) {
            Ok(_) => self.check(),
            Err(wgpu::PollError::Timeout) => {
                Err(Error::Timeout { what: what.to_owned(), limit: self.inner.timeout })
            }
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// Lets finished work report, without waiting.
    pub(crate) fn look(&self) -> Result<()> {
        match self.inner.device.poll(wgpu::PollType::Poll) {
            Ok(_) => self.check(),
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// A device that forgot a submission is gone, whether or not a callback said so.
    fn lost(&self, error: &wgpu::PollError) -> Error {
        let mut fault = lock(&self.inner.fault);
        let reason = fault.lost.get_or_insert_with(|| error.to_string()).clone();
        Error::DeviceLost { reason }
    }
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gpu({}, {})", self.report().name, self.report().backend)
    }
}

#[cfg_attr(target_arch = "wasm32", expect(unused_variables))]
fn named(error: wgpu::Error, label: &str, bytes: u64) -> Error {
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
