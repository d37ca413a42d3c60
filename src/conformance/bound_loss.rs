//! How far losses may be from the reference.

use super::bound::HALF_ULP;

/// The targets of a loss: labels, and what is done to them.
pub(super) struct Targets<'a> {
    pub labels: &'a [f64],
    pub weights: Option<&'a [f64]>,
    pub smoothing: f64,
    pub classes: usize,
    pub rows: usize,
}

impl Targets<'_> {
    fn weight(&self, class: usize) -> f64 {
        self.weights.and_then(|w| w.get(class).copied()).unwrap_or(1.0)
    }

    fn of(&self, label: usize) -> Vec<f64> {
        let part = |class: usize| {
            let kept = if class == label { 1.0 - self.smoothing } else { 0.0 };
            self.weight(class) * (self.smoothing / self.classes as f64 + kept)
        };
        (0..self.classes).map(part).collect()
    }

    fn is_plain(&self) -> bool {
        self.weights.is_none() && self.smoothing == 0.0
    }

    fn divisor(&self) -> f64 {
        self.labels.iter().take(self.rows).map(|&label| self.weight(label as usize)).sum()
    }
}

/// For one row of logits: `x = logit - max` of each class, its share of the softmax, and in half-ulps the relative error
/// of the sum of exponentials. Vulkan allows `exp(x)` 3 + 2|x| ulps; rounding x adds |x| half-ulps. Adding K numbers above 0
/// errs by K half-ulps at most, and equal ones may all err to the same side.
fn shares(logits: &[f64]) -> (Vec<f64>, Vec<f64>, f64) {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let x: Vec<f64> = logits.iter().map(|l| l - max).collect();
    let sum: f64 = x.iter().map(|x| x.exp()).sum();
    let share: Vec<f64> = x.iter().map(|x| x.exp() / sum).collect();
    let size = |(x, share): (&f64, &f64)| if *share > 0.0 { share * (6.0 + 5.0 * x.abs()) } else { 0.0 };
    let of_exponentials: f64 = x.iter().zip(&share).map(size).sum();
    (x, share, of_exponentials + logits.len() as f64)
}

/// The loss `t*(log(sum) + (max - logit))`: the sum's relative error, 4 half-ulps of the logarithm, and 2 of each of the
/// others; weights and the sum over the classes, all above 0, round besides.
pub(super) fn loss(logits: &[f64], targets: &Targets, loss: &[f64]) -> Vec<f64> {
    let rows = logits.chunks(targets.classes).zip(targets.labels).zip(loss);
    let further = if targets.is_plain() { 0.0 } else { 8.0 + (targets.classes as f64).sqrt() };
    rows.map(|((logits, &label), &loss)| {
        let (x, share, sum) = shares(logits);
        // log(sum of exp(x)) = -log(share of the largest).
        let log_sum = share.iter().copied().fold(0.0, f64::max).ln().abs();
        let parts = targets.of(label as usize).into_iter().zip(&x).filter(|(t, _)| *t > 0.0);
        let each = parts.map(|(t, x)| t * (sum + 4.0 * log_sum + 2.0 * x.abs())).sum::<f64>();
        HALF_ULP * (each + (2.0 + further) * loss.abs())
    })
    .collect()
}

/// The gradient `(total*exp(x)/sum - t) / divisor`: a share errs by its exponential, the sum and two divisions (2.5 ulps
/// each); the smallest normal f32 besides, for smaller results may be flushed to 0. With weights or smoothing, total, target and
/// divisor are sums and products that round, too.
pub(super) fn gradient(logits: &[f64], targets: &Targets, gradient: &[f64]) -> Vec<f64> {
    let mut bound = Vec::with_capacity(logits.len());
    let (classes, divisor) = (targets.classes, targets.divisor());
    let of_total = if targets.is_plain() { 0.0 } else { 4.0 + classes as f64 };
    let of_target = if targets.is_plain() { 0.0 } else { 8.0 };
    let of_divisor = if targets.weights.is_some() { targets.rows as f64 } else { 0.0 };
    let rows = logits.chunks(classes).zip(gradient.chunks(classes)).zip(targets.labels);
    for ((logits, gradient), &label) in rows {
        let (x, share, sum) = shares(logits);
        let target = targets.of(label as usize);
        let total: f64 = target.iter().sum();
        for (((x, share), g), t) in x.iter().zip(share).zip(gradient).zip(target) {
            let factor = 6.0 + 5.0 * x.abs() + sum + 5.0 + of_total;
            let of_share = if share > 0.0 { total * share * factor } else { 0.0 };
            let tiny = f64::from(f32::MIN_POSITIVE);
            let of_quotient = (7.0 + of_divisor) * g.abs();
            bound.push(HALF_ULP * ((of_share + of_target * t) / divisor + of_quotient) + tiny);
        }
    }
    bound
}

/// A sum of `rows` losses, and a division (2.5 ulps on Vulkan) by their number or by a sum of weights.
pub(super) fn mean(losses: &[f64], targets: Option<&Targets>) -> f64 {
    let size: f64 = losses.iter().map(|l| l.abs()).sum();
    let root = (losses.len() as f64).sqrt();
    match targets.filter(|t| t.weights.is_some()) {
        None => (9.0 + root) * HALF_ULP * size / losses.len() as f64,
        Some(targets) => (13.0 + 2.0 * root) * HALF_ULP * size / targets.divisor(),
    }
}

/// A difference and its square round, as does the sum of such, all above 0, over `per_row` elements.
pub(super) fn squared_error(loss: &[f64], per_row: usize) -> Vec<f64> {
    loss.iter().map(|l| (8.0 + (per_row as f64).sqrt()) * HALF_ULP * l.abs()).collect()
}

/// A difference, a division (2.5 ulps on Vulkan), and the number that divides.
pub(super) fn squared_error_gradient(gradient: &[f64]) -> Vec<f64> {
    gradient.iter().map(|g| 9.0 * HALF_ULP * g.abs() + f64::from(f32::MIN_POSITIVE)).collect()
}
