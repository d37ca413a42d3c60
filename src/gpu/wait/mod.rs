//! Waiting for the device: no other module blocks.
//!
//! A native wait polls the device on the calling thread. A browser polls the device itself, and runs nothing else while
//! WebAssembly runs, so a wait suspends the WebAssembly stack until a promise is settled (JavaScript promise integration,
//! JSPI). Only functions that are exported with `#[wasm_bindgen(jspi)]`, and what they call, may wait there.

#[cfg(target_family = "wasm")]
mod browser;
#[cfg(not(target_family = "wasm"))]
mod native;

#[cfg(target_family = "wasm")]
use browser as imp;
#[cfg(not(target_family = "wasm"))]
use native as imp;

#[cfg(target_family = "wasm")]
pub(super) use imp::suspend;
pub(crate) use imp::{Submission, block_on};
pub(super) use imp::{poll, pop, submitted, wait};

/// Why a wait ended early.
#[cfg_attr(target_family = "wasm", expect(dead_code, reason = "a browser ends every wait"))]
pub(super) enum Interrupted {
    /// The time limit was exceeded.
    Timeout,
    /// The device is lost.
    Lost,
}

/// Error scopes for all kinds of errors. The innermost one is dropped first.
pub(super) struct ErrorScopes {
    validation: wgpu::ErrorScopeGuard,
    internal: wgpu::ErrorScopeGuard,
    memory: wgpu::ErrorScopeGuard,
}

impl ErrorScopes {
    pub fn push(device: &wgpu::Device) -> Self {
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        ErrorScopes { validation, internal, memory }
    }
}
