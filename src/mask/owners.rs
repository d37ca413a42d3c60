//! Task ownership of elements, as in PackNet.

use super::Mask;
use crate::error::{Error, Result};
use crate::host_memory;

/// The task that owns each element of a tensor shared by several tasks; 0 means that the element is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners(Vec<u16>);

impl Owners {
    /// Creates the owners of a tensor of `len` elements, all free.
    ///
    /// # Errors
    /// [`Error::HostMemory`] if there is not enough host memory.
    pub fn new(len: usize) -> Result<Self> {
        let mut owners = host_memory::reserve(len, "Owners::new")?;
        owners.resize(len, 0);
        Ok(Owners(owners))
    }

    /// Assigns the frozen elements of `mask` to a task.
    ///
    /// # Errors
    /// In case of an error, nothing is assigned.
    /// - [`Error::MaskMismatch`] if `mask` has another length;
    /// - [`Error::InvalidArgument`] if `task` is 0, or another task owns one of the elements.
    pub fn claim(&mut self, mask: &Mask, task: u16) -> Result<()> {
        if mask.len() != self.0.len() {
            let path = "Owners::claim".to_owned();
            return Err(Error::MaskMismatch { path, expected: self.0.len(), got: mask.len() });
        }
        if task == 0 {
            return Err(Error::argument("Owners::claim", "a task from 1 (0 is free)", task));
        }
        if let Some(owned) = mask.frozen_indices().find(|&i| self.0[i] != 0 && self.0[i] != task) {
            let got = format!("element {owned} of task {}", self.0[owned]);
            return Err(Error::argument("Owners::claim", "free elements", got));
        }
        mask.frozen_indices().for_each(|i| self.0[i] = task);
        Ok(())
    }

    /// Returns the task that owns an element, or 0 if the element is free or the index is beyond the end.
    pub fn owner(&self, index: usize) -> u16 {
        self.0.get(index).copied().unwrap_or(0)
    }

    /// Returns the mask of the elements that a task owns; for task 0, of the free elements.
    pub fn mask_of(&self, task: u16) -> Mask {
        Mask::from_frozen(self.0.iter().map(|&owner| owner == task))
    }

    /// Returns the mask of the elements to freeze while a task trains: those that other tasks own. Free
    /// elements and the task's own elements remain trainable.
    pub fn frozen_for(&self, task: u16) -> Mask {
        Mask::from_frozen(self.0.iter().map(|&owner| owner != 0 && owner != task))
    }
}
