//! Steps over the batches of several ranks (data-parallel training).

use super::{Metrics, Trainer};
use crate::compiler::ArenaId;
use crate::data::Batch;
use crate::digest::Fnv1a;
use crate::engine::{Arena, CompactElements, Elements};
use crate::error::{Error, Result};
use crate::graph::{Clip, ParameterId, ParameterKind, StepScalars};
use crate::ranks::{self, Ranks};
use std::sync::mpsc;

/// The elements that ranks exchange in a step.
pub(super) struct Exchanged {
    /// In the order in which the device computes them; at least one.
    parts: Vec<Part>,
    /// Trainable running statistics.
    statistics: CompactElements,
}

/// Gradients that are exchanged at once.
struct Part {
    /// Number of dispatches after which they are computed.
    end: usize,
    gradients: CompactElements,
}

/// The least number of gradients in each part but the last: 1 MiB. An exchange takes a few messages and a
/// submission more, some tenths of a millisecond.
const PART_ELEMENTS: usize = 1 << 18;

impl Exchanged {
    /// Returns a digest of the number of elements in each part.
    fn digest(&self) -> u64 {
        let mut fold = Fnv1a::default();
        let counts = self.parts.iter().map(|part| part.gradients.count());
        counts.chain([self.statistics.count()]).for_each(|count| fold.bytes(&(count as u64).to_le_bytes()));
        fold.value()
    }
}

impl Trainer {
    /// Trains one step over the batches of all ranks: as [`Trainer::step_over`] for all of them, in the order of the
    /// ranks, but each rank computes the gradients of its own. Then the ranks add their gradients, in this order, and
    /// each makes the same update. Needs [`TrainerOptions::accumulate`](crate::TrainerOptions::accumulate), and
    /// trainers that are equal on all ranks, see [`Trainer::check_ranks`]. Waits for the device.
    ///
    /// Only gradients of trainable elements are exchanged, 4 bytes each: with 90 % of the elements frozen, a tenth. The
    /// device collects them, with 12 bytes of memory for each, besides those of [`Trainer::report`]. They travel in parts
    /// of 1 MiB or more, while the device computes the gradients of the layers below.
    /// Clipping counts the sum. Dropout draws the numbers of the batches' places among all. With one batch on each
    /// rank, the update has the bits of [`Trainer::step_over`] on one rank, if the compiler does not contract its sum.
    ///
    /// A rank may have no batch, at the end of an epoch. Running statistics of batch norms become the mean over the
    /// ranks that have one. If the loss of a rank is not finite, no rank updates.
    ///
    /// # Errors
    /// As [`Trainer::step_over`], on all ranks if on one: [`Error::Ranks`] on the others; [`Error::EmptyBatch`] if no
    /// rank has an example.
    pub fn step_on(&mut self, ranks: &dyn Ranks, batches: &[Batch]) -> Result<()> {
        let exchanged = self.validate_on_rank(batches).and_then(|()| self.exchanged());
        let counted = self.counted(batches);
        let rows: usize = counted.iter().map(|batch| batch.rows()).sum();
        let parts = exchanged.as_ref().map_or(0, Exchanged::digest);
        let words = [exchanged.is_err().into(), counted.len() as u64, rows as u64, parts];
        let all = ranks.all_gather_words(&words)?;
        let mut exchanged = exchanged?;
        if let Some(rank) = all.iter().position(|words| words[0] != 0) {
            return Err(Error::Ranks { rank, why: "its batches are not valid".to_owned() });
        }
        if let Some(rank) = all.iter().position(|words| words[3] != all[0][3]) {
            return Err(Error::Ranks { rank, why: differs_from_the_first("which elements are frozen") });
        }
        let sum_of = |word: usize| all.iter().map(|words| words[word]).sum::<u64>();
        let (runs, total) = (sum_of(1), sum_of(2));
        if total == 0 {
            return Err(Error::EmptyBatch { at: "Trainer::step_on".to_owned() });
        }
        let before: u64 = all[..ranks.rank()].iter().map(|words| words[1]).sum();
        let has_rows: Vec<_> = all.iter().map(|words| words[2] > 0).collect();
        let mut last = None;
        for (number, batch) in counted.iter().enumerate() {
            let mut scalars = self.scalars(batch);
            scalars.draw = (self.draws + before + number as u64) as u32;
            scalars.share = (batch.rows() as f64 / total as f64) as f32;
            scalars.first = u32::from(number == 0);
            scalars.last = 0;
            if number + 1 < counted.len() {
                self.training.run(batch, scalars)?;
            } else {
                self.training.write(batch)?;
                last = Some(scalars);
            }
        }
        self.exchange(ranks, &has_rows, &mut exchanged, last)?;
        self.gpu.submit("distribute", |encoder| {
            exchanged.parts.iter().for_each(|part| part.gradients.distribute(encoder));
            exchanged.statistics.distribute(encoder);
        })?;
        self.exchanged = Some(exchanged);
        let mut scalars = self.optimizer.scalars(self.step, rows.clamp(1, self.options.batch));
        scalars.on_non_finite_continue = self.continues().into();
        self.training.plan.run_updates(scalars)?;
        self.draws += runs;
        self.count_step()
    }

    /// Runs the last batch of a rank if it has one, and adds the gradients of all ranks part by part, while the device
    /// computes the later parts.
    fn exchange(
        &self,
        ranks: &dyn Ranks,
        has_rows: &[bool],
        exchanged: &mut Exchanged,
        last: Option<StepScalars>,
    ) -> Result<()> {
        let Exchanged { parts, statistics } = exchanged;
        let count = parts.len();
        let plan = &self.training.plan;
        let (begun, all_begun) = mpsc::channel();
        let ends: Vec<_> = parts.iter().map(|part| part.end).collect();
        let mut parts = parts.iter_mut().map(|part| &mut part.gradients);
        let submit = move || {
            let Some(scalars) = last else {
                parts.for_each(|part| _ = begun.send(part));
                return Ok(());
            };
            plan.run_in_parts(scalars, &ends, |record| {
                let Some(part) = parts.next() else { return Ok(()) };
                part.begin(record)?;
                // It is not received after an error of the exchange, which is returned.
                _ = begun.send(part);
                Ok(())
            })
        };
        let exchange_all = || {
            for (number, part) in all_begun.into_iter().enumerate() {
                let statistics = (number + 1 == count).then_some(&mut *statistics);
                self.exchange_part(ranks, has_rows, part, statistics)?;
            }
            Ok(())
        };
        if count == 1 || cfg!(target_family = "wasm") {
            submit()?;
            return exchange_all();
        }
        // Mesa's software Vulkan lets a submission wait until the one before it has ended, so another thread submits.
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("frazil step".into()).spawn_scoped(scope, submit);
            let thread =
                thread.map_err(|source| Error::Io { path: "a thread that submits a step".into(), source })?;
            let exchanged = exchange_all();
            let submitted = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            submitted.and(exchanged)
        })
    }

    /// Adds a part of the gradients of all ranks; with the last one, also averages running statistics, and finds out
    /// whether a loss is not finite. The gradients of a rank without examples are left out.
    fn exchange_part(
        &self,
        ranks: &dyn Ranks,
        has_rows: &[bool],
        gradients: &mut CompactElements,
        statistics: Option<&mut CompactElements>,
    ) -> Result<()> {
        let own = has_rows[ranks.rank()];
        let mut values = Vec::with_capacity(gradients.count() + 1);
        match own {
            true => gradients.finish(&mut values)?,
            false => values.resize(gradients.count(), 0.0),
        }
        let Some(statistics) = statistics else {
            ranks::sum(ranks, has_rows, &mut values)?;
            return gradients.write(&values);
        };
        let share = 1.0 / has_rows.iter().filter(|has| **has).count().max(1) as f32;
        statistics.begin(&|_| ())?;
        statistics.finish(&mut values)?;
        values[gradients.count()..].iter_mut().for_each(|value| *value *= share);
        let stopped = own && self.training.plan.sums()?.non_finite_step.is_some();
        values.push(if stopped { 1.0 } else { 0.0 });
        ranks::sum(ranks, has_rows, &mut values)?;
        if values.pop().is_some_and(|flag| flag > 0.0) && !self.continues() {
            self.training.plan.set_non_finite(self.step as u32)?;
        }
        let (sums, means) = values.split_at(gradients.count());
        gradients.write(sums)?;
        statistics.write(means)
    }

    /// Takes or makes the elements that are exchanged: trainable elements, or all gradients if clipping counts all.
    fn exchanged(&mut self) -> Result<Exchanged> {
        if let Some(exchanged) = self.exchanged.take() {
            return Ok(exchanged);
        }
        let over_all = matches!(self.optimizer.clip_setting(), Some(Clip::Norm { over_all: true, .. }));
        let live = |id: ParameterId, over_all: bool| {
            let mask = &self.masks[id.index()];
            (0..mask.len()).filter(|&index| over_all || !mask.is_frozen(index)).collect::<Vec<_>>()
        };
        let plan = &self.training.plan;
        let part = |end, selected| -> Result<Part> {
            let gradients = CompactElements::new(&self.gpu, &self.store, ArenaId::Gradients, selected)?;
            Ok(Part { end, gradients })
        };
        let (mut parts, mut selected, mut count) = (Vec::new(), Vec::new(), 0);
        for &(id, end) in plan.accumulated() {
            let own = live(id, over_all);
            count += own.len();
            selected.push((id, own));
            if count >= PART_ELEMENTS {
                parts.push(part(end, std::mem::take(&mut selected))?);
                count = 0;
            }
        }
        parts.push(part(plan.before_updates(), selected)?);
        let statistics = self.model.parameters().iter().enumerate();
        let statistics = statistics.filter(|(_, parameter)| parameter.kind != ParameterKind::Trained);
        let statistics =
            statistics.map(|(number, _)| ParameterId::of(number)).map(|id| (id, live(id, false)));
        let statistics = CompactElements::new(&self.gpu, &self.store, ArenaId::Weights, statistics)?;
        Ok(Exchanged { parts, statistics })
    }

    fn validate_on_rank(&self, batches: &[Batch]) -> Result<()> {
        self.check_finite()?;
        if !self.options.accumulate {
            let expected = "a trainer with TrainerOptions::accumulate(true)";
            return Err(Error::argument("Trainer::step_on", expected, "one without"));
        }
        if batches.is_empty() {
            return Ok(());
        }
        self.validate_batches("Trainer::step_on", batches, self.model.example_shape())
    }

    /// Returns loss and accuracy over all steps since the last call, over the examples of all ranks. Waits for the
    /// device.
    ///
    /// # Errors
    /// As [`Trainer::metrics`]; [`Error::Ranks`].
    pub fn metrics_on(&mut self, ranks: &dyn Ranks) -> Result<Metrics> {
        self.discard_pending_reads()?;
        let mut sums = self.training.plan.sums()?;
        let words = [
            sums.loss.to_bits().into(),
            sums.correct.into(),
            sums.examples.into(),
            sums.weight.to_bits().into(),
        ];
        let all = ranks.all_gather_words(&words)?;
        let floats = |word: usize| all.iter().map(|words| f32::from_bits(words[word] as u32)).sum();
        let integers =
            |word: usize| all.iter().fold(0u32, |sum, words| sum.saturating_add(words[word] as u32));
        (sums.loss, sums.correct) = (floats(0), integers(1));
        (sums.examples, sums.weight) = (integers(2), floats(3));
        let metrics = self.metrics_of(&sums)?;
        self.training.plan.clear_sums()?;
        self.progress = None;
        Ok(metrics)
    }

    /// Checks that the trainers of all ranks are equal to the bit: model, optimizer, seed and batch size, step, masks,
    /// weights and optimizer state. Call it at the start, after changes of masks, and every few steps: adapters that
    /// round differently cannot make the same updates for long. Waits for the device.
    ///
    /// # Errors
    /// [`Error::Ranks`] on all ranks, which names the first rank that differs from rank 0, and in what.
    pub fn check_ranks(&self, ranks: &dyn Ranks) -> Result<()> {
        let parts = self.parts()?;
        let words: Vec<_> = parts.iter().map(|(_, digest)| *digest).collect();
        // Trainers of other models have other numbers of parts.
        let counts = ranks.all_gather_words(&[words.len() as u64, words.first().copied().unwrap_or(0)])?;
        let differs = |all: &[Vec<u64>]| all.iter().position(|other| *other != all[0]);
        if let Some(rank) = differs(&counts) {
            return Err(Error::Ranks { rank, why: differs_from_the_first("the model") });
        }
        let all = ranks.all_gather_words(&words)?;
        let Some(rank) = differs(&all) else { return Ok(()) };
        let part = all[rank].iter().zip(&all[0]).position(|(own, first)| own != first).unwrap_or(0);
        Err(Error::Ranks { rank, why: differs_from_the_first(&parts[part].0) })
    }

    /// Returns all that ranks have in common, each with a digest.
    fn parts(&self) -> Result<Vec<(String, u64)>> {
        let of = |text: &str| {
            let mut fold = Fnv1a::default();
            fold.bytes(text.as_bytes());
            fold.value()
        };
        let mut parts = vec![
            ("the model".to_owned(), of(&self.model.to_json())),
            ("the optimizer".to_owned(), of(&format!("{:?}", self.optimizer))),
            ("the loss".to_owned(), of(&format!("{:?}", self.loss))),
            ("the seed".to_owned(), self.options.seed),
            ("the step".to_owned(), self.step),
            ("the number of random draws".to_owned(), self.draws),
        ];
        for (parameter, mask) in self.model.parameters().iter().zip(&self.masks) {
            let mut fold = Fnv1a::default();
            mask.words().iter().for_each(|word| fold.bytes(&word.to_le_bytes()));
            parts.push((format!("the mask of {}", parameter.path), fold.value()));
        }
        let slots = self.store.slots().iter().enumerate().map(|(i, name)| (Arena::State(i), *name));
        for (arena, what) in std::iter::once((Arena::Weights, "weights")).chain(slots) {
            for (parameter, digest) in self.store.digests(arena, Elements::All)?.iter().enumerate() {
                let mut fold = Fnv1a::default();
                let path = &self.model.parameters()[parameter].path;
                fold.digest(path, what, digest);
                parts.push((format!("{what} of {path}"), fold.value()));
            }
        }
        Ok(parts)
    }
}

fn differs_from_the_first(what: &str) -> String {
    format!(
        "{what} differs from that of rank 0; start all ranks with the same arguments and files, on equal adapters"
    )
}
