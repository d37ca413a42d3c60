//! Runs shaders that belong to no plan.

use super::encode::{Command, bind_group, encode, range};
use crate::error::Result;
use crate::gpu::{Gpu, GpuBuffer, Shader};
use std::time::{Duration, Instant};

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
