//! Compute pipelines, cached by their WGSL source.

use super::{Gpu, lock};
use crate::error::{Error, Result};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

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

/// What to do to a shader before its pipeline is created, to test what detects a broken driver.
pub(crate) enum Change {
    /// Nothing.
    None,
    /// Compile this WGSL text instead.
    Text(String),
    /// Lose the device.
    Lose,
    /// Never return, as a driver that hangs.
    Hang,
}

/// Decides the change of a shader from its label and the shader.
pub(super) type ChangeShader = Box<dyn Fn(&str, &Shader) -> Change + Send + Sync>;

/// A compute pipeline with its bind group layout.
pub struct Pipeline {
    pub(crate) raw: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

#[derive(Default)]
pub(super) struct PipelineCache(pub(super) Mutex<HashMap<String, Arc<Pipeline>>>);

impl Gpu {
    /// Returns the pipeline of a shader, created at the first call.
    pub(crate) fn pipeline(&self, label: &str, shader: &Shader) -> Result<Arc<Pipeline>> {
        // The WGSL source contains all generated constants, so equal sources can share a pipeline. A changed shader may be
        // another one each time.
        let change_shader = self.inner.change_shader.get();
        if change_shader.is_none()
            && let Some(found) = lock(&self.inner.pipelines.0).get(&shader.wgsl)
        {
            return Ok(Arc::clone(found));
        }
        let change = change_shader.map_or(Change::None, |change| change(label, shader));
        let changed = match change {
            Change::None => None,
            Change::Text(wgsl) => Some(Shader { wgsl, bindings: shader.bindings.clone() }),
            Change::Lose => {
                self.device().destroy();
                None
            }
            Change::Hang => loop {
                std::thread::sleep(Duration::from_secs(1));
            },
        };
        let source = changed.as_ref().unwrap_or(shader);
        let created = Arc::new(self.error_scope(label, 0, || create_pipeline(self.device(), label, source))?);
        lock(&self.inner.pipelines.0).insert(shader.wgsl.clone(), Arc::clone(&created));
        Ok(created)
    }

    /// Changes shaders from now on, before their pipelines are created.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the shaders of this device are changed already.
    pub(crate) fn change_shaders(
        &self,
        change: impl Fn(&str, &Shader) -> Change + Send + Sync + 'static,
    ) -> Result<()> {
        self.inner.change_shader.set(Box::new(change)).map_err(|_| {
            Error::argument("plant", "a device without a fault", "a device with one; open another Gpu")
        })
    }
}

impl Shader {
    /// The source as the compiler of this platform takes it: a browser requires a directive before subgroup operations,
    /// which naga does not know.
    pub(super) fn source(&self) -> Cow<'_, str> {
        let subgroups = ["subgroupBroadcast(", "quadBroadcast("];
        if cfg!(target_family = "wasm") && subgroups.iter().any(|call| self.wgsl.contains(call)) {
            return format!("enable subgroups;\n{}", self.wgsl).into();
        }
        self.wgsl.as_str().into()
    }
}

pub(crate) fn create_pipeline(device: &wgpu::Device, label: &str, shader: &Shader) -> Pipeline {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(label),
        source: wgpu::ShaderSource::Wgsl(shader.source()),
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
