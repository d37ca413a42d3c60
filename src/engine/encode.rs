//! Encodes compute passes. Runs, profiles, digests and ahead-of-time compilation all go through [`encode`].

use crate::gpu::{GpuBuffer, Pipeline, Shader};
use std::sync::Arc;

/// A dispatch with its pipeline and bind group.
pub(super) struct Command {
    pub label: String,
    pub pipeline: Arc<Pipeline>,
    pub bind_group: wgpu::BindGroup,
    /// Workgroups in x, y and z.
    pub groups: [u32; 3],
}

/// Encodes commands in order, in one compute pass. With `timestamps`, command `i` has a separate pass, whose
/// begin and end times are written to the queries `2 * i` and `2 * i + 1`.
pub(super) fn encode(
    encoder: &mut wgpu::CommandEncoder,
    commands: &[Command],
    timestamps: Option<&wgpu::QuerySet>,
) {
    let Some(query_set) = timestamps else {
        let descriptor = wgpu::ComputePassDescriptor { label: Some("commands"), timestamp_writes: None };
        dispatch(&mut encoder.begin_compute_pass(&descriptor), commands);
        return;
    };
    for (index, command) in (0u32..).zip(commands) {
        let writes = wgpu::ComputePassTimestampWrites {
            query_set,
            beginning_of_pass_write_index: Some(2 * index),
            end_of_pass_write_index: Some(2 * index + 1),
        };
        let descriptor =
            wgpu::ComputePassDescriptor { label: Some(&command.label), timestamp_writes: Some(writes) };
        dispatch(&mut encoder.begin_compute_pass(&descriptor), std::slice::from_ref(command));
    }
}

fn dispatch(pass: &mut wgpu::ComputePass<'_>, commands: &[Command]) {
    let mut current: Option<&Arc<Pipeline>> = None;
    for command in commands {
        if !current.is_some_and(|pipeline| Arc::ptr_eq(pipeline, &command.pipeline)) {
            pass.set_pipeline(&command.pipeline.raw);
            current = Some(&command.pipeline);
        }
        pass.set_bind_group(0, &command.bind_group, &[]);
        pass.dispatch_workgroups(command.groups[0], command.groups[1], command.groups[2]);
    }
}

/// Creates the bind group of a kernel; `resources` are in the order of its shader's bindings.
pub(super) fn bind_group(
    device: &wgpu::Device,
    label: &str,
    pipeline: &Pipeline,
    shader: &Shader,
    resources: Vec<wgpu::BindingResource<'_>>,
) -> wgpu::BindGroup {
    let bindings = resources.into_iter().zip(&shader.bindings);
    let entries: Vec<_> =
        bindings.map(|(resource, &(binding, _))| wgpu::BindGroupEntry { binding, resource }).collect();
    device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some(label),
        layout: &pipeline.layout,
        entries: &entries,
    })
}

/// Returns a range of a buffer as a binding resource.
pub(super) fn range(buffer: &GpuBuffer, offset: u64, bytes: u64) -> wgpu::BindingResource<'_> {
    wgpu::BindingResource::Buffer(wgpu::BufferBinding {
        buffer: buffer.raw(),
        offset,
        size: std::num::NonZeroU64::new(bytes),
    })
}
