//! "How do I train a convolution with some of its weights fixed?" (Stack Overflow 55778682). Compares the
//! approach of the question, the blend `mask * fixed + (1 - mask) * weights`, with freezing by bits in ten
//! aspects. Every row is computed here: the blend by a small network on the host, freezing by this crate on
//! the device.

mod blended;

use blended::{Blended, LENGTHS, Rule, SIZES, Tensors, gradients, masked};
use frazil::low_level::{Purpose, Stream};
use frazil::trainer::{GradientPolicy, OnNonFinite};
use frazil::{
    Adagrad, Adam, AdamW, Batch, FreezeRule, Gpu, GpuOptions, Loss, Mask, Model, Optimizer, Padding::Same,
    RmsProp, Sgd, Trainer, TrainerOptions,
};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;
const PATHS: [&str; 4] = ["conv.kernel", "conv.bias", "fc.kernel", "fc.bias"];

const ANSWER: &str = "
All ten rows are as expected. The answer to the question:
- The convolution is not the cause: the blend blocks the gradient of the loss, for a convolution kernel as for a dense
  layer (1). The blended tensor has a gradient in every element (2).
- `weights` is still updated at mask = 1 by everything that needs no gradient of the loss: momentum, decay, noise
  (4, 5, 6). The network does not use these values until the mask changes; then its weights jump (8).
- The network computes with `fixed`, which differs from `weights` if the initialiser ran for each (3). A multiplication
  by the mask also propagates NaN (7), loses the sign of a zero (9), and leaks where the mask is not exactly 1 (10).
- In this crate, `trainer.freeze(\"conv.kernel\", FreezeRule::mask(mask))` keeps the bits, and
  `trainer.verify_frozen()` verifies it.";

struct Question {
    gpu: Gpu,
    batch: Batch,
    /// Masks that freeze half of every tensor.
    masks: Vec<Mask>,
    floats: Tensors,
    initial: Tensors,
    frozen: usize,
    rows: usize,
}

fn main() -> Outcome<()> {
    let gpu = Gpu::new(GpuOptions::default())?;
    let mut stream = Stream::new(1, Purpose::Data, 0);
    let [rows, size, inputs, _, classes] = SIZES;
    let features = (0..rows * size * size * inputs).map(|_| stream.normal()).collect();
    let batch = Batch {
        features,
        labels: (0..rows).map(|row| (row % classes) as u32).collect(),
        targets: Vec::new(),
    };
    let masks: Vec<Mask> = PATHS
        .iter()
        .zip(LENGTHS)
        .map(|(path, len)| FreezeRule::random(0.5).seed(2).resolve(path, len))
        .collect::<frazil::Result<_>>()?;
    let float = |m: &Mask| (0..m.len()).map(|i| f32::from(u8::from(m.is_frozen(i)))).collect();
    let floats = masks.iter().map(float).collect();
    let frozen = masks.iter().map(Mask::frozen_count).sum();
    let mut q = Question { gpu, batch, masks, floats, initial: Vec::new(), frozen, rows: 0 };
    q.initial = parameters(&q.trainer(Sgd::new(0.05), GradientPolicy::Masked)?)?;
    println!(
        "conv 3x3 2->4 SAME, bias, ReLU, dense; mask = 1 (frozen) for {frozen} of {} elements of kernels and biases\n\
         blended: the network reads mask * fixed + (1 - mask) * weights, and an optimizer trains `weights`\n\
         frazil:  there is one tensor, and its elements at mask = 1 keep their bits",
        LENGTHS.iter().sum::<usize>()
    );
    q.gradients()?;
    q.initialisers()?;
    q.optimizers()?;
    q.not_a_number()?;
    q.switched_on_late()?;
    q.negative_zero()?;
    q.almost_one()?;
    if q.rows != 10 {
        return Err(format!("{} rows of 10", q.rows).into());
    }
    println!("{ANSWER}");
    Ok(())
}

fn parameters(trainer: &Trainer) -> frazil::Result<Tensors> {
    PATHS.iter().map(|path| trainer.parameter(path)).collect()
}

/// The crate's optimizer with the rule and the constants of [`Rule`].
fn optimizer(rule: Rule, decay: f64) -> Optimizer {
    match rule {
        Rule::Sgd => Sgd::new(0.05).weight_decay(decay).into(),
        Rule::Momentum => Sgd::new(0.05).momentum(0.9).weight_decay(decay).into(),
        Rule::Nesterov => Sgd::new(0.05).momentum(0.9).nesterov(true).weight_decay(decay).into(),
        Rule::Adagrad => Adagrad::new(0.05).weight_decay(decay).into(),
        Rule::RmsPropMomentum => RmsProp::new(0.01).momentum(0.9).weight_decay(decay).into(),
        Rule::Adam => Adam::new(0.01).weight_decay(decay).into(),
        Rule::AdamW => AdamW::new(0.01).weight_decay(decay).into(),
    }
}

impl Question {
    fn trainer(&self, optimizer: impl Into<Optimizer>, policy: GradientPolicy) -> frazil::Result<Trainer> {
        let model = Model::input([SIZES[1], SIZES[1], SIZES[2]])
            .conv2d("conv", SIZES[3], [3, 3], |c| c.padding(Same))
            .relu()
            .flatten()
            .dense("fc", SIZES[4])
            .build()?;
        let options = TrainerOptions::batch(SIZES[0]).seed(5).keep_gradients(true).gradient_policy(policy);
        let options = options.on_non_finite(OnNonFinite::Continue);
        Trainer::new(&self.gpu, model, Loss::SoftmaxCrossEntropy, optimizer, options)
    }

    fn freeze(&self, trainer: &mut Trainer) -> frazil::Result<()> {
        let mut each = PATHS.iter().zip(&self.masks);
        each.try_for_each(|(path, mask)| trainer.freeze(path, FreezeRule::mask(mask.clone())).map(|_| ()))
    }

    fn blended(&self) -> Blended {
        Blended::new(&self.initial, &self.initial, &self.floats)
    }

    fn data(&self) -> (&[f32], &[u32]) {
        (&self.batch.features, &self.batch.labels)
    }

    /// Returns the number of elements with mask 1 for which `test(tensor, index)` is true.
    fn count(&self, test: impl Fn(usize, usize) -> bool) -> usize {
        (0..4).map(|t| masked(&self.floats[t], |i| test(t, i))).sum()
    }

    /// Returns the number of frozen elements of a trainer whose bits changed since `before`; fails if
    /// `Trainer::verify_frozen` reports another number.
    fn changed(&self, trainer: &Trainer, before: &Tensors) -> Outcome<usize> {
        let now = parameters(trainer)?;
        let changed = self.count(|t, i| now[t][i].to_bits() != before[t][i].to_bits());
        let proof = trainer.verify_frozen()?;
        if proof.frozen() != self.frozen || proof.changed() != changed {
            return Err(format!("expected {changed} changed elements, verify_frozen says {proof}").into());
        }
        Ok(changed)
    }

    /// Prints one row of the comparison, and fails unless `holds` is true.
    fn row(&mut self, what: &str, blended: &str, ours: &str, holds: bool) -> Outcome<()> {
        self.rows += 1;
        println!("\n{:>2}. {what}\n      blended: {blended}\n      frazil:  {ours}", self.rows);
        if holds { Ok(()) } else { Err(format!("row {} is not as expected", self.rows).into()) }
    }

    fn gradients(&mut self) -> Outcome<()> {
        let (x, labels) = self.data();
        let (_, weights, blended) = self.blended().gradients(x, labels);
        let mut ours = self.trainer(Sgd::new(0.05), GradientPolicy::Masked)?;
        let mut dense = self.trainer(Sgd::new(0.05), GradientPolicy::Dense)?;
        for trainer in [&mut ours, &mut dense] {
            self.freeze(trainer)?;
            trainer.step(&self.batch)?;
        }
        let read = |t: &Trainer| PATHS.iter().map(|p| t.gradient(p)).collect::<frazil::Result<Tensors>>();
        let (ours, dense) = (read(&ours)?, read(&dense)?);
        // Maximum difference between the two networks' gradients, to check that both sides compute the same
        // network: otherwise the rows would not be comparable.
        let differences = dense.iter().flatten().zip(blended.iter().flatten()).map(|(a, b)| (a - b).abs());
        let error = differences.fold(0.0, f32::max);
        let zero = self.count(|t, i| weights[t][i] == 0.0);
        let ours_zero = self.count(|t, i| ours[t][i].to_bits() == 0);
        let n = self.frozen;
        self.row(
            "the gradient of the loss with respect to `weights`, where mask = 1",
            &format!("exactly 0 in {zero} of {n}: the convolution is not the cause"),
            &format!("exactly 0 in {ours_zero} of {n}"),
            zero == n && ours_zero == n,
        )?;
        let kernel = self.masks[0].frozen_count();
        let nonzero = masked(&self.floats[0], |i| blended[0][i] != 0.0);
        let read_zero = masked(&self.floats[0], |i| ours[0][i].to_bits() == 0);
        self.row(
            "the gradient of the loss with respect to the kernel that the convolution reads, where mask = 1",
            &format!("not 0 in {nonzero} of {kernel}: read from the blended tensor, the mask seems to fail"),
            &format!(
                "exactly 0 in {read_zero} of {kernel} (with dense gradients it agrees with the blend within {error:.0e})"
            ),
            nonzero == kernel && read_zero == kernel && error < 1e-5,
        )
    }

    fn initialisers(&mut self) -> Outcome<()> {
        // Glorot uniform; the second run of the initialiser continues the same random stream.
        let mut stream = Stream::new(9, Purpose::Weights, 0);
        let limit = (6.0_f32 / (9.0 * (2.0 + 4.0))).sqrt();
        let mut draw = || -> Vec<f32> { (0..LENGTHS[0]).map(|_| stream.uniform(-limit, limit)).collect() };
        let (weights, fixed) = (draw(), draw());
        let differ = masked(&self.floats[0], |i| weights[i] != fixed[i]);
        let worst = weights.iter().zip(&fixed).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let mut ours = self.trainer(Sgd::new(0.05), GradientPolicy::Masked)?;
        let before = parameters(&ours)?;
        self.freeze(&mut ours)?;
        let changed = self.changed(&ours, &before)?;
        let count = self.masks[0].frozen_count();
        self.row(
            "`fixed` against `weights` after initialisation",
            &format!(
                "{differ} of {count} differ, by up to {worst:.2}: an initialiser that runs for each draws twice"
            ),
            &format!("{changed} of {count} differ: frozen at the current value, without a second copy"),
            differ == count && changed == 0,
        )
    }

    /// Trains the blend without a mask for `free` steps and then with the mask for 20 steps. Returns the
    /// number of elements of `weights` with mask 1 that change in the 20 steps.
    fn moved_in_blend(&self, rule: Rule, free: usize, decay: f64, deviation: f32) -> usize {
        let (x, labels) = self.data();
        let mut stream = Stream::new(4, Purpose::Data, 1);
        let mut noise = || if deviation > 0.0 { deviation * stream.normal() } else { 0.0 };
        let mut b = self.blended();
        b.mask.iter_mut().for_each(|m| m.fill(0.0));
        (0..free).for_each(|_| b.step(x, labels, rule, 0.0, &mut || 0.0));
        b.mask.clone_from(&self.floats);
        b.fixed.clone_from(&b.weights);
        let before = b.weights.clone();
        (0..20).for_each(|_| b.step(x, labels, rule, decay as f32, &mut noise));
        b.moved(&before)
    }

    /// Trains a trainer of this crate for the same steps and returns the number of frozen elements that
    /// change. Noise is added to the weights, which has the effect of noise on the gradients with plain SGD.
    fn moved_in_trainer(&self, rule: Rule, free: usize, decay: f64, deviation: f32) -> Outcome<usize> {
        let mut stream = Stream::new(4, Purpose::Data, 1);
        let mut t = self.trainer(optimizer(rule, decay), GradientPolicy::Masked)?;
        (0..free).try_for_each(|_| t.step(&self.batch))?;
        self.freeze(&mut t)?;
        let before = parameters(&t)?;
        for _ in 0..20 {
            t.step(&self.batch)?;
            if deviation > 0.0 {
                for path in PATHS {
                    let w = t.parameter(path)?.into_iter().map(|w| w + deviation * stream.normal());
                    t.set_parameter(path, &w.collect::<Vec<_>>())?;
                }
            }
        }
        self.changed(&t, &before)
    }

    fn optimizers(&mut self) -> Outcome<()> {
        use Rule::{Adagrad, Adam, AdamW, Momentum, Nesterov, RmsPropMomentum, Sgd};
        let n = self.frozen;
        let late = [Sgd, Momentum, Nesterov, Adagrad, RmsPropMomentum, Adam];
        let push = |rule| !matches!(rule, Sgd | Adagrad);
        // After the mask is switched on, momentum still changes every weight that had a nonzero gradient
        // before. Weights before a ReLU whose output is always 0 had none.
        let expected = |rule, moved| if push(rule) { moved * 2 > n } else { moved == 0 };
        self.movers(
            "the mask is switched on after 10 steps without it, then 20 steps follow",
            &late,
            10,
            0.0,
            0.0,
            expected,
        )?;
        // Biases start at 0, where weight decay has no effect.
        let biases = self.masks[1].frozen_count() + self.masks[3].frozen_count();
        let what = format!("an L2 term or weight decay (the {biases} biases among them begin at 0)");
        self.movers(&what, &[Sgd, Momentum, Adam, AdamW], 0, 0.01, 0.0, |_, moved| moved >= n - biases)?;
        self.movers(
            "noise on the gradient (frazil: on the weights, after each step)",
            &[Sgd, Adam],
            0,
            0.0,
            1e-3,
            |_, moved| moved == n,
        )
    }

    /// Prints a row with the number of elements at mask 1 that change, for each update rule. It must be 0 in
    /// this crate and satisfy `expected` in the blend.
    fn movers(
        &mut self,
        what: &str,
        rules: &[Rule],
        free: usize,
        decay: f64,
        deviation: f32,
        expected: impl Fn(Rule, usize) -> bool,
    ) -> Outcome<()> {
        let (mut blended, mut ours, mut holds) = (Vec::new(), Vec::new(), true);
        for &rule in rules {
            let moved = [
                self.moved_in_blend(rule, free, decay, deviation),
                self.moved_in_trainer(rule, free, decay, deviation)?,
            ];
            blended.push(format!("{rule:?} {}", moved[0]));
            ours.push(format!("{rule:?} {}", moved[1]));
            holds &= expected(rule, moved[0]) && moved[1] == 0;
        }
        let say = |side: &[String]| format!("moved, of {}: {}", self.frozen, side.join(", "));
        let (blended, ours) = (say(&blended), say(&ours));
        self.row(&format!("trained at mask = 1: {what}"), &blended, &ours, holds)
    }

    fn not_a_number(&mut self) -> Outcome<()> {
        let mut bad = self.batch.clone();
        bad.features[24] = f32::NAN;
        let (x, labels) = (&bad.features, &bad.labels);
        let mut b = self.blended();
        let (_, weights, _) = b.gradients(x, labels);
        b.step(x, labels, Rule::Sgd, 0.0, &mut || 0.0);
        let nan = self.count(|t, i| weights[t][i].is_nan());
        let after = self.count(|t, i| b.weights[t][i].is_nan());
        let mut ours = self.trainer(Sgd::new(0.05).momentum(0.9), GradientPolicy::Masked)?;
        self.freeze(&mut ours)?;
        let before = parameters(&ours)?;
        ours.step(&bad)?;
        let now = parameters(&ours)?;
        let trained_nan = now.iter().flatten().filter(|w| w.is_nan()).count();
        let (changed, n) = (self.changed(&ours, &before)?, self.frozen);
        self.row(
            "one NaN pixel",
            &format!("{nan} of {n} gradients at mask = 1 are NaN, and then {after} weights: (1 - mask) * NaN = NaN"),
            &format!(
                "{changed} of {n} moved, though {trained_nan} trainable weights became NaN (with OnNonFinite::Continue; by default updates stop)"
            ),
            nan * 2 > n && after == nan && changed == 0 && trained_nan > 0,
        )
    }

    fn switched_on_late(&mut self) -> Outcome<()> {
        let (x, labels) = self.data();
        let mut b = self.blended();
        b.mask.iter_mut().for_each(|m| m.fill(0.0));
        (0..100).for_each(|_| b.step(x, labels, Rule::Sgd, 0.0, &mut || 0.0));
        let (free, old) = (gradients(&b.effective(), x, labels).0, b.effective());
        b.mask.clone_from(&self.floats);
        let (masked, new) = (gradients(&b.effective(), x, labels).0, b.effective());
        let jump =
            old.iter().flatten().zip(new.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let mut ours = self.trainer(Sgd::new(0.05), GradientPolicy::Masked)?;
        (0..100).try_for_each(|_| ours.step(&self.batch))?;
        let before = parameters(&ours)?;
        let loss = gradients(&before, x, labels).0;
        self.freeze(&mut ours)?;
        let (changed, after) = (self.changed(&ours, &before)?, gradients(&parameters(&ours)?, x, labels).0);
        self.row(
            "the mask is switched on after 100 steps without it, `fixed` as it was at the start",
            &format!(
                "the weights jump by up to {jump:.2}, the loss from {free:.4} to {masked:.4}, without a step"
            ),
            &format!("{changed} of {} moved, the loss stays {loss:.4}", self.frozen),
            jump > 0.01 && masked > free && changed == 0 && loss.to_bits() == after.to_bits(),
        )
    }

    fn negative_zero(&mut self) -> Outcome<()> {
        let mut b = self.blended();
        b.fixed.iter_mut().for_each(|t| t.fill(-0.0));
        // At mask 1, `(1 - mask) * weights` is +0 or -0, with the sign of the weight. Adding +0 to the fixed
        // value -0 gives +0, so the sign is lost.
        let effective = b.effective();
        let lost = self.count(|t, i| effective[t][i].to_bits() == 0);
        let mut ours = self.trainer(Adam::new(0.01).weight_decay(0.1), GradientPolicy::Masked)?;
        for (path, mask) in PATHS.iter().zip(&self.masks) {
            ours.set_and_freeze(path, &vec![-0.0; mask.len()], mask)?;
        }
        (0..5).try_for_each(|_| ours.step(&self.batch))?;
        let now = parameters(&ours)?;
        let (kept, n) = (self.count(|t, i| now[t][i].to_bits() == 1 << 31), self.frozen);
        self.row(
            "frozen -0.0",
            &format!("{lost} of {n} became +0.0: wherever (1 - mask) * weights is +0.0"),
            &format!("{kept} of {n} are -0.0 after 5 steps of Adam with decay"),
            lost > 0 && kept == n,
        )
    }

    fn almost_one(&mut self) -> Outcome<()> {
        let (x, labels) = self.data();
        let almost = 0.999_999_9_f32;
        let mut b = self.blended();
        b.mask.iter_mut().flatten().filter(|m| **m == 1.0).for_each(|m| *m = almost);
        let (_, weights, blended) = b.gradients(x, labels);
        let leaks = self.count(|t, i| weights[t][i] != 0.0);
        let share = (0..4).flat_map(|t| weights[t].iter().zip(&blended[t]).zip(&self.floats[t]));
        let share = share.filter(|((_, g), m)| **m == 1.0 && **g != 0.0).map(|((w, g), _)| w / g);
        let share = share.fold(0.0, f32::max);
        let mut ours = self.trainer(Sgd::new(0.05), GradientPolicy::Masked)?;
        self.freeze(&mut ours)?;
        ours.step(&self.batch)?;
        let read: Tensors = PATHS.iter().map(|p| ours.gradient(p)).collect::<frazil::Result<_>>()?;
        let ours = self.count(|t, i| read[t][i].to_bits() != 0);
        self.row(
            "a mask value of 0.9999999",
            &format!("{leaks} of {} gradients leak, {share:.1e} of each", self.frozen),
            &format!("{ours} of {} leak: a mask is bits and has no such value", self.frozen),
            leaks > 0 && share > 1e-8 && ours == 0,
        )
    }
}
