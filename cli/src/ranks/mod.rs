//! The processes that train one model together (ranks), if MPI has started several.

#[cfg(feature = "mpi")]
mod mpi;

use crate::output::{self, message};
use crate::{Failure, usage};
use frazil::low_level::Digest;
use frazil::ranks::Ranks;
use frazil::{Error, Result};
use std::time::Duration;

/// What a rank tells the others at its end, if it has not failed; otherwise a larger word, of the failure's message.
const ENDED: u64 = 1;

/// Ranks of a job that MPI has started.
trait Job: Ranks {
    /// The number of this rank among those on its machine.
    fn local_rank(&self) -> usize;

    /// Bytes of data that this rank has sent to others.
    fn sent(&self) -> u64;

    /// Tells the other ranks that this one has ended, and how; waits for all of them, unless one has failed before.
    /// Returns what each rank said, or `None` if a rank does not answer any more.
    fn leave(&self, status: u64) -> Option<Vec<u64>>;

    /// Ends all ranks at once.
    fn abort(&self, code: u8) -> !;
}

/// The ranks of a run, as this process sees them.
pub struct Team {
    job: Option<Box<dyn Job>>,
}

/// The number of this process in the environment of MPI's launcher; 0 without one.
pub fn launched_rank() -> usize {
    let number = |name: &&str| std::env::var(name).ok()?.parse().ok();
    // Open MPI; MPICH, Intel MPI and MS-MPI; other launchers with PMIx.
    ["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"].iter().find_map(number).unwrap_or(0)
}

/// Whether MPI's launcher has started this process with others.
fn is_launched() -> bool {
    let count = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let counts = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].map(count);
    counts.into_iter().any(|count: usize| count > 1)
}

impl Team {
    /// Joins the other processes that MPI has started; a team of one if there are none. Each exchange of data fails
    /// if a rank does not take part within `limit`.
    pub fn join(limit: Duration) -> std::result::Result<Self, Failure> {
        if !is_launched() {
            return Ok(Team { job: None });
        }
        output::set_rank(launched_rank());
        Ok(Team { job: Some(usage(start(limit))?) })
    }

    /// The ranks, if there is more than one.
    pub fn several(&self) -> Option<&dyn Ranks> {
        let job: &dyn Ranks = self.job.as_deref()?;
        Some(job)
    }

    pub fn count(&self) -> usize {
        self.job.as_ref().map_or(1, |job| job.count())
    }

    pub fn rank(&self) -> usize {
        self.job.as_ref().map_or(0, |job| job.rank())
    }

    pub fn local_rank(&self) -> usize {
        self.job.as_ref().map_or(0, |job| job.local_rank())
    }

    /// Whether this is the rank that prints and saves.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// Bytes of data that this rank has sent to others.
    pub fn sent(&self) -> u64 {
        self.job.as_ref().map_or(0, |job| job.sent())
    }

    /// Returns for each rank what it gives.
    pub fn gather(&self, words: &[u64]) -> Result<Vec<Vec<u64>>> {
        match &self.job {
            Some(job) => job.all_gather_words(words),
            None => Ok(vec![words.to_vec()]),
        }
    }

    /// Checks that all ranks have the same values, which are pairs of a name and a value.
    ///
    /// # Errors
    /// [`Error::Ranks`] on all ranks, which names the first rank that differs from rank 0, and in what.
    pub fn check_same(&self, values: &[(&str, String)]) -> Result<()> {
        let digests: Vec<_> = values.iter().map(|(_, value)| digest(value)).collect();
        let all = self.gather(&digests)?;
        let Some(rank) = all.iter().position(|digests| *digests != all[0]) else { return Ok(()) };
        let place = all[rank].iter().zip(&all[0]).position(|(own, first)| own != first).unwrap_or(0);
        let (name, value) = &values[place];
        let own =
            if rank == self.rank() || self.leads() { format!(" (here {value})") } else { String::new() };
        let why = format!("{name} differs from that of rank 0{own}; start all ranks with the same");
        Err(Error::Ranks { rank, why })
    }

    /// Ends the work with the other ranks. Returns the result of this process, with a failure that another rank
    /// reports marked as such.
    pub fn leave(self, result: std::result::Result<(), Failure>) -> std::result::Result<(), Failure> {
        let Some(job) = &self.job else { return result };
        let status = match &result {
            Ok(()) => ENDED,
            Err(failure) => digest(&failure.message()).max(ENDED + 1),
        };
        let Some(all) = job.leave(status) else {
            // MPI cannot end in order without all ranks.
            let failure = result.err().unwrap_or(Failure::Stopped("a rank does not answer".to_owned()));
            if !self.leads() {
                // Rank 0 saves, reports and aborts; if it does not, it is the one that does not answer.
                std::thread::sleep(Duration::from_secs(15));
            }
            crate::report(&failure, false);
            job.abort(failure.exit_code());
        };
        match result {
            // What the ranks notice together, rank 0 reports.
            Err(failure) if !self.leads() && (all[0] == status || failure.is_of_another_rank()) => {
                Err(Failure::Elsewhere(failure.exit_code()))
            }
            Ok(()) if self.leads() && all.iter().any(|status| *status > ENDED) => {
                let failed: Vec<_> = (0..all.len()).filter(|&rank| all[rank] > ENDED).collect();
                message(format_args!("warning: ranks {failed:?} failed at the end"));
                Ok(())
            }
            other => other,
        }
    }
}

/// Joins the job.
#[cfg(feature = "mpi")]
fn start(limit: Duration) -> Result<Box<dyn Job>> {
    Ok(Box::new(mpi::Mpi::start(limit)?))
}

#[cfg(not(feature = "mpi"))]
fn start(_: Duration) -> Result<Box<dyn Job>> {
    Err(Error::InvalidArgument {
        at: "mpirun".to_owned(),
        expected: "a program that was built with MPI (cargo install --path cli --features mpi)".to_owned(),
        got: "one without, started as several processes".to_owned(),
    })
}

fn digest(text: &str) -> u64 {
    Digest::of(text.bytes().map(u32::from).enumerate()).value()
}
