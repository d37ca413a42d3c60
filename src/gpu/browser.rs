//! WebGPU beyond wgpu's interface: who made the GPU, and pipelines that the browser compiles in parallel.

use super::wait::suspend;
use super::{Access, AdapterReport, DeviceKind, Gpu, Shader, lock};
use js_sys::{Array, JSON, Object, Promise, Reflect};
use std::collections::HashSet;
use std::sync::Arc;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// `GPUDevice`.
    type Device;

    #[wasm_bindgen(method, getter, js_name = adapterInfo)]
    fn adapter_info(this: &Device) -> JsValue;

    #[wasm_bindgen(method, js_name = createShaderModule)]
    fn create_shader_module(this: &Device, descriptor: &JsValue) -> JsValue;

    #[wasm_bindgen(method, js_name = createBindGroupLayout)]
    fn create_bind_group_layout(this: &Device, descriptor: &JsValue) -> JsValue;

    #[wasm_bindgen(method, js_name = createPipelineLayout)]
    fn create_pipeline_layout(this: &Device, descriptor: &JsValue) -> JsValue;

    #[wasm_bindgen(method, js_name = createComputePipelineAsync)]
    fn create_compute_pipeline_async(this: &Device, descriptor: &JsValue) -> Promise;
}

/// Adds the name and the class of the adapter to a report: wgpu has only a description, which is mostly empty.
pub(super) fn identified(mut report: AdapterReport, device: &wgpu::Device) -> AdapterReport {
    let Some(device) = device.as_webgpu() else { return report };
    let info = device.unchecked_ref::<Device>().adapter_info();
    let text = |key: &str| {
        let value = Reflect::get(&info, &key.into()).ok();
        value.and_then(|value| value.as_string()).unwrap_or_default()
    };
    let (vendor, architecture) = (text("vendor"), text("architecture"));
    let names = [vendor.as_str(), architecture.as_str(), &text("device")];
    let known: Vec<_> = names.into_iter().filter(|name| !name.is_empty()).collect();
    report.name = match (text("description"), known.is_empty()) {
        (description, _) if !description.is_empty() => description,
        (_, true) => "unknown GPU".to_owned(),
        (_, false) => known.join(" "),
    };
    report.kind = match vendor.as_str() {
        _ if report.software || matches!(architecture.as_str(), "swiftshader" | "warp") => DeviceKind::Cpu,
        "nvidia" => DeviceKind::Discrete,
        // Also discrete ones, which a browser does not tell apart.
        "amd" | "intel" | "apple" | "arm" | "qualcomm" | "img-tec" | "samsung" => DeviceKind::Integrated,
        _ => report.kind,
    };
    report.software = report.kind == DeviceKind::Cpu;
    report
}

/// Pipelines in the browser's cache.
pub(crate) struct Compiled {
    /// The cache keeps a pipeline as long as it is referenced.
    _pipelines: JsValue,
}

impl Gpu {
    /// Compiles the shaders that have no pipeline yet, all at the same time, and waits for all of them. Until the result
    /// is dropped, a browser with a cache of pipelines, such as Chrome, creates the pipelines of these shaders at once.
    ///
    /// Errors are not reported: creating the pipeline of a wrong shader fails again.
    pub(crate) fn compile_in_parallel(&self, shaders: &[Arc<Shader>]) -> Compiled {
        let begun = Array::new();
        if let Some(device) = self.device().as_webgpu() {
            let device = device.unchecked_ref::<Device>();
            let existing = lock(&self.inner.pipelines.0);
            let mut seen = HashSet::new();
            for shader in shaders {
                if !existing.contains_key(&shader.wgsl) && seen.insert(&shader.wgsl) {
                    begun.push(&begin(device, shader));
                }
            }
        }
        if begun.length() > 0 {
            suspend(&Promise::all_settled(&begun).unchecked_into());
        }
        Compiled { _pipelines: begun.into() }
    }
}

/// Begins to compile a shader. The descriptors have the same contents as those of [`super::pipeline::create_pipeline`], so that
/// the browser finds the pipeline in its cache.
fn begin(device: &Device, shader: &Shader) -> Promise {
    let entry = |&(binding, access): &(u32, Access)| {
        let kind = match access {
            Access::Uniform => "uniform",
            Access::Read => "read-only-storage",
            Access::ReadWrite => "storage",
        };
        format!(r#"{{"binding":{binding},"visibility":4,"buffer":{{"type":"{kind}"}}}}"#)
    };
    let entries = shader.bindings.iter().map(entry).collect::<Vec<_>>().join(",");
    let bindings = JSON::parse(&format!(r#"{{"entries":[{entries}]}}"#)).unwrap_or_default();
    let layouts = Array::of1(&device.create_bind_group_layout(&bindings));
    let layout = device.create_pipeline_layout(&object([("bindGroupLayouts", &layouts)]));
    let module = device.create_shader_module(&object([("code", &shader.source().as_ref().into())]));
    let compute = object([("module", &module), ("entryPoint", &"main".into())]);
    device.create_compute_pipeline_async(&object([("layout", &layout), ("compute", &compute)]))
}

fn object<const N: usize>(entries: [(&str, &JsValue); N]) -> JsValue {
    let object = Object::new();
    for (key, value) in entries {
        // Setting a property of a new object does not fail.
        let _ = Reflect::set(&object, &key.into(), value);
    }
    object.into()
}
