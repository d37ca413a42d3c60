//! A second device on the same adapter, which runs jobs on a background thread.

use super::{AdapterReport, Backend, GpuOptions, Shader, adapter, block_on, lock};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Function that a job calls with the second device, its queue and a timeout; returns whether it succeeded.
pub(crate) type Work = Box<dyn FnOnce(&wgpu::Device, &wgpu::Queue, Duration) -> bool + Send>;

/// Job for the second device.
pub(crate) struct Job {
    /// Identifies the job: jobs with a shader that was queued before are dropped.
    pub key: Arc<Shader>,
    pub run: Work,
}

/// The second device. Dropping it waits for the current job.
pub(super) struct SecondDevice {
    adapter: wgpu::Adapter,
    options: GpuOptions,
    jobs: Arc<Mutex<Jobs>>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Jobs {
    /// Jobs not yet started. The last one runs next, so the jobs of a plan run in reverse order.
    waiting: Vec<Job>,
    /// Keys of all jobs that were ever queued.
    seen: HashSet<Arc<Shader>>,
    /// Number of jobs that succeeded.
    done: usize,
    running: bool,
}

impl SecondDevice {
    /// Returns `None` if background compilation is off, or if it would not be faster: it needs a second core,
    /// and a driver that caches compiled shaders on disk (llvmpipe).
    pub fn new(adapter: &wgpu::Adapter, report: &AdapterReport, options: &GpuOptions) -> Option<Self> {
        let caches_shaders = report.backend == Backend::Vulkan && report.driver.starts_with("llvmpipe");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (options.compile_ahead && caches_shaders && cores > 1).then(|| SecondDevice {
            adapter: adapter.clone(),
            options: options.clone(),
            jobs: Arc::default(),
            worker: Mutex::default(),
        })
    }

    /// Queues the jobs of a plan, in the order in which the first device needs their results.
    pub fn push(&self, plan: impl Iterator<Item = Job>) {
        let mut jobs = lock(&self.jobs);
        let new: Vec<Job> = plan.filter(|job| jobs.seen.insert(Arc::clone(&job.key))).collect();
        let nothing_new = new.is_empty();
        // Jobs are taken from the end of `waiting`. Insert the new jobs at the beginning, so that the jobs of
        // earlier plans run first.
        jobs.waiting.splice(0..0, new);
        if jobs.running || nothing_new {
            return;
        }
        let (adapter, shared, options) = (self.adapter.clone(), Arc::clone(&self.jobs), self.options.clone());
        let worker = std::thread::Builder::new().name("frazil second device".into());
        match worker.spawn(move || work(&adapter, &shared, &options)) {
            Ok(handle) => {
                jobs.running = true;
                // No job is running, so the previous worker thread is about to end, and joining it does not
                // block.
                if let Some(previous) = lock(&self.worker).replace(handle) {
                    let _ = previous.join();
                }
            }
            Err(error) => log::debug!("the thread of the second device cannot be started: {error}"),
        }
    }

    /// Waits until the queue is empty.
    #[cfg(test)]
    pub fn wait(&self) {
        let worker = lock(&self.worker).take();
        if let Some(worker) = worker {
            let _ = worker.join();
        }
    }

    /// Returns the numbers of jobs queued and of jobs that succeeded.
    #[cfg(test)]
    pub fn counts(&self) -> (usize, usize) {
        let jobs = lock(&self.jobs);
        (jobs.seen.len(), jobs.done)
    }
}

impl Drop for SecondDevice {
    fn drop(&mut self) {
        lock(&self.jobs).waiting.clear();
        if let Some(worker) = lock(&self.worker).take() {
            // Ignore a panic of the worker thread: the first device compiles the remaining shaders itself.
            let _ = worker.join();
        }
    }
}

/// Runs jobs until none are left.
fn work(adapter: &wgpu::Adapter, jobs: &Mutex<Jobs>, options: &GpuOptions) {
    let opened = block_on(adapter::request_device(adapter, options));
    if let Ok((device, _)) = &opened {
        device.on_uncaptured_error(Arc::new(|error| log::debug!("second device: {error}")));
    }
    loop {
        let job = {
            let mut jobs = lock(jobs);
            let next = jobs.waiting.pop();
            jobs.running = next.is_some();
            next
        };
        match (job, &opened) {
            (Some(job), Ok((device, queue))) => {
                let done = (job.run)(device, queue, options.timeout);
                lock(jobs).done += usize::from(done);
            }
            (Some(_), Err(_)) => {}
            (None, _) => return,
        }
    }
}
