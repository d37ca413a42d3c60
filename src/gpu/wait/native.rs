//! Native waits: polling the device.

use super::{ErrorScopes, Interrupted};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

pub(crate) use pollster::block_on;

/// A submission that can be waited for.
pub(crate) type Submission = wgpu::SubmissionIndex;

/// Returns what [`wait`] needs of a submission.
pub fn submitted(_queue: &wgpu::Queue, index: wgpu::SubmissionIndex) -> Submission {
    index
}

/// Waits for one submission, or for all if `None`, at most for `timeout`.
pub fn wait(
    device: &wgpu::Device,
    _queue: &wgpu::Queue,
    submission: Option<&Submission>,
    timeout: Duration,
) -> Result<(), Interrupted> {
    poll_device(
        device,
        wgpu::PollType::Wait { submission_index: submission.cloned(), timeout: Some(timeout) },
    )
}

/// Runs the callbacks of finished work without waiting.
pub fn poll(device: &wgpu::Device) -> Result<(), Interrupted> {
    poll_device(device, wgpu::PollType::Poll)
}

/// Polls the device. wgpu panics if the driver loses the device during a wait; any other failure but a timeout means
/// the same, because only this crate's submissions are waited for.
fn poll_device(device: &wgpu::Device, poll: wgpu::PollType) -> Result<(), Interrupted> {
    match std::panic::catch_unwind(AssertUnwindSafe(|| device.poll(poll))) {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(wgpu::PollError::Timeout)) => Err(Interrupted::Timeout),
        Ok(Err(_)) | Err(_) => Err(Interrupted::Lost),
    }
}

/// Ends error scopes and returns the error that they captured; `late` is for errors that arrive later, of which there
/// are none.
pub fn pop(scopes: ErrorScopes, _late: impl FnOnce(wgpu::Error) + 'static) -> Option<wgpu::Error> {
    let ErrorScopes { validation, internal, memory } = scopes;
    let errors = [block_on(validation.pop()), block_on(internal.pop()), block_on(memory.pop())];
    errors.into_iter().flatten().next()
}
