//! Processes that train one model together, each on a part of every batch.

use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The processes (ranks, as in MPI) that train one model together, seen by one of them. All ranks make the same calls
/// in the same order; a call returns when the data of all ranks have arrived. Implement it for a message-passing
/// library; [`threads`] connects threads of one process.
pub trait Ranks {
    /// The number of this rank, from 0.
    fn rank(&self) -> usize;

    /// The number of ranks, 1 or more.
    fn count(&self) -> usize;

    /// Sends to rank `r` the `r`-th of the adjacent parts of `values`, which have these lengths, and returns what all
    /// ranks sent to this one, one after another in the order of the ranks. `lengths` is equal on all ranks.
    ///
    /// # Errors
    /// [`Error::Ranks`] if a rank does not answer.
    fn all_to_all(&self, values: &[f32], lengths: &[usize]) -> Result<Vec<f32>>;

    /// Returns the parts of all ranks one after another, in the order of the ranks; `lengths[r]` is the length of that
    /// of rank `r`.
    ///
    /// # Errors
    /// [`Error::Ranks`] if a rank does not answer.
    fn all_gather(&self, part: &[f32], lengths: &[usize]) -> Result<Vec<f32>>;

    /// Returns the words of all ranks, one list for each rank; all have the same length.
    ///
    /// # Errors
    /// [`Error::Ranks`] if a rank does not answer.
    fn all_gather_words(&self, words: &[u64]) -> Result<Vec<Vec<u64>>>;
}

/// Replaces `values` by the sums over the ranks that `counted` names, added in the order of the ranks, so that the bits
/// do not depend on the time at which data arrive. `values` has the same length on all ranks, and each rank gets the
/// same bits. Each rank sends and receives about two times `values`, as in a ring.
///
/// # Errors
/// Those of [`Ranks`].
pub(crate) fn sum(ranks: &dyn Ranks, counted: &[bool], values: &mut Vec<f32>) -> Result<()> {
    let count = ranks.count();
    let bound = |rank: usize| values.len() * rank / count;
    let lengths: Vec<_> = (0..count).map(|rank| bound(rank + 1) - bound(rank)).collect();
    let received = ranks.all_to_all(values, &lengths)?;
    let own = lengths.get(ranks.rank()).copied().unwrap_or(0);
    let mut parts = received.chunks_exact(own.max(1)).zip(counted).filter(|(_, counted)| **counted);
    let mut sums = parts.next().map_or(vec![0.0; own], |(part, _)| part.to_vec());
    for (part, _) in parts {
        sums.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
    }
    *values = ranks.all_gather(&sums, &lengths)?;
    Ok(())
}

/// Returns the ranks of `count` threads of this process, one for each thread, for several devices in one process and
/// for tests. A call fails if another thread does not make the same call within `limit`.
///
/// ```
/// use frazil::ranks::{Ranks, threads};
/// use std::time::Duration;
///
/// let ranks = threads(3, Duration::from_secs(10));
/// std::thread::scope(|scope| {
///     for own in &ranks {
///         scope.spawn(move || {
///             let all = own.all_gather_words(&[own.rank() as u64]).unwrap();
///             assert_eq!(all, [[0], [1], [2]]);
///         });
///     }
/// });
/// ```
pub fn threads(count: usize, limit: Duration) -> Vec<ThreadRanks> {
    let count = count.max(1);
    let shared = Arc::new(Shared { rounds: Mutex::new(Rounds::new(count)), changed: Condvar::new() });
    (0..count).map(|rank| ThreadRanks { rank, count, limit, shared: Arc::clone(&shared) }).collect()
}

/// One of the ranks of [`threads`].
#[derive(Debug)]
pub struct ThreadRanks {
    rank: usize,
    count: usize,
    limit: Duration,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    rounds: Mutex<Rounds>,
    changed: Condvar,
}

/// The exchange in progress.
#[derive(Debug)]
struct Rounds {
    number: u64,
    /// What each rank sent; `None` before it has.
    sent: Vec<Option<Arc<Sent>>>,
    /// Number of ranks that have taken what was sent.
    taken: usize,
    /// Why the ranks can no longer exchange anything.
    failed: Option<String>,
}

#[derive(Debug)]
enum Sent {
    Values(Vec<f32>),
    Words(Vec<u64>),
}

impl Rounds {
    fn new(count: usize) -> Self {
        Rounds { number: 0, sent: vec![None; count], taken: 0, failed: None }
    }
}

impl ThreadRanks {
    /// Shows all ranks what this one sends, and returns what all ranks send.
    fn exchange(&self, own: Sent) -> Result<Vec<Arc<Sent>>> {
        let until = Instant::now() + self.limit;
        let mut rounds = self.shared.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        // The results of the exchange before may not have been taken by all.
        let number = rounds.number;
        while rounds.number == number && rounds.sent[self.rank].is_some() {
            rounds = self.wait(rounds, until)?;
        }
        let number = rounds.number;
        rounds.sent[self.rank] = Some(Arc::new(own));
        self.shared.changed.notify_all();
        while rounds.sent.iter().any(Option::is_none) {
            rounds = self.wait(rounds, until)?;
        }
        let all = rounds.sent.iter().flatten().cloned().collect();
        rounds.taken += 1;
        if rounds.taken == self.count {
            *rounds = Rounds { number: number + 1, ..Rounds::new(self.count) };
            self.shared.changed.notify_all();
        }
        Ok(all)
    }

    fn wait<'a>(
        &self,
        mut rounds: std::sync::MutexGuard<'a, Rounds>,
        until: Instant,
    ) -> Result<std::sync::MutexGuard<'a, Rounds>> {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() && rounds.failed.is_none() {
            let absent: Vec<_> = (0..self.count).filter(|&rank| rounds.sent[rank].is_none()).collect();
            rounds.failed = Some(format!("ranks {absent:?} did not answer within {:?}", self.limit));
            self.shared.changed.notify_all();
        }
        if let Some(why) = &rounds.failed {
            return Err(Error::Ranks { rank: self.rank, why: why.clone() });
        }
        let waited = self.shared.changed.wait_timeout(rounds, left);
        Ok(waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Sends values to all ranks, and returns of each rank's those that `own` selects.
    fn values(&self, values: &[f32], own: Range<usize>) -> Result<Vec<f32>> {
        let all = self.exchange(Sent::Values(values.to_vec()))?;
        let of = |sent: &Arc<Sent>| match &**sent {
            Sent::Values(values) => values.get(own.start..own.end.min(values.len())).unwrap_or(&[]).to_vec(),
            Sent::Words(_) => Vec::new(),
        };
        Ok(all.iter().flat_map(of).collect())
    }
}

impl Ranks for ThreadRanks {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.count
    }

    fn all_to_all(&self, values: &[f32], lengths: &[usize]) -> Result<Vec<f32>> {
        let begin: usize = lengths[..self.rank].iter().sum();
        self.values(values, begin..begin + lengths[self.rank])
    }

    fn all_gather(&self, part: &[f32], _: &[usize]) -> Result<Vec<f32>> {
        self.values(part, 0..usize::MAX)
    }

    fn all_gather_words(&self, words: &[u64]) -> Result<Vec<Vec<u64>>> {
        let of = |sent: &Arc<Sent>| match &**sent {
            Sent::Words(words) => words.clone(),
            Sent::Values(_) => Vec::new(),
        };
        Ok(self.exchange(Sent::Words(words.to_vec()))?.iter().map(of).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `each` on a thread for each rank, and returns the results in the order of the ranks.
    fn on_all<T: Send>(count: usize, each: impl Fn(&ThreadRanks) -> T + Sync) -> Vec<T> {
        let ranks = threads(count, Duration::from_secs(20));
        std::thread::scope(|scope| {
            let spawned: Vec<_> = ranks.iter().map(|own| scope.spawn(|| each(own))).collect();
            spawned.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn sums_have_the_bits_of_the_order_of_ranks_on_all_ranks() {
        for (count, len) in [(1, 5), (2, 7), (3, 3), (5, 1), (5, 0), (4, 1001)] {
            let value = |rank: usize, i: usize| {
                ((rank * 31 + i * 7) as f32 * 0.37).sin() * 1e3f32.powi(rank as i32 - 2)
            };
            let own = |rank: usize| -> Vec<f32> { (0..len).map(|i| value(rank, i)).collect() };
            for absent in [None, Some(0), Some(count - 1)] {
                let counted: Vec<_> = (0..count).map(|rank| Some(rank) != absent).collect();
                let mut expected: Option<Vec<f32>> = None;
                for rank in (0..count).filter(|&rank| counted[rank]) {
                    expected = Some(match expected {
                        None => own(rank),
                        Some(sums) => sums.iter().zip(own(rank)).map(|(sum, value)| sum + value).collect(),
                    });
                }
                let expected = expected.unwrap_or(vec![0.0; len]);
                let sums = on_all(count, |ranks| {
                    let mut values = own(ranks.rank());
                    sum(ranks, &counted, &mut values).unwrap();
                    values
                });
                for sums in sums {
                    let bits = |all: &[f32]| all.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&sums), bits(&expected), "{count} ranks, {len} values, {absent:?}");
                }
            }
        }
    }

    #[test]
    fn many_exchanges_keep_their_order() {
        on_all(3, |ranks| {
            for round in 0..200u64 {
                let all = ranks.all_gather_words(&[round, ranks.rank() as u64]).unwrap();
                assert_eq!(all, [[round, 0], [round, 1], [round, 2]]);
            }
        });
    }

    #[test]
    fn a_rank_that_does_not_answer_is_named_on_all_others() {
        let ranks = threads(3, Duration::from_millis(50));
        std::thread::scope(|scope| {
            for own in [&ranks[0], &ranks[2]] {
                scope.spawn(|| {
                    let error = own.all_gather_words(&[]).unwrap_err();
                    assert!(error.to_string().contains("[1] did not answer"), "{error}");
                });
            }
        });
    }
}
