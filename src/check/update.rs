//! Masked updates: trainable elements within a bound, frozen ones and the gaps between tensors to the bit.

use super::bound::{HALF_ULP, compare};
use super::case::Case;
use super::run::{Measured, Stop, distinct};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::graph::{DType, Graph, Op, ParameterId, StepScalars, UpdateRule, ValueId};
use crate::mask::Mask;
use crate::plan::{Plan, PlanOptions};
use crate::reference::Reference;
use crate::shape::Shape;

/// One update of several tensors. Their masks take turns: mixed bits, none frozen, all frozen, every third.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// How weights change.
    pub rule: UpdateRule,
    /// Elements of each tensor.
    pub sizes: Vec<usize>,
    /// Tensors, by number, that the update does not name.
    pub left_out: Vec<usize>,
}

pub(super) struct Built {
    pub graph: Graph,
    parameters: Vec<ParameterId>,
    targets: Vec<ParameterId>,
    gradients: Vec<ValueId>,
}

/// Quiet and signalling NaN with payloads, infinities, -0.0, subnormals: bits that arithmetic would change.
const SPECIALS: [u32; 9] = [
    0x7fc1_2345,
    0x7f81_2345,
    0xffa5_5a5a,
    0xffff_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x8000_0000,
    0x0000_0001,
    0x807f_ffff,
];

const STEP: StepScalars = StepScalars {
    learning_rate: 0.05,
    // Adam's corrections in its third step, with the usual betas.
    correction1: 0.271,
    correction2: 0.002_997,
    rows: 1,
    step: 2,
    on_non_finite_continue: 0,
    seed: [0; 2],
    draw: 0,
    share: 1.0,
    first: 1,
    last: 1,
};

impl Update {
    pub(super) fn build(&self) -> Result<Built> {
        let mut graph = Graph::new(1)?;
        let (mut parameters, mut targets, mut gradients) = (Vec::new(), Vec::new(), Vec::new());
        for (number, &size) in self.sizes.iter().enumerate() {
            let shape = Shape::new([size])?;
            graph.parameter(&format!("tensor {number}"), shape.clone())?;
            let id = ParameterId(number);
            parameters.push(id);
            if !self.left_out.contains(&number) {
                targets.push(id);
                gradients.push(graph.input(&format!("gradient {number}"), shape, DType::F32));
            }
        }
        graph.push(Op::Update(self.rule, targets.clone()), &gradients, "update")?;
        Ok(Built { graph, parameters, targets, gradients })
    }

    fn mask(&self, number: usize, case: &Case) -> Mask {
        let mut stream = case.stream(1000 + number);
        let len = self.sizes[number];
        match number % 4 {
            0 => Mask::from_frozen((0..len).map(|_| stream.below(2) == 0)),
            1 => Mask::none(len),
            2 => Mask::all(len),
            _ => Mask::from_frozen((0..len).map(|i| i % 3 == 0)),
        }
    }

    fn is_left_out(&self, id: ParameterId) -> bool {
        self.left_out.contains(&id.0)
    }
}

fn wide(bits: &[u32]) -> Vec<f64> {
    bits.iter().map(|&b| f64::from(f32::from_bits(b))).collect()
}

/// The tensors of one parameter before the update.
struct Before {
    mask: Mask,
    weights: Vec<u32>,
    state: Vec<Vec<u32>>,
    gradient: Vec<u32>,
}

impl Before {
    fn new(case: &Case, update: &Update, id: ParameterId) -> Self {
        let (len, mask) = (update.sizes[id.0], update.mask(id.0, case));
        // What is not updated at all keeps special bits everywhere.
        let kept = |i: usize| mask.is_frozen(i) || update.is_left_out(id);
        let slots = update.rule.slots();
        let tensor = |part: usize, positive: bool| -> Vec<u32> {
            let mut stream = case.stream(10 * id.0 + part);
            let draw = |i: usize| {
                let x = stream.normal();
                // Half of the kept elements are ordinary numbers.
                if kept(i) && i.is_multiple_of(2) {
                    SPECIALS[(i / 2 + part) % SPECIALS.len()]
                } else {
                    (if positive { x.abs() } else { x }).to_bits()
                }
            };
            (0..len).map(draw).collect()
        };
        let state = (0..slots.len()).map(|slot| tensor(2 + slot, slots[slot] == "v")).collect();
        Before { weights: tensor(0, false), gradient: tensor(1, false), state, mask }
    }
}

pub(super) fn run(gpu: &Gpu, case: &Case, update: &Update) -> std::result::Result<Measured, Stop> {
    let built = update.build()?;
    let plan = Plan::compile(gpu, &built.graph, &PlanOptions::default().guard_bands(true))?;
    let store = plan.store();
    let mut reference = Reference::new(&built.graph)?;
    let before: Vec<_> = built.parameters.iter().map(|&id| Before::new(case, update, id)).collect();
    store.guard_gaps()?;
    for (&id, before) in built.parameters.iter().zip(&before) {
        store.write_mask(id, &before.mask)?;
        store.write_weights(id, &before.weights)?;
        reference.set_mask(id, &before.mask)?;
        reference.write(built.graph.at_parameter(id), &wide(&before.weights))?;
        for (slot, state) in before.state.iter().enumerate() {
            store.write_state(slot, id, state)?;
            if !update.is_left_out(id) {
                reference.write_state(id, slot, &wide(state))?;
            }
        }
    }
    for (&id, &gradient) in built.targets.iter().zip(&built.gradients) {
        let bits = &before[id.0].gradient;
        plan.write_f32(gradient, &bits.iter().map(|&b| f32::from_bits(b)).collect::<Vec<_>>())?;
        reference.write(gradient, &wide(bits))?;
    }
    plan.run(STEP)?;
    reference.run(STEP)?;
    let mut worst = 0.0f64;
    for (&id, before) in built.parameters.iter().zip(&before) {
        let bound = of_update(&update.rule, before);
        let path = &built.graph.parameters()[id.0].path;
        let value = reference.read(built.graph.at_parameter(id));
        let got = store.read_weights(id)?;
        let live = |i: usize| !before.mask.is_frozen(i) && !update.is_left_out(id);
        worst = worst.max(hold(&format!("{path}: weights"), &got, &before.weights, value, &bound[0], live)?);
        for (slot, old) in before.state.iter().enumerate() {
            let what = format!("{path}: {}", update.rule.slots()[slot]);
            let got = store.read_state(slot, id)?;
            let want = reference.state(id, slot);
            worst = worst.max(hold(&what, &got, old, want, &bound[1 + slot], live)?);
        }
    }
    store.check_gaps()?;
    plan.check_guards()?;
    Ok(Measured { kernels: distinct(plan.report().dispatches.iter().map(|d| d.kernel)), worst })
}

/// Live elements within their bounds of `want`, all others with the bits of `old`.
fn hold(
    what: &str,
    got: &[u32],
    old: &[u32],
    want: &[f64],
    bound: &[f64],
    live: impl Fn(usize) -> bool,
) -> std::result::Result<f64, String> {
    if let Some(i) = (0..got.len()).find(|&i| !live(i) && got[i] != old[i]) {
        return Err(format!("{what}: kept element {i} was {:#010x} and is {:#010x}", old[i], got[i]));
    }
    let pick = |x: &[f64]| (0..got.len()).filter(|&i| live(i)).map(|i| x[i]).collect::<Vec<_>>();
    if want.is_empty() {
        return Ok(0.0); // The reference has no state for what is never updated.
    }
    compare(what, &pick(&wide(got)), &pick(want), &pick(bound))
}

/// Bounds of the weights and of each state tensor: a few half-ulps of every term, as it goes through the rule.
fn of_update(rule: &UpdateRule, before: &Before) -> Vec<Vec<f64>> {
    let lr = f64::from(STEP.learning_rate);
    let size = |bits: u32| f64::from(f32::from_bits(bits)).abs();
    let mut bounds = vec![Vec::new(); 1 + before.state.len()];
    for i in 0..before.weights.len() {
        let (w, g) = (size(before.weights[i]), size(before.gradient[i]));
        let state: Vec<f64> = before.state.iter().map(|s| size(s[i])).collect();
        let made: Vec<f64> = match *rule {
            UpdateRule::Sgd { momentum, weight_decay, .. } => {
                let g = g + weight_decay * w;
                let buffer = momentum * state.first().copied().unwrap_or(0.0) + g;
                // Nesterov's step is no larger than this; the others' are smaller.
                let step = g + momentum * buffer;
                let step = if state.is_empty() { g } else { step.max(buffer) };
                // One half-ulp for each of: the hyper-parameters, their products, the sums; and one to spare.
                vec![HALF_ULP * (2.0 * w + 8.0 * lr * step), 5.0 * HALF_ULP * buffer]
            }
            UpdateRule::Adam { beta1, beta2, epsilon, weight_decay, decoupled } => {
                let decay = if decoupled { 0.0 } else { weight_decay };
                let g = g + decay * w;
                let m = beta1 * state[0] + (1.0 - beta1) * g;
                // What v is at least, since g may cancel: what is left of the old one.
                let low = beta2 * state[1];
                let v = low + (1.0 - beta2) * g * g;
                let (of_m, of_v) = (5.0 * HALF_ULP * m, 8.0 * HALF_ULP * v);
                let (c1, c2) = (f64::from(STEP.correction1), f64::from(STEP.correction2));
                let root = (low / c2).sqrt() + epsilon;
                // d(1/root)/dv = -1 / (2 root^2 sqrt(v c2)); root, two divisions and the products: 16 half-ulps.
                let of_root = of_v / (2.0 * (low * c2).sqrt()) / root;
                let step = of_m / c1 / root + m / c1 / root * (of_root + 16.0 * HALF_ULP);
                let of_decay = if decoupled { 3.0 * lr * weight_decay * w } else { 0.0 };
                vec![HALF_ULP * (2.0 * w + of_decay) + lr * step, of_m, of_v]
            }
        };
        bounds.iter_mut().zip(made).for_each(|(all, one)| all.push(one));
    }
    bounds
}
