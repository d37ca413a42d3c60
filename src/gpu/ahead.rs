//! Shaders compiled on a second device while the first one runs.
//!
//! Mesa's software Vulkan turns a shader into machine code at its first dispatch, on the one thread of a device's queue,
//! and keeps the result on disk. A second device begins at the other end of a plan, so that two cores share the work: what
//! it has finished, the first device finds there. It computes nothing.

use super::pipeline::make_pipeline;
use super::{AdapterReport, Backend, GpuOptions, Shader, adapter, lock};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of every buffer: uniform bindings are no longer.
const BYTES: u64 = 256;

/// A shader to compile.
pub(crate) struct Job {
    pub label: &'static str,
    pub shader: Arc<Shader>,
    /// What bindings 0 and 1 hold at its first dispatch: the driver makes constants of them where that leaves half of a shader.
    pub uniforms: [Vec<u8>; 2],
}

/// The second device's work. Dropping it waits until the shader in hand is compiled.
pub(super) struct Ahead {
    adapter: wgpu::Adapter,
    options: GpuOptions,
    jobs: Arc<Mutex<Jobs>>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Jobs {
    /// The last is the next.
    waiting: Vec<Job>,
    /// Texts that were ever waiting.
    seen: HashSet<Arc<Shader>>,
    /// How many were compiled.
    done: usize,
    running: bool,
}

impl Ahead {
    /// `None` where it is not wanted, or would gain nothing.
    pub fn new(adapter: &wgpu::Adapter, report: &AdapterReport, options: &GpuOptions) -> Option<Self> {
        let keeps = report.backend == Backend::Vulkan && report.driver.starts_with("llvmpipe");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (options.compile_ahead && keeps && cores > 1).then(|| Ahead {
            adapter: adapter.clone(),
            options: options.clone(),
            jobs: Arc::default(),
            worker: Mutex::default(),
        })
    }

    /// Takes the shaders of a plan, in the order of their first dispatches.
    pub fn push(&self, plan: impl Iterator<Item = Job>) {
        let mut jobs = lock(&self.jobs);
        let unseen: Vec<Job> = plan.filter(|job| jobs.seen.insert(Arc::clone(&job.shader))).collect();
        let idle = unseen.is_empty();
        // Plans that were compiled before run before.
        jobs.waiting.splice(0..0, unseen);
        if jobs.running || idle {
            return;
        }
        let (adapter, shared, options) = (self.adapter.clone(), Arc::clone(&self.jobs), self.options.clone());
        let worker = std::thread::Builder::new().name("frazil shaders".into());
        match worker.spawn(move || work(&adapter, &shared, &options)) {
            Ok(handle) => {
                jobs.running = true;
                // One before has nothing left to do, and ends.
                if let Some(before) = lock(&self.worker).replace(handle) {
                    let _ = before.join();
                }
            }
            Err(error) => log::debug!("no thread to compile shaders ahead: {error}"),
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        lock(&self.jobs).waiting.clear();
        if let Some(worker) = lock(&self.worker).take() {
            // It reports nothing, and what it did not do the first device does.
            let _ = worker.join();
        }
    }
}

fn work(adapter: &wgpu::Adapter, jobs: &Mutex<Jobs>, options: &GpuOptions) {
    let opened = pollster::block_on(adapter::open(adapter, options));
    if let Ok((device, _)) = &opened {
        device.on_uncaptured_error(Arc::new(|error| log::debug!("compiling ahead: {error}")));
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
                let compiled = compile(device, queue, &job, options.timeout);
                lock(jobs).done += usize::from(compiled);
            }
            (Some(_), Err(_)) => {}
            (None, _) => return,
        }
    }
}

/// Dispatches no workgroup at all, for which a shader is compiled all the same. False if the device refused it or took too long.
fn compile(device: &wgpu::Device, queue: &wgpu::Queue, job: &Job, timeout: Duration) -> bool {
    let begun = Instant::now();
    let refusals = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let pipeline = make_pipeline(device, job.label, &job.shader);
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let descriptor = wgpu::BufferDescriptor { label: None, size: BYTES, usage, mapped_at_creation: false };
    let buffers: Vec<_> = job.shader.bindings.iter().map(|_| device.create_buffer(&descriptor)).collect();
    for (buffer, bytes) in buffers.iter().zip(&job.uniforms) {
        queue.write_buffer(buffer, 0, bytes);
    }
    let mut entries = Vec::new();
    for (&(binding, _), buffer) in job.shader.bindings.iter().zip(&buffers) {
        entries.push(wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() });
    }
    let layout = &pipeline.layout;
    let group =
        device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries });
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(&pipeline.raw);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(0, 1, 1);
    }
    let submission = Some(queue.submit([encoder.finish()]));
    let wait = wgpu::PollType::Wait { submission_index: submission, timeout: Some(timeout) };
    let waited = device.poll(wait);
    let refused = pollster::block_on(refusals.pop());
    let compiled = waited.is_ok() && refused.is_none();
    let ms = 1e3 * begun.elapsed().as_secs_f64();
    log::debug!("{} ahead: compiled {compiled}, {ms:.0} ms", job.label);
    compiled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Access;

    const UNIFORMS: &str = "@group(0) @binding(0) var<uniform> p: vec4<u32>;
        @group(0) @binding(1) var<uniform> s: vec4<u32>;";

    fn job(wgsl: &str) -> Job {
        Job {
            label: "test",
            shader: Arc::new(Shader {
                wgsl: format!("{UNIFORMS}\n{wgsl}"),
                bindings: vec![(0, Access::Uniform), (1, Access::Uniform), (2, Access::ReadWrite)],
            }),
            uniforms: [vec![0; 16], vec![0; 16]],
        }
    }

    fn ahead(on: bool) -> Option<Ahead> {
        let options = GpuOptions::default().compile_ahead(on);
        let adapter = pollster::block_on(adapter::choose(&options)).unwrap();
        let (device, _) = pollster::block_on(adapter::open(&adapter, &options)).unwrap();
        Ahead::new(&adapter, &AdapterReport::new(&adapter, &device), &options)
    }

    #[test]
    fn a_text_is_compiled_once_and_one_that_fails_harms_nothing() {
        assert!(ahead(false).is_none());
        let Some(ahead) = ahead(true) else {
            println!("SKIPPED: another driver has no use for it, and neither has a single core");
            return;
        };
        let store = "@group(0) @binding(2) var<storage, read_write> y: array<u32>;";
        let good = format!("{store} @compute @workgroup_size(1) fn main() {{ y[0] = p.x + s.x; }}");
        for _ in 0..2 {
            ahead.push([job(&good), job("no shader at all"), job(&good)].into_iter());
        }
        let handle = lock(&ahead.worker).take().unwrap();
        handle.join().unwrap();
        let jobs = lock(&ahead.jobs);
        assert_eq!((jobs.seen.len(), jobs.waiting.len(), jobs.running), (2, 0, false));
        assert_eq!(jobs.done, 1, "the good one");
    }
}
