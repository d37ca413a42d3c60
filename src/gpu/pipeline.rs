//! Compute pipelines, cached by their WGSL source.

use super::{Gpu, lock};
use crate::error::Result;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// How a kernel accesses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<uniform>`
    Uniform,
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    ReadWrite,
}

/// WGSL source and bindings of a compute pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    /// Complete WGSL source; the entry point is `main`.
    pub wgsl: String,
    /// Binding number and access of each binding of group 0, in ascending order.
    pub bindings: Vec<(u32, Access)>,
}

/// A compute pipeline with its bind group layout.
pub struct Pipeline {
    pub(crate) raw: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

#[derive(Default)]
pub(super) struct PipelineCache(Mutex<HashMap<String, Arc<Pipeline>>>);

impl Gpu {
    /// Returns the pipeline of a shader, created at the first call.
    pub(crate) fn pipeline(&self, label: &str, shader: &Shader) -> Result<Arc<Pipeline>> {
        // The WGSL source contains all generated constants, so equal sources can share a pipeline.
        if let Some(found) = lock(&self.inner.pipelines.0).get(&shader.wgsl) {
            return Ok(Arc::clone(found));
        }
        let created = Arc::new(self.error_scope(label, 0, || create_pipeline(self.device(), label, shader))?);
        lock(&self.inner.pipelines.0).insert(shader.wgsl.clone(), Arc::clone(&created));
        Ok(created)
    }
}

pub(crate) fn create_pipeline(device: &wgpu::Device, label: &str, shader: &Shader) -> Pipeline {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(label),
        source: wgpu::ShaderSource::Wgsl(shader.wgsl.as_str().into()),
    });
    let entry = |&(binding, access): &(u32, Access)| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: match access {
                Access::Uniform => wgpu::BufferBindingType::Uniform,
                Access::Read => wgpu::BufferBindingType::Storage { read_only: true },
                Access::ReadWrite => wgpu::BufferBindingType::Storage { read_only: false },
            },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    };
    let entries: Vec<_> = shader.bindings.iter().map(entry).collect();
    let layout = device
        .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: Some(label), entries: &entries });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: Some(label),
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let raw = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(label),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some("main"),
        cache: None,
        // wgpu need not initialize workgroup memory to zero, because every kernel writes it before reading
        // it.
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &[],
            zero_initialize_workgroup_memory: false,
        },
    });
    Pipeline { raw, layout }
}
