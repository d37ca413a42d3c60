//! Buffers, counted against a byte budget.

use super::Gpu;
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts bytes and buffers, and limits the bytes: software adapters never report that memory is exhausted.
pub(super) struct MemoryBudget {
    limit: u64,
    used: AtomicU64,
    created: AtomicU64,
}

impl MemoryBudget {
    pub(super) fn new(limit: u64) -> Self {
        MemoryBudget { limit, used: AtomicU64::new(0), created: AtomicU64::new(0) }
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Checks that `bytes` more bytes fit the budget.
    pub(super) fn check(&self, what: &str, bytes: u64) -> Result<()> {
        let available = self.limit.saturating_sub(self.used());
        if bytes > available {
            return Err(Self::exceeded(what, bytes, available));
        }
        Ok(())
    }

    fn exceeded(what: &str, needed: u64, available: u64) -> Error {
        Error::LimitExceeded {
            what: format!("{what}, within the memory budget,"),
            needed,
            available,
            advice: "raise the budget with --memory-budget or GpuOptions::memory_budget, or use a smaller batch or \
                     model"
                .to_owned(),
        }
    }

    pub(super) fn created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }
}

/// Bytes reserved from a [`MemoryBudget`]. Dropping the reservation returns them.
struct Reservation {
    budget: Arc<MemoryBudget>,
    bytes: u64,
}

impl Reservation {
    fn new(budget: &Arc<MemoryBudget>, bytes: u64, label: &str) -> Result<Self> {
        let fits = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= budget.limit);
        match budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => {
                budget.created.fetch_add(1, Ordering::Relaxed);
                Ok(Reservation { budget: Arc::clone(budget), bytes })
            }
            Err(used) => Err(MemoryBudget::exceeded(label, bytes, budget.limit - used)),
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A device buffer, initialized to zero.
pub struct GpuBuffer {
    raw: wgpu::Buffer,
    label: String,
    _reservation: Reservation,
}

impl GpuBuffer {
    pub(crate) fn raw(&self) -> &wgpu::Buffer {
        &self.raw
    }

    /// Label in error messages and debuggers.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.raw.size()
    }
}

impl Gpu {
    /// Creates a buffer that kernels read and write.
    pub(crate) fn storage_buffer(&self, label: &str, bytes: u64) -> Result<GpuBuffer> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let limit = self.report().max_buffer.min(self.report().max_binding);
        self.buffer(label, bytes, usage, limit)
    }

    /// Creates a uniform buffer of kernel parameters.
    pub(crate) fn uniform_buffer(&self, label: &str, bytes: u64) -> Result<GpuBuffer> {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        self.buffer(label, bytes, usage, self.report().max_buffer)
    }

    /// Creates a buffer that receives the results of timestamp queries.
    pub(crate) fn query_buffer(&self, label: &str, bytes: u64) -> Result<GpuBuffer> {
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        self.buffer(label, bytes, usage, self.report().max_buffer)
    }

    /// Creates a staging buffer that the host maps to read.
    pub(super) fn staging_buffer(&self, label: &str, bytes: u64) -> Result<GpuBuffer> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        self.buffer(label, bytes, usage, self.report().max_buffer)
    }

    fn buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages, limit: u64) -> Result<GpuBuffer> {
        if bytes > limit {
            return Err(Error::LimitExceeded {
                what: label.to_owned(),
                needed: bytes,
                available: limit,
                advice: "the adapter has no larger buffers: use a smaller batch or model".to_owned(),
            });
        }
        let reservation = Reservation::new(&self.inner.budget, bytes, label)?;
        let descriptor =
            wgpu::BufferDescriptor { label: Some(label), size: bytes, usage, mapped_at_creation: false };
        let raw = self.error_scope(label, bytes, || self.device().create_buffer(&descriptor))?;
        Ok(GpuBuffer { raw, label: label.to_owned(), _reservation: reservation })
    }
}
