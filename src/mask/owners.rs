//! Which task owns each element of a tensor that several tasks share.

use super::Mask;
use crate::error::{Error, Result};

/// The owner of each element of one tensor: a task's number, 0 = free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners(Vec<u16>);

impl Owners {
    /// All elements free.
    pub fn new(len: usize) -> Self {
        Owners(vec![0; len])
    }

    /// Gives the elements that `mask` marks to a task.
    ///
    /// # Errors
    /// [`Error::MaskMismatch`]; [`Error::InvalidArgument`] for task 0 and if another task owns one of them: nothing
    /// was claimed then.
    pub fn claim(&mut self, mask: &Mask, task: u16) -> Result<()> {
        if mask.len() != self.0.len() {
            let path = "Owners::claim".to_owned();
            return Err(Error::MaskMismatch { path, expected: self.0.len(), got: mask.len() });
        }
        if task == 0 {
            return Err(Error::argument("Owners::claim", "a task from 1 (0 is free)", task));
        }
        if let Some(taken) = mask.frozen_indices().find(|&i| self.0[i] != 0 && self.0[i] != task) {
            let got = format!("element {taken} of task {}", self.0[taken]);
            return Err(Error::argument("Owners::claim", "free elements", got));
        }
        mask.frozen_indices().for_each(|i| self.0[i] = task);
        Ok(())
    }

    /// The owner of an element: 0 if it is free or beyond the end.
    pub fn owner(&self, index: usize) -> u16 {
        self.0.get(index).copied().unwrap_or(0)
    }

    /// Marks what a task owns; the free elements for task 0.
    pub fn mask_of(&self, task: u16) -> Mask {
        Mask::from_frozen(self.0.iter().map(|&owner| owner == task))
    }

    /// What must be frozen while a task trains: everything of other tasks. Free elements and its own are trainable.
    pub fn frozen_for(&self, task: u16) -> Mask {
        Mask::from_frozen(self.0.iter().map(|&owner| owner != 0 && owner != task))
    }
}
