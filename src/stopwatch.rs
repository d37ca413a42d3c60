//! Time that passes.

use std::time::Duration;
#[cfg(not(target_family = "wasm"))]
use std::time::Instant;

/// Measures time from its start; always 0 in WebAssembly, where the standard library has no clock.
pub(crate) struct Stopwatch(#[cfg(not(target_family = "wasm"))] Instant);

impl Stopwatch {
    pub fn start() -> Self {
        Stopwatch(
            #[cfg(not(target_family = "wasm"))]
            Instant::now(),
        )
    }

    pub fn elapsed(&self) -> Duration {
        #[cfg(not(target_family = "wasm"))]
        return self.0.elapsed();
        #[cfg(target_family = "wasm")]
        Duration::ZERO
    }
}
