//! How long each dispatch takes, by the device's own clock.

use super::{Algorithm, Command, Plan};
use crate::error::{Error, Result};
use crate::graph::StepScalars;

/// One dispatch of a profiled run.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedDispatch {
    /// The operation it belongs to.
    pub label: String,
    /// By which algorithm, of a convolution or its gradients.
    pub algorithm: Option<Algorithm>,
    /// The kernel.
    pub kernel: &'static str,
    /// When it began, in nanoseconds since the run's first dispatch did.
    pub begin_ns: f64,
    /// How long it took, in nanoseconds.
    pub ns: f64,
    /// Floating-point operations for a full batch.
    pub flops: u64,
    /// Bytes of everything that it binds, each counted once: what it must move at least, if it uses all of it.
    pub bytes: u64,
}

/// Dispatches with timestamps in one submission: wgpu allows 4,096 queries a set.
const TIMED_AT_ONCE: usize = 2_000;

impl Plan {
    /// Runs like [`Plan::run`], each dispatch in a pass of its own with timestamps around it, and waits.
    ///
    /// # Errors
    /// As [`Plan::run`]; [`Error::InvalidArgument`] if the adapter has no timestamps.
    pub fn profile(&self, scalars: StepScalars) -> Result<Vec<TimedDispatch>> {
        if !self.gpu.report().timestamps {
            let got = format!("{}, which has none", self.gpu.report().name);
            return Err(Error::argument("Plan::profile", "an adapter with timestamp queries", got));
        }
        self.check_rows(scalars)?;
        self.gpu.write(&self.scalars, 0, bytemuck::bytes_of(&scalars))?;
        let mut ticks = Vec::new();
        for commands in self.commands.chunks(TIMED_AT_ONCE) {
            ticks.extend(self.time(commands)?);
        }
        let nanoseconds = f64::from(self.gpu.timestamp_period());
        let start = ticks.first().map_or(0, |pair| pair[0]);
        let timed = self.commands.iter().zip(&self.report.dispatches).zip(ticks);
        Ok(timed
            .map(|((command, dispatch), [begin, end])| TimedDispatch {
                label: dispatch.label.clone(),
                algorithm: dispatch.algorithm,
                kernel: dispatch.kernel,
                begin_ns: begin.wrapping_sub(start) as f64 * nanoseconds,
                ns: end.wrapping_sub(begin) as f64 * nanoseconds,
                flops: dispatch.flops,
                bytes: command.bytes,
            })
            .collect())
    }

    /// The device's clock before and after each command.
    fn time(&self, commands: &[Command]) -> Result<Vec<[u64; 2]>> {
        let count = 2 * commands.len() as u32;
        let bytes = 8 * u64::from(count);
        let queries = self.gpu.error_scope("timestamps", bytes, || {
            self.gpu.device().create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count,
            })
        })?;
        let resolved = self.gpu.query_buffer("timestamps", bytes)?;
        self.gpu.submit("profile", |encoder| {
            for (index, command) in (0u32..).zip(commands) {
                let writes = wgpu::ComputePassTimestampWrites {
                    query_set: &queries,
                    beginning_of_pass_write_index: Some(2 * index),
                    end_of_pass_write_index: Some(2 * index + 1),
                };
                let descriptor = wgpu::ComputePassDescriptor {
                    label: Some(&command.label),
                    timestamp_writes: Some(writes),
                };
                let mut pass = encoder.begin_compute_pass(&descriptor);
                pass.set_pipeline(&command.pipeline.raw);
                pass.set_bind_group(0, &command.bind_group, &[]);
                pass.dispatch_workgroups(command.groups[0], command.groups[1], command.groups[2]);
            }
            encoder.resolve_query_set(&queries, 0..count, resolved.raw(), 0);
        })?;
        let words = self.read_words(&resolved, 0, bytes)?;
        let tick = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        Ok(words.chunks_exact(4).map(|w| [tick(w[0], w[1]), tick(w[2], w[3])]).collect())
    }
}
