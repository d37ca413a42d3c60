//! Runs shaders that belong to no plan.

use super::encode::{Command, bind_group, encode, range};
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer, ReadRing, Shader};
use std::time::{Duration, Instant};

/// Runs one workgroup of a shader with two bindings, words that it reads and `results` words that it writes, and returns
/// the latter. Waits for the device.
pub(crate) fn run_shader(
    gpu: &Gpu,
    label: &str,
    shader: &Shader,
    words: &[u32],
    results: usize,
) -> Result<Vec<u32>> {
    let bytes = 4 * results as u64;
    let input = gpu.storage_buffer(label, 4 * words.len() as u64)?;
    let output = gpu.storage_buffer(label, bytes)?;
    gpu.write(&input, 0, bytemuck::cast_slice(words))?;
    let command = command(gpu, label, shader, [&input, &output], 1)?;
    gpu.submit(label, |encoder| encode(encoder, &[command], None))?;
    let mut read = Vec::new();
    let mut ring = ReadRing::new(gpu, label, 1, bytes)?;
    ring.read_all(gpu, &output, 0, bytes, |piece| {
        read.extend(piece.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
    })?;
    Ok(read)
}

/// Runs workgroups of a shader that reads one buffer and writes another, as often as `times`, and returns the time of the
/// fastest run, as the host measures it.
pub(super) fn fastest(
    gpu: &Gpu,
    label: &str,
    shader: &Shader,
    buffers: [&GpuBuffer; 2],
    groups: u32,
    times: usize,
) -> Result<Duration> {
    let commands = [command(gpu, label, shader, buffers, groups)?];
    let mut fastest = Duration::MAX;
    for _ in 0..times {
        gpu.wait()?;
        let begun = Instant::now();
        gpu.submit(label, |encoder| encode(encoder, &commands, None))?;
        gpu.wait()?;
        fastest = fastest.min(begun.elapsed());
    }
    Ok(fastest)
}

fn command(
    gpu: &Gpu,
    label: &str,
    shader: &Shader,
    buffers: [&GpuBuffer; 2],
    groups: u32,
) -> Result<Command> {
    let pipeline = gpu.pipeline(label, shader)?;
    let resources = buffers.map(|buffer| range(buffer, 0, buffer.bytes())).to_vec();
    let bind_group =
        gpu.error_scope(label, 0, || bind_group(gpu.device(), label, &pipeline, shader, resources))?;
    Ok(Command { label: label.to_owned(), pipeline, bind_group, groups: [groups, 1, 1] })
}
