//! Steps over the batches of several ranks (data-parallel training).

use super::{Metrics, Trainer};
use crate::data::Batch;
use crate::digest::Fnv1a;
use crate::engine::{Arena, CompactGradients, Elements};
use crate::error::{Error, Result};
use crate::graph::{Clip, ParameterId, ParameterKind};
use crate::ranks::{self, Ranks};

impl Trainer {
    /// Trains one step over the batches of all ranks: as [`Trainer::step_over`] for all of them, in the order of the
    /// ranks, but each rank computes the gradients of its own. Then the ranks add their gradients, in this order, and
    /// each makes the same update. Needs [`TrainerOptions::accumulate`](crate::TrainerOptions::accumulate), and
    /// trainers that are equal on all ranks, see [`Trainer::check_ranks`]. Waits for the device.
    ///
    /// Only gradients of trainable elements are exchanged, 4 bytes each: with 90 % of the elements frozen, a tenth. The
    /// device collects them, with 8 bytes of device memory for each, besides those of [`Trainer::report`].
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
        let valid = self.validate_on_rank(batches).and_then(|()| self.select_exchanged());
        let counted = self.counted(batches);
        let rows: usize = counted.iter().map(|batch| batch.rows()).sum();
        let all = ranks.all_gather_words(&[valid.is_err().into(), counted.len() as u64, rows as u64])?;
        valid?;
        if let Some(rank) = all.iter().position(|words| words[0] != 0) {
            return Err(Error::Ranks { rank, why: "its batches are not valid".to_owned() });
        }
        let sum_of = |word: usize| all.iter().map(|words| words[word]).sum::<u64>();
        let (runs, total) = (sum_of(1), sum_of(2));
        if total == 0 {
            return Err(Error::EmptyBatch { at: "Trainer::step_on".to_owned() });
        }
        let before: u64 = all[..ranks.rank()].iter().map(|words| words[1]).sum();
        let plan = &self.training;
        for (number, batch) in counted.iter().enumerate() {
            let mut scalars = self.scalars(batch);
            scalars.draw = (self.draws + before + number as u64) as u32;
            scalars.share = (batch.rows() as f64 / total as f64) as f32;
            scalars.first = u32::from(number == 0);
            scalars.last = 0;
            plan.run(batch, scalars)?;
        }
        let has_rows: Vec<_> = all.iter().map(|words| words[2] > 0).collect();
        self.exchange(ranks, &has_rows, rows > 0)?;
        let mut scalars = self.optimizer.scalars(self.step, rows.clamp(1, self.options.batch));
        scalars.on_non_finite_continue = self.continues().into();
        self.training.plan.run_updates(scalars)?;
        self.draws += runs;
        self.count_step()
    }

    /// Adds the gradients of all ranks, and averages running statistics. The gradients of a rank without examples are
    /// those of an earlier step; [`ranks::sum`] leaves them out.
    fn exchange(&self, ranks: &dyn Ranks, has_rows: &[bool], own: bool) -> Result<()> {
        let mut values = match &self.exchanged {
            Some(gradients) => gradients.read()?,
            None => Vec::new(),
        };
        let gradients = values.len();
        let share = 1.0 / has_rows.iter().filter(|has| **has).count().max(1) as f32;
        let mut statistics = Vec::new();
        for (parameter, mask) in self.model.parameters().iter().zip(&self.masks) {
            if parameter.kind == ParameterKind::Trained || mask.frozen_count() == mask.len() {
                continue;
            }
            let id = self.store.find(&parameter.path)?;
            let bits = self.store.read_weights(id)?;
            let indices: Vec<_> = (0..bits.len()).filter(|&index| !mask.is_frozen(index)).collect();
            values.extend(indices.iter().map(|&index| share * f32::from_bits(bits[index])));
            statistics.push((id, bits, indices));
        }
        let sums = self.training.plan.sums()?;
        let stopped = own && sums.non_finite_step.is_some();
        values.push(if stopped { 1.0 } else { 0.0 });
        ranks::sum(ranks, has_rows, &mut values)?;
        if values.pop().is_some_and(|flag| flag > 0.0) && !self.continues() {
            self.training.plan.set_non_finite(self.step as u32)?;
        }
        let means = values.split_off(gradients.min(values.len()));
        if let Some(gradients) = &self.exchanged {
            gradients.write(&values)?;
        }
        let mut means = means.into_iter();
        for (id, mut bits, indices) in statistics {
            for (index, mean) in indices.into_iter().zip(&mut means) {
                bits[index] = mean.to_bits();
            }
            self.store.write_weights(id, &bits)?;
        }
        Ok(())
    }

    /// Selects the gradients that are exchanged: those of trainable elements, or all if clipping counts all.
    fn select_exchanged(&mut self) -> Result<()> {
        if self.exchanged.is_some() {
            return Ok(());
        }
        let over_all = matches!(self.optimizer.clip_setting(), Some(Clip::Norm { over_all: true, .. }));
        let parameters = self.model.parameters().iter().zip(&self.masks).enumerate();
        let selected = parameters.filter_map(|(number, (parameter, mask))| {
            let all_frozen = mask.frozen_count() == mask.len();
            if parameter.kind != ParameterKind::Trained || all_frozen {
                return None;
            }
            let indices = (0..mask.len()).filter(|&index| over_all || !mask.is_frozen(index));
            Some((ParameterId::of(number), indices.collect()))
        });
        self.exchanged = Some(CompactGradients::new(&self.gpu, &self.store, selected)?);
        Ok(())
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
