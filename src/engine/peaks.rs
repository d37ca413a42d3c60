//! Measures what a device can do at most: multiply-adds, and copies.

use super::single::fastest;
use crate::error::Result;
use crate::gpu::{Access, Gpu, Shader};
use std::time::Duration;

/// The highest rates that were measured on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Peaks {
    /// Billions of f32 multiplications and additions per second, of independent multiply-adds in registers.
    pub gflops: f64,
    /// Billions of bytes per second, read and written, of a copy from one large buffer to another.
    pub gbytes_per_s: f64,
}

/// Invocations of a workgroup.
const WORKGROUP: u32 = 64;

/// Loop iterations of an invocation, of eight multiply-adds of four elements.
const ITERATIONS: u32 = 512;

/// Multiplications and additions of an invocation.
const FLOPS: u64 = 2 * 4 * 8 * ITERATIONS as u64;

/// Elements of four floats that an invocation copies.
const COPIES: u32 = 8;

/// A measured run takes at least this long, so that its submission does not count.
const LEAST: Duration = Duration::from_millis(20);

/// Runs whose fastest counts.
const RUNS: usize = 5;

/// Measures the peaks of a device, in about a second on a GPU. Other work on it makes them lower.
///
/// # Errors
/// [`Error::LimitExceeded`](crate::Error::LimitExceeded), [`Error::OutOfMemory`](crate::Error::OutOfMemory),
/// [`Error::DeviceLost`](crate::Error::DeviceLost), [`Error::Timeout`](crate::Error::Timeout).
pub fn peaks(gpu: &Gpu) -> Result<Peaks> {
    Ok(Peaks { gflops: multiply_adds(gpu)?, gbytes_per_s: copies(gpu)? })
}

fn shader(wgsl: String) -> Shader {
    Shader { wgsl, bindings: vec![(0, Access::Read), (1, Access::ReadWrite)] }
}

fn multiply_adds(gpu: &Gpu) -> Result<f64> {
    let sums: Vec<String> = (0..8).map(|i| format!("    s{i} = s{i} * a + b;\n")).collect();
    let starts: Vec<String> =
        (0..8).map(|i| format!("    var s{i} = a + vec4<f32>(f32(id.x + {i}u));\n")).collect();
    let total: Vec<String> = (0..8).map(|i| format!("s{i}")).collect();
    let shader = shader(format!(
        "@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size({WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
    let a = x[0];
    let b = x[1];
{}    for (var i = 0u; i < {ITERATIONS}u; i++) {{
{}    }}
    y[id.x % {WORKGROUP}u] = {};
}}
",
        starts.concat(),
        sums.concat(),
        total.join(" + ")
    ));
    let input = gpu.storage_buffer("peak operands", 32)?;
    let output = gpu.storage_buffer("peak results", 16 * u64::from(WORKGROUP))?;
    gpu.write(&input, 0, bytemuck::cast_slice(&[0.5f32; 8]))?;
    let buffers = [&input, &output];
    let mut groups = 16;
    while groups < 32_768 && fastest(gpu, "multiply-adds", &shader, buffers, groups, 1)? < LEAST {
        groups *= 2;
    }
    let time = fastest(gpu, "multiply-adds", &shader, buffers, groups, RUNS)?;
    let flops = FLOPS * u64::from(groups) * u64::from(WORKGROUP);
    Ok(flops as f64 / time.as_secs_f64() / 1e9)
}

fn copies(gpu: &Gpu) -> Result<f64> {
    // Larger than caches, and few enough workgroups for one axis of the grid.
    let group = 16 * u64::from(COPIES * WORKGROUP);
    let report = gpu.report();
    let large = if report.software { 64 << 20 } else { 256 << 20 };
    let limit = report.max_binding.min(report.max_buffer).min(large);
    let groups = (limit / group).min(32_768) as u32;
    let shader = shader(format!(
        "@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size({WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
    for (var i = 0u; i < {COPIES}u; i++) {{
        let index = id.x + i * {}u;
        y[index] = x[index];
    }}
}}
",
        groups * WORKGROUP
    ));
    let bytes = group * u64::from(groups);
    let input = gpu.storage_buffer("copy source", bytes)?;
    let output = gpu.storage_buffer("copy target", bytes)?;
    let time = fastest(gpu, "copies", &shader, [&input, &output], groups, RUNS)?;
    Ok(2.0 * bytes as f64 / time.as_secs_f64() / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::GpuOptions;

    #[test]
    fn peaks_are_measured() {
        let gpu = Gpu::new(GpuOptions::default()).unwrap();
        let before = gpu.allocated_bytes();
        let peaks = peaks(&gpu).unwrap();
        assert!(peaks.gflops > 0.01 && peaks.gflops < 1e7, "{peaks:?}");
        assert!(peaks.gbytes_per_s > 0.01 && peaks.gbytes_per_s < 1e6, "{peaks:?}");
        assert_eq!(gpu.allocated_bytes(), before);
    }
}
