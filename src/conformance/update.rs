//! Masked updates: trainable elements within a bound, frozen ones and the gaps between tensors to the bit.

use super::bound::{HALF_ULP, compare};
use super::case::Case;
use super::run::{Measured, Stop, distinct};
use super::update_bound::{Element, Rates, of_element};
use crate::compiler::PlanOptions;
use crate::engine::Plan;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::graph::{Clip, DType, Graph, Op, ParameterId, StepScalars, Target, UpdateRule, ValueId};
use crate::kernels::GemmFamily;
use crate::mask::Mask;
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
    /// How gradients are clipped.
    pub clip: Option<Clip>,
    /// Whether the gradient comes in two batches: a quarter, and three quarters.
    pub accumulate: bool,
    /// Whether tensors have factors of their own: of the learning rate and of the decay.
    pub scaled: bool,
    /// Instead of special bits in elements that are kept: NaN, an infinity or -0.0 in one live element of each tensor, which
    /// must reach no other.
    pub planted: Option<Planted>,
}

/// A value in one element of each tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Planted {
    /// The element's index.
    pub at: usize,
    /// The value.
    pub value: f32,
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
        let (mut parameters, mut targets) = (Vec::new(), Vec::new());
        let mut gradients = Vec::new();
        for (number, &size) in self.sizes.iter().enumerate() {
            let shape = Shape::new([size])?;
            graph.parameter(&format!("tensor {number}"), shape.clone())?;
            let id = ParameterId(number);
            parameters.push(id);
            if self.left_out.contains(&number) {
                continue;
            }
            targets.push(id);
            gradients.push(graph.input(&format!("gradient {number}"), shape, DType::F32));
        }
        if self.accumulate {
            graph.push(Op::Accumulate(targets.clone()), &gradients, "accumulate")?;
        }
        if let Some(clip) = self.clip {
            graph.push(Op::Clip(clip, targets.clone()), &gradients, "clip")?;
        }
        let scaled = |&parameter: &ParameterId| {
            let [learning_rate, weight_decay] = self.factors(parameter.0);
            Target { parameter, learning_rate, weight_decay }
        };
        let scaled = targets.iter().map(scaled).collect();
        graph.push(Op::Update(self.rule, scaled), &gradients, "update")?;
        Ok(Built { graph, parameters, targets, gradients })
    }

    fn mask(&self, number: usize, case: &Case) -> Mask {
        let mut stream = case.stream(1000 + number);
        let len = self.sizes[number];
        if let Some(planted) = self.planted {
            // Its neighbours take turns, and so do they in the next tensor.
            return Mask::from_frozen((0..len).map(|i| i != planted.at && (i + number).is_multiple_of(2)));
        }
        match number % 4 {
            0 => Mask::from_frozen((0..len).map(|_| stream.below(2) == 0)),
            1 => Mask::none(len),
            2 => Mask::all(len),
            _ => Mask::from_frozen((0..len).map(|i| i % 3 == 0)),
        }
    }

    /// Powers of 2 and 0, which round nothing.
    fn factors(&self, number: usize) -> [f64; 2] {
        let all = [[2.0, 1.0], [0.5, 0.0], [0.5, 0.0], [1.0, 2.0]];
        if self.scaled { all[number % 4] } else { [1.0; 2] }
    }

    /// Whether frozen gradients count, too.
    fn over_all(&self) -> bool {
        matches!(self.clip, Some(Clip::Norm { over_all: true, .. }))
    }

    /// The operations in use, `+` between them.
    pub(super) fn op(&self) -> String {
        let parts = [(self.accumulate, "accumulate"), (self.clip.is_some(), "clip"), (true, "update")];
        parts.iter().filter(|(used, _)| *used).map(|(_, name)| *name).collect::<Vec<_>>().join("+")
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
        let tensor = |part: usize, shape: fn(f32) -> f32| -> Vec<u32> {
            let mut stream = case.stream(10 * id.0 + part);
            let kept = |i: usize| kept(i) && !(part == 1 && update.over_all());
            let draw = |i: usize| {
                let x = stream.normal();
                if let Some(planted) = update.planted {
                    // Weights, gradient and state take turns, tensor by tensor.
                    let here = i == planted.at && id.0 % (2 + slots.len()) == part;
                    return if here { planted.value.to_bits() } else { shape(x).to_bits() };
                }
                // Half of the kept elements are ordinary numbers.
                if kept(i) && i.is_multiple_of(2) {
                    SPECIALS[(i / 2 + part) % SPECIALS.len()]
                } else {
                    shape(x).to_bits()
                }
            };
            (0..len).map(draw).collect()
        };
        let shape = |slot: usize| -> fn(f32) -> f32 {
            match slots[slot] {
                "v" | "v_max" | "sum" => f32::abs,
                // Above the square of any mean gradient, so that their difference does not cancel.
                "square_avg" => |x| 1.0 + x.abs(),
                "grad_avg" => |x| 0.1 * x,
                _ => |x| x,
            }
        };
        let state = (0..slots.len()).map(|slot| tensor(2 + slot, shape(slot))).collect();
        Before { weights: tensor(0, |x| x), gradient: tensor(1, |x| x), state, mask }
    }
}

pub(super) fn run(
    gpu: &Gpu,
    case: &Case,
    update: &Update,
    family: GemmFamily,
) -> std::result::Result<Measured, Stop> {
    let built = update.build()?;
    let options = case.options(PlanOptions::default().family(family).guard_bands(true));
    let plan = Plan::compile(gpu, &built.graph, &options)?;
    let store = plan.store();
    let mut reference = Reference::new(&built.graph)?;
    let before: Vec<_> = built.parameters.iter().map(|&id| Before::new(case, update, id)).collect();
    store.guard_padding()?;
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
    let step = STEP;
    let batches: &[StepScalars] = if update.accumulate {
        &[StepScalars { share: 0.25, last: 0, ..step }, StepScalars { share: 0.75, first: 0, ..step }]
    } else {
        &[step]
    };
    for &batch in batches {
        for (&id, &gradient) in built.targets.iter().zip(&built.gradients) {
            let bits = &before[id.0].gradient;
            plan.write_f32(gradient, &bits.iter().map(|&b| f32::from_bits(b)).collect::<Vec<_>>())?;
            reference.write(gradient, &wide(bits))?;
        }
        plan.run(batch)?;
        reference.run(batch)?;
    }
    if matches!(update.clip, Some(Clip::Norm { .. })) {
        let (got, want) = (f64::from(plan.sums()?.gradient_norm), reference.gradient_norm());
        let elements: usize = update.sizes.iter().sum();
        compare("gradient norm", &[got], &[want], &[(elements + 6) as f64 * HALF_ULP * want])?;
    }
    let mut worst = 0.0f64;
    for &id in &built.parameters {
        let bound = of_update(update, id.0, &before);
        let before = &before[id.0];
        let path = &built.graph.parameters()[id.0].path;
        let value = reference.read(built.graph.at_parameter(id));
        let got = store.read_weights(id)?;
        let live = |i: usize| !before.mask.is_frozen(i) && !update.is_left_out(id);
        let planted = update.planted.map(|planted| planted.at);
        let hold = |what: &str, got: &[u32], old: &[u32], want: &[f64], bound: &[f64]| {
            hold(what, got, old, want, bound, live, planted)
        };
        worst = worst.max(hold(&format!("{path}: weights"), &got, &before.weights, value, &bound[0])?);
        for (slot, old) in before.state.iter().enumerate() {
            let what = format!("{path}: {}", update.rule.slots()[slot]);
            let got = store.read_state(slot, id)?;
            let want = reference.state(id, slot);
            worst = worst.max(hold(&what, &got, old, want, &bound[1 + slot])?);
        }
    }
    store.check_padding()?;
    plan.check_guards()?;
    Ok(Measured { kernels: distinct(plan.report().dispatches.iter().map(|d| d.kernel)), worst })
}

/// Live elements within their bounds of `want`, all others with the bits of `old`. What becomes of the planted one is its own
/// affair.
fn hold(
    what: &str,
    got: &[u32],
    old: &[u32],
    want: &[f64],
    bound: &[f64],
    live: impl Fn(usize) -> bool,
    planted: Option<usize>,
) -> std::result::Result<f64, String> {
    if let Some(i) = (0..got.len()).find(|&i| !live(i) && got[i] != old[i]) {
        return Err(format!("{what}: kept element {i} was {:#010x} and is {:#010x}", old[i], got[i]));
    }
    let judged = |&i: &usize| live(i) && planted != Some(i);
    let pick = |x: &[f64]| (0..got.len()).filter(judged).map(|i| x[i]).collect::<Vec<_>>();
    if want.is_empty() {
        return Ok(0.0); // The reference has no state for what is never updated.
    }
    compare(what, &pick(&wide(got)), &pick(want), &pick(bound))
}

/// What the update sees of each gradient element, and how far that may be off as a share of it.
fn seen(update: &Update, all: &[Before]) -> (impl Fn(f64) -> f64, f64) {
    let mut squares = 0.0;
    let mut count = 0;
    for (number, before) in all.iter().enumerate().filter(|(n, _)| !update.left_out.contains(n)) {
        count += update.sizes[number];
        for (i, &bits) in before.gradient.iter().enumerate() {
            if update.over_all() || !before.mask.is_frozen(i) {
                squares += f64::from(f32::from_bits(bits)).powi(2);
            }
        }
    }
    let clip = update.clip;
    let clipped = move |g: f64| match clip {
        None => g,
        Some(Clip::Value { limit }) => g.min(limit),
        Some(Clip::Norm { max, .. }) => g * (max / (squares.sqrt() + Clip::EPSILON)).min(1.0),
    };
    // The sum of squares in any order, its root, a division and a product.
    let of_norm = (count + 12) as f64;
    let of_clip = match clip {
        None => 0.0,
        Some(Clip::Value { .. }) => 1.0,
        Some(Clip::Norm { .. }) => of_norm,
    };
    let of_sum = if update.accumulate { 3.0 } else { 0.0 };
    (clipped, (of_clip + of_sum) * HALF_ULP)
}

/// Bounds of the weights and of each state tensor of the parameter of this number.
fn of_update(update: &Update, number: usize, all: &[Before]) -> Vec<Vec<f64>> {
    let before = &all[number];
    let size = |bits: u32| f64::from(f32::from_bits(bits)).abs();
    let (clipped, of_g) = seen(update, all);
    let [rate, decay] = update.factors(number);
    let rule = update.rule.scale_decay(decay);
    let rates = Rates {
        lr: f64::from(STEP.learning_rate) * rate,
        corrections: [STEP.correction1.into(), STEP.correction2.into()],
    };
    let mut bounds = vec![Vec::new(); 1 + before.state.len()];
    for i in 0..before.weights.len() {
        let state: Vec<f64> = before.state.iter().map(|s| size(s[i])).collect();
        let g = clipped(size(before.gradient[i]));
        let element = Element { w: size(before.weights[i]), g, of_g, state: &state };
        let made = of_element(&rule, &rates, &element);
        bounds.iter_mut().zip(made).for_each(|(all, one)| all.push(one));
    }
    bounds
}
