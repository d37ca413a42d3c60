//! Compiles shaders on a second device while the first one runs.
//!
//! Mesa's software Vulkan compiles a shader to machine code at its first dispatch, on the single thread of a
//! device's queue, and caches the result on disk. A second device compiles the shaders of a plan in reverse
//! order, so that two cores share the work; the first device loads the compiled shaders from the driver's
//! on-disk cache.

use super::encode::{Command, bind_group, encode};
use crate::compiler::Program;
use crate::gpu::{Gpu, Job, Shader, block_on, create_pipeline};
use crate::graph::StepScalars;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Queues the shaders of a program for the second device, in the order of their first dispatches.
pub(super) fn compile(gpu: &Gpu, program: &Program, shaders: &[Arc<Shader>], scalars: StepScalars) {
    gpu.compile_ahead(program.dispatches.iter().zip(shaders).map(|(dispatch, shader)| {
        let (label, shader) = (dispatch.launch.kernel.name, Arc::clone(shader));
        // The driver may compile the values of uniforms into a shader as constants, if that halves the
        // shader's size. Bind the values of the first run, so that the first run can use the compiled shader.
        let uniforms = [dispatch.launch.params.clone(), bytemuck::bytes_of(&scalars).to_vec()];
        let key = Arc::clone(&shader);
        let run = Box::new(move |device: &wgpu::Device, queue: &wgpu::Queue, timeout| {
            dispatch_nothing(device, queue, label, &shader, &uniforms, timeout)
        });
        Job { key, run }
    }));
}

/// Dispatches 0 workgroups of a shader: the driver compiles the shader, but executes nothing. Returns false
/// if the device reports an error or exceeds the timeout.
fn dispatch_nothing(
    device: &wgpu::Device,
    queue: &wgpu::Queue,
    label: &str,
    shader: &Shader,
    uniforms: &[Vec<u8>; 2],
    timeout: Duration,
) -> bool {
    let begun = Instant::now();
    let errors = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let pipeline = Arc::new(create_pipeline(device, label, shader));
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    // At least 256 bytes: the scalars need 48, and no storage binding needs more without workgroups.
    let size = uniforms[0].len().max(256) as u64;
    let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
    let buffers: Vec<_> = shader.bindings.iter().map(|_| device.create_buffer(&descriptor)).collect();
    for (buffer, bytes) in buffers.iter().zip(uniforms) {
        queue.write_buffer(buffer, 0, bytes);
    }
    let resources = buffers.iter().map(wgpu::Buffer::as_entire_binding).collect();
    let bind_group = bind_group(device, label, &pipeline, shader, resources);
    let command = Command { label: label.to_owned(), pipeline, bind_group, groups: [0, 1, 1] };
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encode(&mut encoder, &[command], None);
    let submission = Some(queue.submit([encoder.finish()]));
    let wait = wgpu::PollType::Wait { submission_index: submission, timeout: Some(timeout) };
    let waited = device.poll(wait);
    let compiled = waited.is_ok() && block_on(errors.pop()).is_none();
    let ms = 1e3 * begun.elapsed().as_secs_f64();
    log::debug!("second device: {label}: compiled: {compiled}, {ms:.0} ms");
    compiled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Access, GpuOptions};

    const UNIFORMS: &str = "@group(0) @binding(0) var<uniform> p: vec4<u32>;
        @group(0) @binding(1) var<uniform> s: vec4<u32>;";

    fn job(wgsl: &str) -> Job {
        let shader = Arc::new(Shader {
            wgsl: format!("{UNIFORMS}\n{wgsl}"),
            bindings: vec![(0, Access::Uniform), (1, Access::Uniform), (2, Access::ReadWrite)],
        });
        let key = Arc::clone(&shader);
        let run = Box::new(move |device: &wgpu::Device, queue: &wgpu::Queue, timeout| {
            let uniforms = [vec![0; 16], vec![0; 16]];
            dispatch_nothing(device, queue, "test", &shader, &uniforms, timeout)
        });
        Job { key, run }
    }

    #[test]
    fn each_shader_is_compiled_once_and_an_invalid_one_is_skipped() {
        let off = Gpu::new(GpuOptions::default().compile_ahead(false)).unwrap();
        assert!(off.compiled_ahead().is_none());
        let gpu = Gpu::new(GpuOptions::default().compile_ahead(true)).unwrap();
        if gpu.compiled_ahead().is_none() {
            // Written directly: the test harness captures what macros print.
            let line = "SKIPPED 1 test: no second device with this driver or on a single core";
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes());
            return;
        }
        let store = "@group(0) @binding(2) var<storage, read_write> y: array<u32>;";
        let valid = format!("{store} @compute @workgroup_size(1) fn main() {{ y[0] = p.x + s.x; }}");
        for _ in 0..2 {
            gpu.compile_ahead([job(&valid), job("no shader at all"), job(&valid)].into_iter());
        }
        gpu.wait_for_second_device();
        assert_eq!(gpu.compiled_ahead(), Some((2, 1)), "two shaders queued, only the valid one compiled");
    }
}
