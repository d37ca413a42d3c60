//! Ranks that exchange data by MPI.

use super::Job;
use frazil::ranks::Ranks;
use frazil::{Error, Result};
use mpi::datatype::{Partition, PartitionMut};
use mpi::environment::Universe;
use mpi::topology::SimpleCommunicator;
use mpi::traits::*;
use mpi::{Count, Threading};
use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// All processes of the job.
pub struct Mpi {
    world: SimpleCommunicator,
    local_rank: usize,
    limit: Duration,
    sent: Cell<u64>,
    /// Number of exchanges so far.
    round: Cell<u64>,
    state: RefCell<State>,
    watchdog: Watchdog,
    /// Ends MPI when it is dropped.
    _universe: Universe,
}

enum State {
    Going,
    /// The ranks have told each other that they end, or that one has failed.
    Ended(Vec<u64>),
    /// A rank did not answer: MPI is still waiting for it.
    Lost(String),
}

/// What a rank tells the others before it exchanges data with them.
const GOES_ON: u64 = 0;

/// Tag of the messages that tell rank 0 in which exchange another rank is waiting, and the time after which these are
/// sent, so that rank 0 can name a rank that does not answer.
const WAITING: i32 = 1;
const LONG: Duration = Duration::from_secs(1);

impl Mpi {
    pub fn start(limit: Duration) -> Result<Self> {
        let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled) else {
            return Err(Error::InvalidArgument {
                at: "mpirun".to_owned(),
                expected: "an MPI library that starts".to_owned(),
                got: "one that has been started before".to_owned(),
            });
        };
        let world = universe.world();
        let local = world.split_shared(world.rank());
        Ok(Mpi {
            local_rank: index(local.rank()),
            world,
            limit,
            sent: Cell::new(0),
            round: Cell::new(0),
            state: RefCell::new(State::Going),
            watchdog: Watchdog::start(limit),
            _universe: universe,
        })
    }

    /// Waits until all ranks have arrived at this exchange, and returns what each says. Only then are data exchanged:
    /// MPI's own calls neither have a time limit nor can be cancelled.
    fn meet(&self, status: u64, limit: Option<Duration>) -> Result<Vec<u64>> {
        let begun = Instant::now();
        let round = self.round.get() + 1;
        self.round.set(round);
        let mut barrier = self.world.immediate_barrier();
        let (mut polls, mut told) = (0, self.rank() == 0);
        while let Err(pending) = barrier.test() {
            barrier = pending;
            if !told && begun.elapsed() >= LONG.min(self.limit / 2) {
                told = true;
                self.world.process_at_rank(0).send_with_tag(&round, WAITING);
            }
            if limit.is_some_and(|limit| begun.elapsed() >= limit) {
                // It can be neither cancelled nor completed.
                std::mem::forget(barrier);
                return Err(self.lose());
            }
            polls += 1;
            // Ranks may share their processors: spin for about a millisecond only.
            if polls < 200 {
                std::thread::yield_now();
            } else {
                std::thread::sleep(Duration::from_micros(if polls < 2000 { 50 } else { 1000 }));
            }
        }
        let mut all = vec![0; self.count()];
        self.watchdog.during(|| self.world.all_gather_into(&status, &mut all[..]));
        self.count_sent(size_of::<u64>() * (self.count() - 1));
        Ok(all)
    }

    /// [`Mpi::meet`] before an exchange.
    fn arrive(&self) -> Result<()> {
        let stopped = |all: &[u64]| {
            let rank = all.iter().position(|status| *status != GOES_ON).unwrap_or(0);
            Error::Ranks { rank, why: "it has stopped; see its message".to_owned() }
        };
        match &*self.state.borrow() {
            State::Going => {}
            State::Ended(all) => return Err(stopped(all)),
            State::Lost(why) => return Err(Error::Ranks { rank: self.rank(), why: why.clone() }),
        }
        let all = self.meet(GOES_ON, Some(self.limit))?;
        if all.iter().all(|status| *status == GOES_ON) {
            return Ok(());
        }
        let error = stopped(&all);
        self.state.replace(State::Ended(all));
        Err(error)
    }

    /// Records that a rank does not answer, and finds out which.
    fn lose(&self) -> Error {
        let limit = self.limit;
        let advice = "--rank-timeout; continue from the last checkpoint with --resume";
        let waiting = self.waiting();
        let mut absent = Vec::new();
        if self.rank() == 0 {
            absent = (1..self.count()).filter(|&rank| waiting[rank] != self.round.get()).collect();
        }
        let (rank, who) = match absent[..] {
            [] => (self.rank(), "other ranks did".to_owned()),
            [rank] => (rank, "did".to_owned()),
            [rank, ..] => (rank, format!("and ranks {:?} did", &absent[1..])),
        };
        let why = format!("{who} not answer within {limit:?} ({advice})");
        self.state.replace(State::Lost(why.clone()));
        Error::Ranks { rank, why }
    }

    /// Receives the messages of waiting ranks; returns the last exchange in which each has waited long.
    fn waiting(&self) -> Vec<u64> {
        let mut rounds = vec![0; self.count()];
        for (rank, round) in rounds.iter_mut().enumerate().skip(1).filter(|_| self.rank() == 0) {
            let process = self.world.process_at_rank(count(rank));
            while process.immediate_probe_with_tag(WAITING).is_some() {
                *round = process.receive_with_tag(WAITING).0;
            }
        }
        rounds
    }

    fn count_sent(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
    }

    /// The lengths of parts, and where each begins, as MPI takes them.
    fn parts(&self, lengths: &[usize]) -> Result<(Vec<Count>, Vec<Count>)> {
        let mut begin = 0usize;
        let mut parts = (Vec::new(), Vec::new());
        for &length in lengths {
            let (Ok(length), Ok(first)) = (Count::try_from(length), Count::try_from(begin)) else {
                let why = format!(
                    "expected less than 2^31 values in an exchange of MPI, got {}",
                    lengths.iter().sum::<usize>()
                );
                return Err(Error::Ranks { rank: self.rank(), why });
            };
            parts.0.push(length);
            parts.1.push(first);
            begin += length as usize;
        }
        Ok(parts)
    }
}

/// Ends the process if a rank stops in the middle of an exchange, which its call of MPI never returns from.
struct Watchdog(Arc<Mutex<Option<Instant>>>);

impl Watchdog {
    fn start(limit: Duration) -> Self {
        let begun = Arc::new(Mutex::new(None::<Instant>));
        let watched = Arc::clone(&begun);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(250));
                let begun = *watched.lock().unwrap_or_else(PoisonError::into_inner);
                if begun.is_some_and(|begun| begun.elapsed() > limit) {
                    let why = "a rank stopped in the middle of an exchange and did not answer within";
                    let advice = "--rank-timeout; continue from the last checkpoint with --resume";
                    crate::output::failure(format_args!("{why} {limit:?} ({advice})"));
                    // MPI's launcher then ends the other processes.
                    std::process::exit(1);
                }
            }
        });
        Watchdog(begun)
    }

    fn during<T>(&self, exchange: impl FnOnce() -> T) -> T {
        let set = |begun| *self.0.lock().unwrap_or_else(PoisonError::into_inner) = begun;
        set(Some(Instant::now()));
        let result = exchange();
        set(None);
        result
    }
}

impl Ranks for Mpi {
    fn rank(&self) -> usize {
        index(self.world.rank())
    }

    fn count(&self) -> usize {
        index(self.world.size())
    }

    fn all_to_all(&self, values: &[f32], lengths: &[usize]) -> Result<Vec<f32>> {
        let own = lengths[self.rank()];
        let (counts, begins) = self.parts(lengths)?;
        let (own_counts, own_begins) = self.parts(&vec![own; self.count()])?;
        self.arrive()?;
        let mut received = vec![0.0; own * self.count()];
        let send = Partition::new(values, counts, begins);
        let mut into = PartitionMut::new(&mut received[..], own_counts, own_begins);
        self.watchdog.during(|| self.world.all_to_all_varcount_into(&send, &mut into));
        self.count_sent(size_of::<f32>() * (values.len() - own));
        Ok(received)
    }

    fn all_gather(&self, part: &[f32], lengths: &[usize]) -> Result<Vec<f32>> {
        let (counts, begins) = self.parts(lengths)?;
        self.arrive()?;
        let mut all = vec![0.0; lengths.iter().sum()];
        let mut into = PartitionMut::new(&mut all[..], counts, begins);
        self.watchdog.during(|| self.world.all_gather_varcount_into(part, &mut into));
        self.count_sent(size_of_val(part) * (self.count() - 1));
        Ok(all)
    }

    fn all_gather_words(&self, words: &[u64]) -> Result<Vec<Vec<u64>>> {
        self.arrive()?;
        let mut all = vec![0; words.len() * self.count()];
        self.watchdog.during(|| self.world.all_gather_into(words, &mut all[..]));
        self.count_sent(size_of_val(words) * (self.count() - 1));
        let list = |rank: usize| all[rank * words.len()..][..words.len()].to_vec();
        Ok((0..self.count()).map(list).collect())
    }
}

impl Job for Mpi {
    fn local_rank(&self) -> usize {
        self.local_rank
    }

    fn sent(&self) -> u64 {
        self.sent.get()
    }

    fn leave(&self, status: u64) -> Option<Vec<u64>> {
        match &*self.state.borrow() {
            State::Going => {}
            State::Ended(all) => return Some(all.clone()),
            State::Lost(_) => return None,
        }
        // No limit: rank 0 evaluates and saves at the end, and MPI's launcher ends all ranks if it dies.
        let all = self.meet(status, None).ok();
        self.waiting();
        all
    }

    fn abort(&self, code: u8) -> ! {
        self.world.abort(code.into())
    }
}

/// MPI numbers ranks and values with 32-bit integers that are not negative.
fn index(number: i32) -> usize {
    usize::try_from(number).unwrap_or(0)
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
