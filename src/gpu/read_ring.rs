//! Reading from the device without stopping it: a ring of staging buffers.

use super::{Gpu, GpuBuffer};
use crate::error::{Error, Result};
use futures_intrusive::channel::shared::{OneshotReceiver, oneshot_channel};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

type MapResult = std::result::Result<(), wgpu::BufferAsyncError>;

/// Staging buffers of one size, used in turn. Reads come back in the order in which they were begun.
pub struct ReadRing {
    free: Vec<GpuBuffer>,
    busy: VecDeque<Reading>,
    slot_bytes: u64,
}

struct Reading {
    staging: GpuBuffer,
    bytes: u64,
    submission: wgpu::SubmissionIndex,
    mapped: OneshotReceiver<MapResult>,
}

impl ReadRing {
    /// `slots` staging buffers of `slot_bytes` (a multiple of 4) each.
    pub(crate) fn new(gpu: &Gpu, label: &str, slots: usize, slot_bytes: u64) -> Result<Self> {
        let free = (0..slots).map(|_| gpu.staging_buffer(label, slot_bytes)).collect::<Result<Vec<_>>>()?;
        Ok(ReadRing { free, busy: VecDeque::new(), slot_bytes })
    }

    /// Reads under way.
    pub(crate) fn pending(&self) -> usize {
        self.busy.len()
    }

    /// Whether no slot is free.
    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// Begins to read `bytes` (at most a slot, a multiple of 4) at `offset` of `source`, after all work submitted so far.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] if no slot is free or the slot is too small.
    pub(crate) fn begin(&mut self, gpu: &Gpu, source: &GpuBuffer, offset: u64, bytes: u64) -> Result<()> {
        let full =
            |what: &str, needed, available| Error::LimitExceeded { what: what.to_owned(), needed, available };
        if bytes > self.slot_bytes {
            return Err(full("a read-back slot", bytes, self.slot_bytes));
        }
        let staging = self.free.pop().ok_or_else(|| full("the read-back ring", 1, 0))?;
        let (sender, mapped) = oneshot_channel();
        let submitted = gpu.submit("read back", |encoder| {
            encoder.copy_buffer_to_buffer(source.raw(), offset, staging.raw(), 0, bytes);
            encoder.map_buffer_on_submit(staging.raw(), wgpu::MapMode::Read, 0..bytes, move |result| {
                // The receiver may be gone: then nobody wants the answer.
                let _ = sender.send(result);
            });
        });
        match submitted {
            Ok(submission) => {
                self.busy.push_back(Reading { staging, bytes, submission, mapped });
                Ok(())
            }
            Err(error) => {
                self.free.push(staging);
                Err(error)
            }
        }
    }

    /// Waits for the oldest read and gives its bytes to `take`; `None` if nothing is under way.
    pub(crate) fn finish<T>(&mut self, gpu: &Gpu, take: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        // Until it is done it stays in line, so that after a time-out a later call can finish it.
        let Some(reading) = self.busy.front() else {
            return Ok(None);
        };
        gpu.poll(Some(reading.submission.clone()), "a read-back")?;
        let mapped = pollster::block_on(reading.mapped.receive());
        self.settle(mapped, take)
    }

    /// Gives the oldest read's bytes to `take` if they are there; never waits.
    pub(crate) fn try_finish<T>(&mut self, gpu: &Gpu, take: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        let Some(reading) = self.busy.front() else {
            return Ok(None);
        };
        gpu.look()?;
        let mut context = Context::from_waker(Waker::noop());
        match pin!(reading.mapped.receive()).poll(&mut context) {
            Poll::Pending => Ok(None),
            Poll::Ready(mapped) => self.settle(mapped, take),
        }
    }

    /// Takes the oldest read out of the line, with what its mapping came to.
    fn settle<T>(&mut self, mapped: Option<MapResult>, take: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        let Some(Reading { staging, bytes, .. }) = self.busy.pop_front() else {
            return Ok(None);
        };
        let taken = match mapped {
            Some(Ok(())) => match staging.raw().get_mapped_range(0..bytes) {
                Ok(view) => Ok(Some(take(&view))),
                Err(error) => Err(error.to_string()),
            },
            Some(Err(error)) => Err(error.to_string()),
            None => Err("it was dropped".to_owned()),
        };
        staging.raw().unmap();
        self.free.push(staging);
        taken.map_err(|why| Error::DeviceLost { reason: format!("a read-back failed: {why}") })
    }

    /// Reads a range of any length now, in pieces of a slot, and gives each piece to `take` in order.
    pub(crate) fn read_all(
        &mut self,
        gpu: &Gpu,
        source: &GpuBuffer,
        offset: u64,
        bytes: u64,
        mut take: impl FnMut(&[u8]),
    ) -> Result<()> {
        // What an earlier call left behind when it failed is nobody's any more.
        while self.pending() > 0 {
            self.finish(gpu, |_| ())?;
        }
        let mut begun = 0;
        while begun < bytes || self.pending() > 0 {
            if begun < bytes && !self.is_full() {
                let piece = (bytes - begun).min(self.slot_bytes);
                self.begin(gpu, source, offset + begun, piece)?;
                begun += piece;
            } else if self.finish(gpu, &mut take)?.is_none() {
                return Err(Error::LimitExceeded {
                    what: "the read-back ring".to_owned(),
                    needed: 1,
                    available: 0,
                });
            }
        }
        Ok(())
    }
}
