//! The bindings of the page: a device, a network in training, and the conformance suite.
//!
//! Functions marked `jspi` wait for the device: they suspend the WebAssembly stack and return a promise. Calls for one
//! object must not overlap, as a suspended call has borrowed it; `worker.js` makes one call at a time. Structured results
//! are JSON.

#![cfg(target_family = "wasm")]
// wasm-bindgen marks everything about JSPI as deprecated, because it is experimental.
#![expect(deprecated, reason = "wasm-bindgen's only mark for an experimental interface")]

mod check;
mod data;
mod question;
mod session;
mod settings;

use frazil::{Gpu, GpuOptions};
use serde_json::json;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console, js_name = error)]
    fn console_error(text: &str);
}

/// Prints panics to the console: by themselves, they are traps without a message.
#[wasm_bindgen(start)]
pub fn start() {
    std::panic::set_hook(Box::new(|panic| console_error(&panic.to_string())));
}

/// The GPU of the browser.
#[wasm_bindgen]
pub struct Device {
    gpu: Gpu,
}

#[wasm_bindgen]
impl Device {
    /// Opens the GPU.
    #[wasm_bindgen(jspi)]
    pub fn open() -> Result<Device, JsError> {
        Ok(Device { gpu: Gpu::new(GpuOptions::default())? })
    }

    /// Identity, features and limits of the adapter.
    pub fn report(&self) -> String {
        report(&self.gpu).to_string()
    }

    /// Number of compute pipelines and buffers, and bytes of all buffers.
    pub fn usage(&self) -> String {
        json!({ "bytes": self.gpu.allocated_bytes(), "submissions": self.gpu.submissions() }).to_string()
    }
}

fn report(gpu: &Gpu) -> serde_json::Value {
    let report = gpu.report();
    json!({
        "name": report.name,
        "kind": report.kind.to_string(),
        "software": report.software,
        "backend": report.backend.to_string(),
        "shaderCompiler": report.shader_compiler.to_string(),
        "subgroup": report.subgroup,
        "timestamps": report.timestamps,
        "maxBuffer": report.max_buffer,
        "maxBinding": report.max_binding,
        "maxStorageBuffers": report.max_storage_buffers,
        "maxWorkgroupMemory": report.max_workgroup_memory,
        "maxInvocations": report.max_invocations,
    })
}

/// Version of Frazil.
#[wasm_bindgen]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}
