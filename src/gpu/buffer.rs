//! Buffers under a byte budget.

use super::Gpu;
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts bytes and buffers; software drivers never say that memory is out, so we do.
pub(super) struct Budget {
    limit: u64,
    used: AtomicU64,
    created: AtomicU64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Budget { limit, used: AtomicU64::new(0), created: AtomicU64::new(0) }
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Checks that so many more bytes fit.
    pub(super) fn check(&self, what: &str, bytes: u64) -> Result<()> {
        let available = self.limit.saturating_sub(self.used());
        if bytes > available {
            let what = format!("{what}, within the memory budget,");
            return Err(Error::LimitExceeded { what, needed: bytes, available });
        }
        Ok(())
    }

    pub(super) fn created(&self) -> u64 {
        self.created.load(Ordering::Relaxed)
    }
}

struct Lease {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Lease {
    fn take(budget: &Arc<Budget>, bytes: u64, label: &str) -> Result<Self> {
        let fits = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= budget.limit);
        match budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => {
                budget.created.fetch_add(1, Ordering::Relaxed);
                Ok(Lease { budget: Arc::clone(budget), bytes })
            }
            Err(used) => Err(Error::LimitExceeded {
                what: format!("{label}, within the memory budget,"),
                needed: bytes,
                available: budget.limit - used,
            }),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A buffer on the device. Its bytes are zero until written.
pub struct GpuBuffer {
    raw: wgpu::Buffer,
    label: String,
    _lease: Lease,
}

impl GpuBuffer {
    pub(crate) fn raw(&self) -> &wgpu::Buffer {
        &self.raw
    }

    /// Its name in messages and debuggers.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.raw.size()
    }
}

impl Gpu {
    /// A buffer that kernels read and write.
    pub(crate) fn storage_buffer(&self, label: &str, bytes: u64) -> Result<GpuBuffer> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let limit = self.report().max_buffer.min(self.report().max_binding);
        self.buffer(label, bytes, usage, limit)
    }

    /// A buffer of kernel parameters.
    pub(crate) fn uniform_buffer(&self, label: &str, bytes: u64) -> Result<GpuBuffer> {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        self.buffer(label, bytes, usage, self.report().max_buffer)
    }

    /// A buffer that timestamps are written to.
    pub(crate) fn query_buffer(&self, label: &str, bytes: u64) -> Result<GpuBuffer> {
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        self.buffer(label, bytes, usage, self.report().max_buffer)
    }

    /// A buffer that the host reads.
    pub(super) fn staging_buffer(&self, label: &str, bytes: u64) -> Result<GpuBuffer> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        self.buffer(label, bytes, usage, self.report().max_buffer)
    }

    fn buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages, limit: u64) -> Result<GpuBuffer> {
        if bytes > limit {
            return Err(Error::LimitExceeded { what: label.to_owned(), needed: bytes, available: limit });
        }
        let lease = Lease::take(&self.inner.budget, bytes, label)?;
        let descriptor =
            wgpu::BufferDescriptor { label: Some(label), size: bytes, usage, mapped_at_creation: false };
        let raw = self.scope(label, bytes, || self.device().create_buffer(&descriptor))?;
        Ok(GpuBuffer { raw, label: label.to_owned(), _lease: lease })
    }
}
