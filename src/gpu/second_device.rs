//! A second device on the same adapter, with a thread of its own.

use super::{AdapterReport, Backend, GpuOptions, Shader, adapter, lock};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What a job does with the second device and a time limit; returns whether it succeeded.
pub(crate) type Work = Box<dyn FnOnce(&wgpu::Device, &wgpu::Queue, Duration) -> bool + Send>;

/// Work for the second device.
pub(crate) struct Job {
    /// Jobs with a shader that was queued before are dropped.
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
    /// The last one is the next.
    waiting: Vec<Job>,
    /// The keys of all jobs that were ever queued.
    seen: HashSet<Arc<Shader>>,
    /// Jobs that succeeded.
    done: usize,
    running: bool,
}

impl SecondDevice {
    /// `None` where it is not wanted, or would gain nothing: it is for drivers that keep compiled shaders on disk.
    pub fn new(adapter: &wgpu::Adapter, report: &AdapterReport, options: &GpuOptions) -> Option<Self> {
        let keeps = report.backend == Backend::Vulkan && report.driver.starts_with("llvmpipe");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (options.compile_ahead && keeps && cores > 1).then(|| SecondDevice {
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
        // Plans that were compiled earlier run earlier.
        jobs.waiting.splice(0..0, new);
        if jobs.running || nothing_new {
            return;
        }
        let (adapter, shared, options) = (self.adapter.clone(), Arc::clone(&self.jobs), self.options.clone());
        let worker = std::thread::Builder::new().name("frazil second device".into());
        match worker.spawn(move || work(&adapter, &shared, &options)) {
            Ok(handle) => {
                jobs.running = true;
                // The previous worker has nothing left to do, and ends.
                if let Some(previous) = lock(&self.worker).replace(handle) {
                    let _ = previous.join();
                }
            }
            Err(error) => log::debug!("no thread for a second device: {error}"),
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

    /// Jobs queued, and jobs that succeeded.
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
            // It reports nothing, and the first device does what is left.
            let _ = worker.join();
        }
    }
}

fn work(adapter: &wgpu::Adapter, jobs: &Mutex<Jobs>, options: &GpuOptions) {
    let opened = pollster::block_on(adapter::request_device(adapter, options));
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
