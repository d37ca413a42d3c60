//! Task ownership of elements, as in PackNet.

use super::Mask;
use crate::error::{Error, Result};

/// Task that owns each element of a tensor shared by several tasks; 0 = free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners(Vec<u16>);

impl Owners {
    /// Creates owners of `len` elements, all free.
    pub fn new(len: usize) -> Self {
        Owners(vec![0; len])
    }

    /// Assigns the frozen elements of `mask` to a task.
    ///
    /// # Errors
    /// Nothing is assigned then.
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

    /// Task that owns an element; 0 if it is free, or beyond the end.
    pub fn owner(&self, index: usize) -> u16 {
        self.0.get(index).copied().unwrap_or(0)
    }

    /// Mask of the elements that a task owns; for task 0, mask of the free elements.
    pub fn mask_of(&self, task: u16) -> Mask {
        Mask::from_frozen(self.0.iter().map(|&owner| owner == task))
    }

    /// Mask of the elements to freeze while a task trains: the elements of all other tasks. Free elements and
    /// the task's own elements remain trainable.
    pub fn frozen_for(&self, task: u16) -> Mask {
        Mask::from_frozen(self.0.iter().map(|&owner| owner != 0 && owner != task))
    }
}
