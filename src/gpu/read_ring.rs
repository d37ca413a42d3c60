//! Reading from the device without stopping it: a ring of staging buffers.

use super::{Gpu, GpuBuffer};
use crate::error::{Error, Result};
use futures_intrusive::channel::shared::{OneshotReceiver, oneshot_channel};
use std::collections::VecDeque;

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
        let submission = gpu.submit("read back", |encoder| {
            encoder.copy_buffer_to_buffer(source.raw(), offset, staging.raw(), 0, bytes);
            encoder.map_buffer_on_submit(staging.raw(), wgpu::MapMode::Read, 0..bytes, move |result| {
                // The receiver may be gone: then nobody wants the answer.
                let _ = sender.send(result);
            });
        })?;
        self.busy.push_back(Reading { staging, bytes, submission, mapped });
        Ok(())
    }

    /// Waits for the oldest read and gives its bytes to `take`; `None` if nothing is under way.
    pub(crate) fn finish<T>(&mut self, gpu: &Gpu, take: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        let Some(reading) = self.busy.pop_front() else {
            return Ok(None);
        };
        if let Err(error) = gpu.poll(Some(reading.submission.clone()), "a read-back") {
            // The slot may still be mapped later; it stays in line, so that a later call can finish it.
            self.busy.push_front(reading);
            return Err(error);
        }
        let lost = |reason: String| Error::DeviceLost { reason };
        match pollster::block_on(reading.mapped.receive()) {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(lost(format!("a read-back failed: {error}"))),
            None => return Err(lost("a read-back was dropped".to_owned())),
        }
        let view = reading.staging.raw().get_mapped_range(0..reading.bytes);
        let view = view.map_err(|error| lost(format!("a read-back failed: {error}")))?;
        let taken = take(&view);
        drop(view);
        reading.staging.raw().unmap();
        self.free.push(reading.staging);
        Ok(Some(taken))
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
            } else {
                self.finish(gpu, &mut take)?;
            }
        }
        Ok(())
    }
}
