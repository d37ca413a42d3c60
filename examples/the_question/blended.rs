//! The approach of the question, on the host in f32: each tensor is `mask * fixed + (1 - mask) * weights`,
//! and an ordinary optimizer updates `weights`.

/// Batch size, height and width of the images (one number), input channels, output channels, classes.
pub const SIZES: [usize; 5] = [8, 5, 2, 4, 5];
/// The numbers of elements of conv.kernel, conv.bias, fc.kernel and fc.bias.
pub const LENGTHS: [usize; 4] = [72, 4, 500, 5];

/// The four parameter tensors.
pub type Tensors = Vec<Vec<f32>>;

/// Returns the mean cross-entropy loss of a 3x3 convolution with SAME padding and bias, ReLU and a dense
/// layer, and its gradient with respect to each parameter tensor.
pub fn gradients(weights: &Tensors, x: &[f32], labels: &[u32]) -> (f32, Tensors) {
    let [rows, size, inputs, outputs, classes] = SIZES;
    let mut grads: Tensors = LENGTHS.iter().map(|&len| vec![0.0; len]).collect();
    let mut loss = 0.0;
    // Returns input pixel and kernel position for each window element inside the image.
    let window_elements = |oy: usize, ox: usize| {
        (0..9).filter_map(move |k| {
            let (y, ky) = ((oy + k / 3).checked_sub(1)?, k);
            let x = (ox + k % 3).checked_sub(1)?;
            (y < size && x < size).then_some((y * size + x, ky))
        })
    };
    for row in 0..rows {
        let image = &x[row * size * size * inputs..][..size * size * inputs];
        let mut hidden = vec![0.0_f32; size * size * outputs];
        for (index, h) in hidden.iter_mut().enumerate() {
            let (pixel, o) = (index / outputs, index % outputs);
            *h = weights[1][o];
            for (p, k) in window_elements(pixel / size, pixel % size) {
                for c in 0..inputs {
                    *h += image[p * inputs + c] * weights[0][(k * inputs + c) * outputs + o];
                }
            }
        }
        // A comparison with NaN is false, so NaN passes through.
        let active: Vec<f32> = hidden.iter().map(|&h| if h <= 0.0 { 0.0 } else { h }).collect();
        let logit = |j: usize| {
            let sum: f32 = active.iter().enumerate().map(|(i, a)| a * weights[2][i * classes + j]).sum();
            sum + weights[3][j]
        };
        let logits: Vec<f32> = (0..classes).map(logit).collect();
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = logits.iter().map(|l| (l - top).exp()).sum();
        let label = labels[row] as usize;
        loss -= (logits[label] - top - total.ln()) / rows as f32;
        let d: Vec<f32> = (0..classes)
            .map(|j| ((logits[j] - top).exp() / total - f32::from(u8::from(j == label))) / rows as f32)
            .collect();
        for j in 0..classes {
            grads[3][j] += d[j];
        }
        for (i, &a) in active.iter().enumerate() {
            let mut back = 0.0;
            for j in 0..classes {
                grads[2][i * classes + j] += a * d[j];
                back += d[j] * weights[2][i * classes + j];
            }
            if hidden[i] <= 0.0 {
                continue;
            }
            let (pixel, o) = (i / outputs, i % outputs);
            grads[1][o] += back;
            for (p, k) in window_elements(pixel / size, pixel % size) {
                for c in 0..inputs {
                    grads[0][(k * inputs + c) * outputs + o] += back * image[p * inputs + c];
                }
            }
        }
    }
    (loss, grads)
}

/// The update rule of `weights`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    Sgd,
    Momentum,
    Nesterov,
    Adagrad,
    RmsPropMomentum,
    Adam,
    AdamW,
}

/// Weights, their fixed copy, the mask as floats (1 = frozen), and an optimizer that ignores the mask.
#[derive(Clone)]
pub struct Blended {
    pub weights: Tensors,
    pub fixed: Tensors,
    pub mask: Tensors,
    first: Tensors,
    second: Tensors,
    steps: i32,
}

impl Blended {
    pub fn new(weights: &Tensors, fixed: &Tensors, mask: &Tensors) -> Self {
        let zeros: Tensors = LENGTHS.iter().map(|&len| vec![0.0; len]).collect();
        let (weights, fixed, mask) = (weights.clone(), fixed.clone(), mask.clone());
        Blended { weights, fixed, mask, first: zeros.clone(), second: zeros, steps: 0 }
    }

    /// Returns the tensors with which the network computes: `mask * fixed + (1 - mask) * weights`.
    pub fn effective(&self) -> Tensors {
        let tensor = |t: usize| {
            let one = |i: usize| {
                let m = self.mask[t][i];
                m * self.fixed[t][i] + (1.0 - m) * self.weights[t][i]
            };
            (0..LENGTHS[t]).map(one).collect()
        };
        (0..4).map(tensor).collect()
    }

    /// Returns the loss and its gradients with respect to `weights` and to the blended tensors.
    pub fn gradients(&self, x: &[f32], labels: &[u32]) -> (f32, Tensors, Tensors) {
        let (loss, blended) = gradients(&self.effective(), x, labels);
        let chain = |(g, m): (&Vec<f32>, &Vec<f32>)| g.iter().zip(m).map(|(g, m)| (1.0 - m) * g).collect();
        (loss, blended.iter().zip(&self.mask).map(chain).collect(), blended)
    }

    /// Runs one training step. `decay` is the factor of an L2 term, or of decoupled weight decay for AdamW;
    /// `noise` is added to each gradient.
    pub fn step(
        &mut self,
        x: &[f32],
        labels: &[u32],
        rule: Rule,
        decay: f32,
        noise: &mut dyn FnMut() -> f32,
    ) {
        let (_, grads, _) = self.gradients(x, labels);
        self.steps += 1;
        for (t, grads) in grads.iter().enumerate() {
            for (i, grad) in grads.iter().enumerate() {
                let (w, m, v) = (&mut self.weights[t][i], &mut self.first[t][i], &mut self.second[t][i]);
                let g = grad + noise() + if rule == Rule::AdamW { 0.0 } else { decay * *w };
                *w -= match rule {
                    Rule::Sgd => 0.05 * g,
                    Rule::Momentum | Rule::Nesterov => {
                        *m = 0.9 * *m + g;
                        0.05 * if rule == Rule::Nesterov { g + 0.9 * *m } else { *m }
                    }
                    Rule::Adagrad => {
                        *v += g * g;
                        0.05 * g / (v.sqrt() + 1e-7)
                    }
                    Rule::RmsPropMomentum => {
                        *v = 0.9 * *v + 0.1 * g * g;
                        *m = 0.9 * *m + 0.01 * g / (v.sqrt() + 1e-7);
                        *m
                    }
                    Rule::Adam | Rule::AdamW => {
                        *m = 0.9 * *m + 0.1 * g;
                        *v = 0.999 * *v + 0.001 * g * g;
                        let (a, b) = (1.0 - 0.9_f32.powi(self.steps), 1.0 - 0.999_f32.powi(self.steps));
                        let decoupled = if rule == Rule::AdamW { 0.01 * decay * *w } else { 0.0 };
                        0.01 * (*m / a) / ((*v / b).sqrt() + 1e-8) + decoupled
                    }
                };
            }
        }
    }

    /// Returns the number of elements of `weights` at mask 1 whose bits changed since `before`.
    pub fn moved(&self, before: &Tensors) -> usize {
        let pairs = self.weights.iter().zip(before).zip(&self.mask);
        pairs.map(|((now, old), mask)| masked(mask, |i| now[i].to_bits() != old[i].to_bits())).sum()
    }
}

/// Returns the number of elements with mask 1 that satisfy a test.
pub fn masked(mask: &[f32], test: impl Fn(usize) -> bool) -> usize {
    (0..mask.len()).filter(|&i| mask[i] == 1.0 && test(i)).count()
}
