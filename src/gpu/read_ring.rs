//! Asynchronous read-back through a ring of staging buffers.

use super::wait::{Submission, block_on};
use super::{Gpu, GpuBuffer};
use crate::error::{Error, Result};
use futures_intrusive::channel::shared::{OneshotReceiver, oneshot_channel};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

type MapResult = std::result::Result<(), wgpu::BufferAsyncError>;

const AT: &str = "read-back";

fn no_free_buffer() -> Error {
    Error::argument(AT, "a free staging buffer (finish a read first)", "none")
}

/// Ring of staging buffers of one size. Reads finish in the order in which they began.
pub struct ReadRing {
    free: Vec<GpuBuffer>,
    in_flight: VecDeque<PendingRead>,
    slot_bytes: u64,
}

struct PendingRead {
    staging: GpuBuffer,
    bytes: u64,
    submission: Submission,
    mapped: OneshotReceiver<MapResult>,
}

impl ReadRing {
    /// Creates `slots` staging buffers of `slot_bytes` bytes each (a multiple of 4).
    pub(crate) fn new(gpu: &Gpu, label: &str, slots: usize, slot_bytes: u64) -> Result<Self> {
        let free = (0..slots).map(|_| gpu.staging_buffer(label, slot_bytes)).collect::<Result<Vec<_>>>()?;
        Ok(ReadRing { free, in_flight: VecDeque::new(), slot_bytes })
    }

    /// Number of reads in flight.
    pub(crate) fn pending(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether no staging buffer is free.
    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Begins to read `bytes` at byte `offset` of `source`, after all work submitted so far.
    ///
    /// `bytes` is a multiple of 4 and at most the size of a staging buffer.
    ///
    /// # Errors
    /// - [`Error::InvalidArgument`] if no staging buffer is free, or `bytes` exceeds its size;
    /// - [`Error::DeviceLost`], [`Error::Timeout`], [`Error::Validation`] from the submission.
    pub(crate) fn begin(&mut self, gpu: &Gpu, source: &GpuBuffer, offset: u64, bytes: u64) -> Result<()> {
        self.begin_after(gpu, source, offset, bytes, None)
    }

    /// [`ReadRing::begin`]; with `before` in the same submission as what it records, and without waiting for others.
    pub(crate) fn begin_after(
        &mut self,
        gpu: &Gpu,
        source: &GpuBuffer,
        offset: u64,
        bytes: u64,
        before: Option<&dyn Fn(&mut wgpu::CommandEncoder)>,
    ) -> Result<()> {
        if bytes > self.slot_bytes {
            return Err(Error::argument(AT, format!("at most {} bytes", self.slot_bytes), bytes));
        }
        let staging = self.free.pop().ok_or_else(no_free_buffer)?;
        let (sender, mapped) = oneshot_channel();
        let record = |encoder: &mut wgpu::CommandEncoder| {
            if let Some(before) = before {
                before(encoder);
            }
            encoder.copy_buffer_to_buffer(source.raw(), offset, staging.raw(), 0, bytes);
            encoder.map_buffer_on_submit(staging.raw(), wgpu::MapMode::Read, 0..bytes, move |result| {
                // Sending fails if the ring was dropped, in which case the result is not needed.
                let _ = sender.send(result);
            });
        };
        let submitted = match before {
            None => gpu.submit("read back", record),
            Some(_) => gpu.submit_part("read back", record),
        };
        match submitted {
            Ok(submission) => {
                self.in_flight.push_back(PendingRead { staging, bytes, submission, mapped });
                Ok(())
            }
            Err(error) => {
                self.free.push(staging);
                Err(error)
            }
        }
    }

    /// Waits for the oldest read and passes its bytes to `consume`; `None` if no read is in flight.
    pub(crate) fn finish<T>(&mut self, gpu: &Gpu, consume: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        // The read stays in the queue until it is done, so that a later call can finish it after a timeout.
        let Some(read) = self.in_flight.front() else {
            return Ok(None);
        };
        gpu.wait_for(Some(&read.submission), "a read-back")?;
        let mapped = block_on(read.mapped.receive());
        self.complete(gpu, mapped, consume)
    }

    /// Passes the oldest read's bytes to `consume` if they have arrived; never waits.
    pub(crate) fn try_finish<T>(&mut self, gpu: &Gpu, consume: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        let Some(read) = self.in_flight.front() else {
            return Ok(None);
        };
        gpu.poll()?;
        let mut context = Context::from_waker(Waker::noop());
        match pin!(read.mapped.receive()).poll(&mut context) {
            Poll::Pending => Ok(None),
            Poll::Ready(mapped) => self.complete(gpu, mapped, consume),
        }
    }

    /// Removes the oldest read from the queue and frees its staging buffer.
    ///
    /// `mapped` is the result of the mapping; `None` if the callback was dropped.
    fn complete<T>(
        &mut self,
        gpu: &Gpu,
        mapped: Option<MapResult>,
        consume: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>> {
        let Some(PendingRead { staging, bytes, .. }) = self.in_flight.pop_front() else {
            return Ok(None);
        };
        let consumed = match mapped {
            Some(Ok(())) => match staging.raw().get_mapped_range(0..bytes) {
                Ok(view) => Ok(Some(consume(&view))),
                Err(error) => Err(error.to_string()),
            },
            Some(Err(error)) => Err(error.to_string()),
            None => Err("the mapping callback was dropped".to_owned()),
        };
        staging.raw().unmap();
        self.free.push(staging);
        consumed.or_else(|why| {
            gpu.poll()?;
            Err(Error::Validation { kernel: "a read-back".to_owned(), message: why, source: None })
        })
    }

    /// Reads a range of any length in parts of one staging buffer each, and passes the bytes of the parts to
    /// `consume` in order. Waits for the device.
    pub(crate) fn read_all(
        &mut self,
        gpu: &Gpu,
        source: &GpuBuffer,
        offset: u64,
        bytes: u64,
        mut consume: impl FnMut(&[u8]),
    ) -> Result<()> {
        // An earlier call that failed may have left reads in flight.
        while self.pending() > 0 {
            self.finish(gpu, |_| ())?;
        }
        let mut begun = 0;
        while begun < bytes || self.pending() > 0 {
            if begun < bytes && !self.is_full() {
                let chunk = (bytes - begun).min(self.slot_bytes);
                self.begin(gpu, source, offset + begun, chunk)?;
                begun += chunk;
            } else if self.finish(gpu, &mut consume)?.is_none() {
                return Err(no_free_buffer());
            }
        }
        Ok(())
    }
}
