//! Compute pipelines, built once for each text and kept.

use super::{Gpu, lock};
use crate::error::Result;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// How a kernel uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// `var<uniform>`
    Uniform,
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    ReadWrite,
}

/// What a pipeline is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Shader {
    /// The whole text, entry point `main`.
    pub wgsl: String,
    /// Each binding of group 0, in order of the numbers: number and use.
    pub bindings: Vec<(u32, Access)>,
}

/// A compiled kernel.
pub struct Pipeline {
    pub(crate) raw: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

#[derive(Default)]
pub(super) struct PipelineCache(Mutex<HashMap<String, Arc<Pipeline>>>);

impl Gpu {
    /// The pipeline of this text; made at the first call, the same one after.
    pub(crate) fn pipeline(&self, label: &str, shader: &Shader) -> Result<Arc<Pipeline>> {
        // The text holds every generated constant, so it is the whole key.
        if let Some(found) = lock(&self.inner.pipelines.0).get(&shader.wgsl) {
            return Ok(Arc::clone(found));
        }
        let made = Arc::new(self.scope(label, 0, || make_pipeline(self.device(), label, shader))?);
        lock(&self.inner.pipelines.0).insert(shader.wgsl.clone(), Arc::clone(&made));
        Ok(made)
    }
}

pub(crate) fn make_pipeline(device: &wgpu::Device, label: &str, shader: &Shader) -> Pipeline {
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
        // Every kernel writes its workgroup memory before it reads it.
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &[],
            zero_initialize_workgroup_memory: false,
        },
    });
    Pipeline { raw, layout }
}
