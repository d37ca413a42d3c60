//! Tests a device that the application has opened itself, as the tests of wgpu or of a driver do: the conformance suite is
//! an iterator of results.
//!
//! ```text
//! cargo run --release --example conformance              # each kernel in a few cases
//! cargo run --release --example conformance -- 'conv*'   # operations that match
//! ```

use frazil::conformance::{Extent, Suite, float_facts};
use frazil::{Gpu, wgpu};
use std::error::Error;

/// Opens a device with what kernels can use of the adapter.
fn open() -> Result<Gpu, Box<dyn Error>> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    pollster::block_on(async {
        let adapter = instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await?;
        let (device, queue) = adapter.request_device(&Gpu::wanted(&adapter)).await?;
        Ok(Gpu::from_wgpu(&adapter, device, queue))
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let gpu = open()?;
    for fact in float_facts(&gpu)? {
        println!("{}: {}", fact.name, fact.value);
    }
    let suite = match std::env::args().nth(1) {
        Some(glob) => Suite::new().op(glob),
        None => Suite::new().extent(Extent::Quick),
    };
    let (mut passed, mut failed) = (0, 0);
    // After a lost device, each of the cases that remain would report the loss. `reopen_with` opens another one.
    let again = || open().map_err(|error| frazil::Error::DeviceLost { reason: error.to_string() });
    for outcome in suite.run(&gpu)?.reopen_with(again) {
        if outcome.passed() {
            passed += 1;
        } else {
            failed += 1;
            println!("{outcome}");
        }
    }
    println!("{passed} passed, {failed} failed on {}", gpu.report().name);
    if failed > 0 { Err("a kernel is wrong".into()) } else { Ok(()) }
}
