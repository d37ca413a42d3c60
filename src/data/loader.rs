//! Batches that worker threads read ahead.

use super::{Batch, Examples};
use crate::error::{Error, Result};
use crate::host_memory;
use crate::rng::{Purpose, Stream};
use std::collections::VecDeque;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Features that a worker reads at a time, so that small examples are not locked for one by one.
const CHUNK: usize = 1 << 14;

/// Makes batches of [`Examples`], which worker threads read ahead while the device computes. Neither the number of
/// threads nor their timing has an influence on the batches.
///
/// ```
/// use frazil::data::Loader;
/// use frazil::{Digits, Gpu, GpuOptions, Loss, Model, Sgd, Trainer, TrainerOptions};
///
/// let (train, test) = (Loader::new(Digits::train()?), Loader::new(Digits::test()?));
/// let gpu = Gpu::new(GpuOptions::default())?;
/// let options = TrainerOptions::batch(64);
/// let mut trainer = Trainer::new(&gpu, Model::digits()?, Loss::SoftmaxCrossEntropy, Sgd::new(0.1), options)?;
/// for batch in train.batches_for_epoch(64, 7, 0)? {
///     trainer.step(&batch?)?;
/// }
/// println!("{}", trainer.evaluate_over(&test)?);
/// # Ok::<(), frazil::Error>(())
/// ```
#[derive(Clone)]
pub struct Loader {
    examples: Arc<dyn Examples>,
    workers: usize,
}

impl Loader {
    /// A loader with a worker thread for each processor. Examples that are needed elsewhere, too, are given as an
    /// [`Arc`].
    pub fn new(examples: impl Examples + 'static) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        Loader { examples: Arc::new(examples), workers }
    }

    /// Sets the number of worker threads; 0 means 1.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }

    /// The examples.
    pub fn examples(&self) -> &dyn Examples {
        &*self.examples
    }

    /// Iterates over all examples once, in batches of `batch` rows, shuffled by `seed` and `epoch` in the order of
    /// [`Dataset::batches_for_epoch`](super::Dataset::batches_for_epoch); the last batch may be short.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`] if `batch` is 0; [`Error::HostMemory`].
    pub fn batches_for_epoch(&self, batch: usize, seed: u64, epoch: u64) -> Result<LoadedBatches> {
        let mut order = host_memory::reserve(self.examples.len(), self.examples.name())?;
        order.extend(0..self.examples.len());
        Stream::new(seed, Purpose::Shuffle, epoch).shuffle(&mut order);
        self.load(batch, epoch, Some(order))
    }

    /// Iterates over all examples once, in batches of `batch` rows, in their order and as in epoch 0; the last batch
    /// may be short. For evaluation.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`] if `batch` is 0.
    pub fn in_order(&self, batch: usize) -> Result<LoadedBatches> {
        self.load(batch, 0, None)
    }

    fn load(&self, batch: usize, epoch: u64, order: Option<Vec<usize>>) -> Result<LoadedBatches> {
        if batch == 0 {
            return Err(Error::EmptyBatch { at: format!("batches of {}", self.examples.name()) });
        }
        let examples = Arc::clone(&self.examples);
        let feature_len = examples.example_shape().iter().product::<usize>();
        let target_len = examples.target_shape().map_or(0, |shape| shape.iter().product());
        let rows = examples.len();
        let batch = batch.min(rows.max(1));
        let chunk = (CHUNK / feature_len.max(1)).clamp(1, batch);
        // All workers have work while one batch is taken and another is filled.
        let ahead = 2 + self.workers.saturating_mul(chunk) / batch;
        let job = Job { examples, order, epoch, rows, batch, chunk, ahead, feature_len, target_len };
        let queue = Queue { job, state: Mutex::default(), filled: Condvar::new(), taken: Condvar::new() };
        let workers = self.workers.min(rows.div_ceil(chunk));
        Ok(LoadedBatches { queue: Arc::new(queue), workers, threads: Vec::new(), waited: Duration::ZERO })
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, workers) = (self.examples.name(), self.workers);
        f.debug_struct("Loader").field("examples", &name).field("workers", &workers).finish()
    }
}

/// What the workers of an epoch read.
struct Job {
    examples: Arc<dyn Examples>,
    /// Numbers of the examples in the order of the epoch; `None` for that of the examples.
    order: Option<Vec<usize>>,
    epoch: u64,
    rows: usize,
    batch: usize,
    /// Examples that a worker reads at a time.
    chunk: usize,
    /// Batches that may be in memory besides that of the caller.
    ahead: usize,
    feature_len: usize,
    target_len: usize,
}

/// The batches between the workers and the caller.
struct Queue {
    job: Job,
    state: Mutex<State>,
    /// The first batch was filled, or a worker panicked.
    filled: Condvar,
    /// A batch was taken, or the iterator is dropped.
    taken: Condvar,
}

#[derive(Default)]
struct State {
    /// Position in the order of the next example to read.
    next: usize,
    /// Number of the batch that is taken next, the first one of `open`.
    first: usize,
    open: VecDeque<Open>,
    stopped: bool,
    panicked: bool,
}

/// A batch that is being filled.
struct Open {
    batch: Batch,
    /// Whether each row has an example.
    kept: Vec<bool>,
    /// Number of rows that are not read yet.
    missing: usize,
    /// The error of the first row that has one.
    error: Option<(usize, Error)>,
}

impl Job {
    fn batches(&self) -> usize {
        self.rows.div_ceil(self.batch)
    }

    fn rows_of(&self, number: usize) -> usize {
        self.batch.min(self.rows.saturating_sub(number * self.batch))
    }

    /// A batch of zeros; one with an error if there is not enough memory.
    fn open(&self, number: usize) -> Open {
        let rows = self.rows_of(number);
        let zeros = |len: usize| -> Result<Vec<f32>> {
            let mut zeros = host_memory::reserve(rows.saturating_mul(len), self.examples.name())?;
            zeros.resize(rows.saturating_mul(len), 0.0);
            Ok(zeros)
        };
        let index = |row| self.order.as_ref().map_or(row, |order| order[row]);
        let first = number * self.batch;
        let labels = (first..first + rows).map(|row| self.examples.labels()[index(row)]).collect();
        let (mut batch, mut error) = (Batch::default(), None);
        match zeros(self.feature_len).and_then(|features| Ok((features, zeros(self.target_len)?))) {
            Ok((features, targets)) => batch = Batch { features, labels, targets },
            Err(none) => error = Some((0, none)),
        }
        Open { batch, kept: vec![false; rows], missing: rows, error }
    }
}

impl Queue {
    /// A worker that panics does so outside of the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, on: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        on.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads chunks until all are read or the iterator is dropped.
    fn work(&self) {
        let job = &self.job;
        let _guard = Guard(self);
        let mut features = vec![0.0; job.chunk * job.feature_len];
        let mut targets = vec![0.0; job.chunk * job.target_len];
        let mut read = Vec::new();
        loop {
            let mut state = self.lock();
            while !state.stopped && state.next < job.rows && state.next / job.batch >= state.first + job.ahead
            {
                state = self.wait(&self.taken, state);
            }
            if state.stopped || state.next >= job.rows {
                return;
            }
            let position = state.next;
            let (number, row) = (position / job.batch, position % job.batch);
            let count = job.chunk.min(job.rows_of(number) - row);
            state.next += count;
            while state.first + state.open.len() <= number {
                let open = job.open(state.first + state.open.len());
                state.open.push_back(open);
            }
            drop(state);
            read.clear();
            for (offset, position) in (position..position + count).enumerate() {
                let index = job.order.as_ref().map_or(position, |order| order[position]);
                let features = &mut features[offset * job.feature_len..][..job.feature_len];
                let targets = &mut targets[offset * job.target_len..][..job.target_len];
                read.push(job.examples.read(index, job.epoch, features, targets));
            }
            let mut state = self.lock();
            let first = state.first;
            let Some(open) = number.checked_sub(first).and_then(|place| state.open.get_mut(place)) else {
                return;
            };
            if !open.batch.labels.is_empty() {
                let (at, len) = (row * job.feature_len, count * job.feature_len);
                open.batch.features[at..at + len].copy_from_slice(&features[..len]);
                let (at, len) = (row * job.target_len, count * job.target_len);
                open.batch.targets[at..at + len].copy_from_slice(&targets[..len]);
            }
            for (row, read) in (row..).zip(read.drain(..)) {
                match read {
                    Ok(kept) => open.kept[row] = kept,
                    Err(error) if open.error.as_ref().is_none_or(|(other, _)| row < *other) => {
                        open.error = Some((row, error));
                    }
                    Err(_) => {}
                }
            }
            open.missing -= count;
            if open.missing == 0 && number == first {
                self.filled.notify_all();
            }
        }
    }
}

/// Tells the caller if a worker panics.
struct Guard<'a>(&'a Queue);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lock().panicked = true;
            self.0.filled.notify_all();
        }
    }
}

/// Iterator over the batches of one epoch of a [`Loader`], in order. The threads begin to read at the first call of
/// `next`, or of [`LoadedBatches::begun`].
///
/// A batch has fewer rows, possibly none, if [`Examples::read`] leaves examples out. The first error ends the
/// iteration. A panic of [`Examples::read`] is resumed by `next`.
pub struct LoadedBatches {
    queue: Arc<Queue>,
    /// Number of threads to start.
    workers: usize,
    threads: Vec<JoinHandle<()>>,
    waited: Duration,
}

impl LoadedBatches {
    /// Time that `next` has waited for batches. If it is a large part of the time of training, reading the examples
    /// takes longer than training on them.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Begins to read, before the first call of `next`: the first batches of an epoch are there when it begins if they
    /// are read during the evaluation before it.
    ///
    /// # Errors
    /// [`Error::Io`] if the system starts no thread.
    pub fn begun(mut self) -> Result<Self> {
        if self.threads.is_empty() {
            self.start()?;
        }
        Ok(self)
    }

    /// Begins with the batch of this number, as to resume an epoch, if no thread reads yet. The batches before it are
    /// not read.
    pub fn starting_at(self, batch: usize) -> Self {
        let (job, mut state) = (&self.queue.job, self.queue.lock());
        if self.threads.is_empty() {
            state.first = batch.min(job.batches());
            state.next = (state.first * job.batch).min(job.rows);
        }
        drop(state);
        self
    }

    /// Keeps only the batches of one of several ranks, if `next` was not called yet: of each `ranks * each` batches,
    /// counted from the one that is next, the `rank`-th `each`, as [`Trainer::step_on`](crate::Trainer::step_on) takes
    /// them. The batches of other ranks are not read.
    ///
    /// # Errors
    /// [`Error::HostMemory`] if there is not enough memory for the order of the examples.
    pub fn for_rank(mut self, rank: usize, ranks: usize, each: usize) -> Result<Self> {
        if ranks > 1
            && self.threads.is_empty()
            && let Some(Queue { job, state, .. }) = Arc::get_mut(&mut self.queue)
        {
            let state = state.get_mut().unwrap_or_else(PoisonError::into_inner);
            let mut order = match job.order.take() {
                Some(order) => order,
                None => {
                    let mut order = host_memory::reserve(job.rows, job.examples.name())?;
                    order.extend(0..job.rows);
                    order
                }
            };
            order.drain(..state.next);
            let mut position = 0..;
            let owner = |position: usize| position / job.batch / each.max(1) % ranks;
            order.retain(|_| position.next().map(owner) == Some(rank));
            (job.rows, job.order) = (order.len(), Some(order));
            (state.first, state.next) = (0, 0);
        }
        Ok(self)
    }

    fn start(&mut self) -> Result<()> {
        for number in 0..self.workers {
            let queue = Arc::clone(&self.queue);
            let name = format!("frazil-data-{number}");
            match std::thread::Builder::new().name(name).spawn(move || queue.work()) {
                Ok(thread) => self.threads.push(thread),
                // Fewer threads are enough.
                Err(_) if number > 0 => break,
                Err(source) => return Err(Error::Io { path: "a thread that reads data".into(), source }),
            }
        }
        Ok(())
    }

    fn end(&mut self) {
        let mut state = self.queue.lock();
        state.stopped = true;
        state.first = self.queue.job.batches();
        state.open.clear();
        drop(state);
        self.queue.taken.notify_all();
    }

    fn take(&mut self) -> Option<Result<Batch>> {
        if self.threads.is_empty()
            && let Err(error) = self.start()
        {
            self.end();
            return Some(Err(error));
        }
        let begun = Instant::now();
        let mut state = self.queue.lock();
        while !state.panicked && state.open.front().is_none_or(|open| open.missing > 0) {
            state = self.queue.wait(&self.queue.filled, state);
        }
        let open = if state.panicked { None } else { state.open.pop_front() };
        state.first += usize::from(open.is_some());
        drop(state);
        self.waited += begun.elapsed();
        self.queue.taken.notify_all();
        let Some(Open { batch, kept, error, .. }) = open else {
            self.end();
            for thread in self.threads.drain(..) {
                if let Err(panic) = thread.join() {
                    std::panic::resume_unwind(panic);
                }
            }
            return None;
        };
        if let Some((_, error)) = error {
            self.end();
            return Some(Err(error));
        }
        Some(Ok(if kept.contains(&false) { batch.rows_where(|row| kept[row]) } else { batch }))
    }
}

impl Iterator for LoadedBatches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.len() == 0 { None } else { self.take() }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.queue.job.batches() - self.queue.lock().first;
        (left, Some(left))
    }
}

impl ExactSizeIterator for LoadedBatches {}
impl FusedIterator for LoadedBatches {}

impl Drop for LoadedBatches {
    fn drop(&mut self) {
        self.end();
        for thread in self.threads.drain(..) {
            // A panic that the caller did not see has been printed.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for LoadedBatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedBatches").field("left", &self.len()).finish_non_exhaustive()
    }
}
