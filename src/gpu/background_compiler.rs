//! Compilation of shaders in the background, on a second device.
//!
//! llvmpipe (Mesa's software Vulkan) compiles a shader to machine code at its first dispatch, on the one thread of a
//! device's queue, and caches the result on disk. A second device compiles a plan's shaders from the last to the first, so
//! that two cores share the work and the first device finds the compiled ones in the cache. The second device computes
//! nothing.

use super::pipeline::create_pipeline;
use super::{AdapterReport, Backend, GpuOptions, Shader, adapter, lock};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of every buffer that is bound; no uniform binding is larger.
const BUFFER_BYTES: u64 = 256;

/// A shader to compile.
pub(crate) struct Job {
    pub label: &'static str,
    pub shader: Arc<Shader>,
    /// Contents of bindings 0 and 1 at the shader's first dispatch: the driver compiles them in as constants where that
    /// halves a shader.
    pub uniforms: [Vec<u8>; 2],
}

/// The second device's queue of jobs and its thread. Dropping it waits until the shader being compiled is done.
pub(super) struct BackgroundCompiler {
    adapter: wgpu::Adapter,
    options: GpuOptions,
    queue: Arc<Mutex<JobQueue>>,
    worker: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct JobQueue {
    /// The last one is compiled next.
    waiting: Vec<Job>,
    /// Every shader that was ever enqueued.
    seen: HashSet<Arc<Shader>>,
    /// Shaders compiled without an error.
    compiled: usize,
    running: bool,
}

impl BackgroundCompiler {
    /// `None` if it is switched off, or gains nothing: another driver than llvmpipe, or a single core.
    pub fn new(adapter: &wgpu::Adapter, report: &AdapterReport, options: &GpuOptions) -> Option<Self> {
        let llvmpipe = report.backend == Backend::Vulkan && report.driver.starts_with("llvmpipe");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (options.compile_ahead && llvmpipe && cores > 1).then(|| BackgroundCompiler {
            adapter: adapter.clone(),
            options: options.clone(),
            queue: Arc::default(),
            worker: Mutex::default(),
        })
    }

    /// Enqueues those of a plan's shaders that are new, and starts the thread unless it is running.
    ///
    /// `jobs` are in the order of their first dispatches.
    pub fn enqueue(&self, jobs: impl Iterator<Item = Job>) {
        let mut queue = lock(&self.queue);
        let unseen: Vec<Job> = jobs.filter(|job| queue.seen.insert(Arc::clone(&job.shader))).collect();
        let nothing_new = unseen.is_empty();
        // Jobs are taken from the end: plans that were enqueued earlier are dispatched earlier.
        queue.waiting.splice(0..0, unseen);
        if queue.running || nothing_new {
            return;
        }
        let (adapter, shared, options) =
            (self.adapter.clone(), Arc::clone(&self.queue), self.options.clone());
        let builder = std::thread::Builder::new().name("frazil shaders".into());
        match builder.spawn(move || run_worker(&adapter, &shared, &options)) {
            Ok(handle) => {
                queue.running = true;
                // The previous thread found its queue empty and is about to end.
                if let Some(previous) = lock(&self.worker).replace(handle) {
                    let _ = previous.join();
                }
            }
            Err(error) => log::debug!("no thread for background compilation: {error}"),
        }
    }
}

impl Drop for BackgroundCompiler {
    fn drop(&mut self) {
        lock(&self.queue).waiting.clear();
        if let Some(worker) = lock(&self.worker).take() {
            // A panic of the thread is ignored: the first device compiles whatever is missing.
            let _ = worker.join();
        }
    }
}

fn run_worker(adapter: &wgpu::Adapter, queue: &Mutex<JobQueue>, options: &GpuOptions) {
    let opened = pollster::block_on(adapter::request_device(adapter, options));
    if let Ok((device, _)) = &opened {
        device.on_uncaptured_error(Arc::new(|error| log::debug!("background compilation: {error}")));
    }
    loop {
        let job = {
            let mut queue = lock(queue);
            let next = queue.waiting.pop();
            queue.running = next.is_some();
            next
        };
        match (job, &opened) {
            (Some(job), Ok((device, device_queue))) => {
                let compiled = compile(device, device_queue, &job, options.timeout);
                lock(queue).compiled += usize::from(compiled);
            }
            (Some(_), Err(_)) => {}
            (None, _) => return,
        }
    }
}

/// Dispatches zero workgroups, for which the driver compiles the shader all the same.
///
/// False if the device reported an error or took longer than `timeout`.
fn compile(device: &wgpu::Device, queue: &wgpu::Queue, job: &Job, timeout: Duration) -> bool {
    let start = Instant::now();
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let pipeline = create_pipeline(device, job.label, &job.shader);
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let descriptor =
        wgpu::BufferDescriptor { label: None, size: BUFFER_BYTES, usage, mapped_at_creation: false };
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
    let error = pollster::block_on(scope.pop());
    let compiled = waited.is_ok() && error.is_none();
    let ms = 1e3 * start.elapsed().as_secs_f64();
    log::debug!("background compilation of {}: compiled {compiled}, {ms:.0} ms", job.label);
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

    fn compiler(on: bool) -> Option<BackgroundCompiler> {
        let options = GpuOptions::default().compile_ahead(on);
        let adapter = pollster::block_on(adapter::request_adapter(&options)).unwrap();
        let (device, _) = pollster::block_on(adapter::request_device(&adapter, &options)).unwrap();
        BackgroundCompiler::new(&adapter, &AdapterReport::of_device(&adapter, &device), &options)
    }

    #[test]
    fn each_shader_is_compiled_once_and_an_invalid_one_is_skipped() {
        assert!(compiler(false).is_none());
        let Some(compiler) = compiler(true) else {
            println!("SKIPPED: background compilation needs llvmpipe and two cores");
            return;
        };
        let store = "@group(0) @binding(2) var<storage, read_write> y: array<u32>;";
        let valid = format!("{store} @compute @workgroup_size(1) fn main() {{ y[0] = p.x + s.x; }}");
        for _ in 0..2 {
            compiler.enqueue([job(&valid), job("no shader at all"), job(&valid)].into_iter());
        }
        let handle = lock(&compiler.worker).take().unwrap();
        handle.join().unwrap();
        let queue = lock(&compiler.queue);
        assert_eq!((queue.seen.len(), queue.waiting.len(), queue.running), (2, 0, false));
        assert_eq!(queue.compiled, 1);
    }
}
