//! The golden trajectories: builds their net as a graph and follows one with any executor.

use super::compare::check_relative;
use super::executor::{Executor, Make};
use super::golden::{Case, conv2d_layer, number};
use frazil::graph::{
    Clip, Conv2d, DType, Graph, Op, ParameterId, Role, StepScalars, Target, UpdateRule, ValueId,
};
use frazil::mask::Mask;
use frazil::shape::Shape;
use serde_json::Value;

/// A net with loss, gradients and update.
pub struct Net {
    pub graph: Graph,
    pub input: ValueId,
    pub labels: ValueId,
    pub mean_loss: ValueId,
    pub parameters: Vec<NetParameter>,
}

/// A parameter with its gradient, an output of the graph.
pub struct NetParameter {
    pub path: String,
    pub id: ParameterId,
    pub value: ValueId,
    pub gradient: ValueId,
}

/// The rule of `params.optimizer`.
pub fn update_rule(case: &Case) -> UpdateRule {
    let o = &case.params["optimizer"];
    let float = |field: &str| o[field].as_f64().unwrap_or_else(|| panic!("{}: {field}", case.name));
    let weight_decay = float("weight_decay");
    match o["type"].as_str() {
        Some("sgd") => UpdateRule::Sgd {
            momentum: float("momentum"),
            nesterov: o["nesterov"].as_bool().expect("nesterov"),
            weight_decay,
        },
        Some(kind @ ("adam" | "adamw")) => UpdateRule::Adam {
            beta1: float("beta1"),
            beta2: float("beta2"),
            epsilon: float("eps"),
            weight_decay,
            decoupled: kind == "adamw",
            amsgrad: false,
        },
        Some("rmsprop") => UpdateRule::RmsProp {
            alpha: float("alpha"),
            epsilon: float("eps"),
            momentum: float("momentum"),
            centered: false,
            weight_decay,
        },
        Some("adagrad") => UpdateRule::Adagrad { epsilon: float("eps"), weight_decay },
        other => panic!("{}: optimizer {other:?}", case.name),
    }
}

/// `params.clip`.
pub fn clip(case: &Case) -> Option<Clip> {
    let spec = &case.params["clip"];
    if spec.is_null() {
        return None;
    }
    assert_eq!(spec["eps"].as_f64(), Some(Clip::EPSILON), "{}", case.name);
    let clip = Clip::norm(spec["max_norm"].as_f64().expect("max_norm"));
    match spec["norm_over"].as_str() {
        Some("trainable") => Some(clip),
        Some("all") => Some(clip.over_all()),
        other => panic!("{}: norm over {other:?}", case.name),
    }
}

/// What a layer leaves for its backward pass.
enum Taped {
    Conv { conv: Conv2d, x: ValueId, kernel: ValueId, bias: ValueId, name: String },
    Relu { y: ValueId },
    Flatten { from: Vec<usize> },
    Dense { x: ValueId, kernel: ValueId, bias: ValueId, name: String },
}

fn parameter(graph: &mut Graph, name: &str, tensor: &str, shape: &[usize]) -> ValueId {
    graph.parameter(&format!("{name}.{tensor}"), Shape::new(shape).unwrap()).unwrap()
}

/// The net of `params.net`, trained by `rule`.
pub fn net(case: &Case, rule: UpdateRule) -> Net {
    let spec = &case.params["net"];
    let extents: Vec<_> = spec["input"].as_array().expect("input").iter().map(number).collect();
    let mut graph = Graph::new(extents[0]).unwrap();
    let input = graph.batch_input("input", &extents[1..], DType::F32).unwrap();
    let labels = graph.batch_input("labels", &[], DType::U32).unwrap();

    let mut taped = Vec::new();
    let mut x = input;
    for layer in spec["layers"].as_array().expect("layers") {
        let (next, tape) = forward(&mut graph, layer, x, &case.name);
        taped.push(tape);
        x = next;
    }
    let logits = x;
    let loss = graph.push_one(Op::SoftmaxCrossEntropy { smoothing: 0.0 }, &[logits, labels], "loss").unwrap();
    let mean_loss = graph.push_one(Op::Metrics, &[loss, logits, labels], "metrics").unwrap();
    graph.mark_output(mean_loss).unwrap();

    let mut dy = graph
        .push_one(Op::SoftmaxCrossEntropyGrad { smoothing: 0.0 }, &[logits, labels], "loss grad")
        .unwrap();
    let mut gradients = Vec::new();
    for (depth, tape) in taped.iter().enumerate().rev() {
        dy = backward(&mut graph, tape, dy, depth > 0, &mut gradients);
    }
    let parameters: Vec<_> =
        gradients.into_iter().rev().map(|pair| net_parameter(&mut graph, pair)).collect();
    let (ids, gradients): (Vec<_>, Vec<_>) = parameters.iter().map(|p| (p.id, p.gradient)).unzip();
    if let Some(clip) = clip(case) {
        graph.push(Op::Clip(clip, ids.clone()), &gradients, "clip").unwrap();
    }
    let targets = ids.into_iter().map(Target::from).collect();
    graph.push(Op::Update(rule, targets), &gradients, "update").unwrap();
    Net { graph, input, labels, mean_loss, parameters }
}

fn net_parameter(graph: &mut Graph, (value, gradient): (ValueId, ValueId)) -> NetParameter {
    graph.mark_output(gradient).unwrap();
    let info = graph.value(value).unwrap();
    let Role::Parameter(id) = info.role else { panic!("{} is no parameter", info.name) };
    NetParameter { path: info.name.clone(), id, value, gradient }
}

fn forward(graph: &mut Graph, layer: &Value, x: ValueId, at: &str) -> (ValueId, Taped) {
    let name = layer["name"].as_str().unwrap_or_default().to_owned();
    let extents = graph.value(x).unwrap().shape.extents().to_vec();
    match layer["type"].as_str() {
        Some("conv2d") => {
            let conv = conv2d_layer(layer, [extents[1], extents[2]], at);
            let kernel = parameter(graph, &name, "kernel", &conv.kernel_shape());
            let bias = parameter(graph, &name, "bias", &[conv.c_out]);
            let product = graph.push_one(Op::Conv2d(conv), &[x, kernel], &name).unwrap();
            let y = graph.push_one(Op::BiasAdd, &[product, bias], &format!("{name} bias")).unwrap();
            (y, Taped::Conv { conv, x, kernel, bias, name })
        }
        Some("relu") => {
            let y = graph.push_one(Op::Relu, &[x], "relu").unwrap();
            (y, Taped::Relu { y })
        }
        Some("flatten") => {
            let size = extents[1..].iter().product();
            assert_eq!(size, number(&layer["size"]), "{at}: flatten");
            let y = graph.push_one(Op::Reshape(vec![extents[0], size]), &[x], "flatten").unwrap();
            (y, Taped::Flatten { from: extents })
        }
        Some("dense") => {
            let shape = [number(&layer["inputs"]), number(&layer["outputs"])];
            let kernel = parameter(graph, &name, "kernel", &shape);
            let bias = parameter(graph, &name, "bias", &shape[1..]);
            let matmul = Op::MatMul { transpose_a: false, transpose_b: false };
            let product = graph.push_one(matmul, &[x, kernel], &name).unwrap();
            let y = graph.push_one(Op::BiasAdd, &[product, bias], &format!("{name} bias")).unwrap();
            (y, Taped::Dense { x, kernel, bias, name })
        }
        _ => panic!("{at}: layer {layer}"),
    }
}

/// Appends `(parameter, gradient)` pairs, bias before kernel; gives the gradient of the layer's input if that is
/// `wanted`, else `dy`.
fn backward(
    graph: &mut Graph,
    tape: &Taped,
    dy: ValueId,
    wanted: bool,
    gradients: &mut Vec<(ValueId, ValueId)>,
) -> ValueId {
    let mut push = |op: Op, inputs: &[ValueId], label: String| graph.push_one(op, inputs, &label).unwrap();
    match tape {
        Taped::Conv { conv, x, kernel, bias, name } => {
            gradients.push((*bias, push(Op::BiasGrad, &[dy], format!("{name} grad_bias"))));
            let dkernel = push(Op::Conv2dGradKernel(*conv), &[*x, dy], format!("{name} grad_kernel"));
            gradients.push((*kernel, dkernel));
            if wanted {
                push(Op::Conv2dGradInput(*conv), &[dy, *kernel], format!("{name} grad_input"))
            } else {
                dy
            }
        }
        Taped::Relu { y } => push(Op::ReluGrad, &[*y, dy], "relu grad".into()),
        Taped::Flatten { from } => push(Op::Reshape(from.clone()), &[dy], "flatten grad".into()),
        Taped::Dense { x, kernel, bias, name } => {
            gradients.push((*bias, push(Op::BiasGrad, &[dy], format!("{name} grad_bias"))));
            let transposed = |transpose_a, transpose_b| Op::MatMul { transpose_a, transpose_b };
            let dkernel = push(transposed(true, false), &[*x, dy], format!("{name} grad_kernel"));
            gradients.push((*kernel, dkernel));
            if wanted {
                push(transposed(false, true), &[dy, *kernel], format!("{name} grad_input"))
            } else {
                dy
            }
        }
    }
}

/// The scalars of step `t` from 0.
pub fn step_scalars(rule: &UpdateRule, rows: usize, t: usize, learning_rate: f64) -> StepScalars {
    let correction = |beta: f64| (1.0 - beta.powi(t as i32 + 1)) as f32;
    let (correction1, correction2) = match *rule {
        UpdateRule::Adam { beta1, beta2, .. } => (correction(beta1), correction(beta2)),
        _ => (1.0, 1.0),
    };
    let learning_rate = learning_rate as f32;
    StepScalars { learning_rate, correction1, correction2, step: t as u32, ..StepScalars::forward(rows) }
}

/// Relative errors allowed, or seen. README.md's table has what float32 can reach.
#[derive(Clone, Copy, Debug, Default)]
pub struct Errors {
    /// Weights after steps 1 to 5.
    pub early_weights: f64,
    /// Weights after later steps.
    pub weights: f64,
    /// First moments and momentum at the end.
    pub state: f64,
    /// Second moments at the end.
    pub second_moment: f64,
    /// Loss and gradient norms.
    pub loss: f64,
    /// Gradients of the first step.
    pub gradient: f64,
}

impl Errors {
    /// The larger of each.
    pub fn worst(self, other: Errors) -> Errors {
        Errors {
            early_weights: self.early_weights.max(other.early_weights),
            weights: self.weights.max(other.weights),
            state: self.state.max(other.state),
            second_moment: self.second_moment.max(other.second_moment),
            loss: self.loss.max(other.loss),
            gradient: self.gradient.max(other.gradient),
        }
    }
}

fn mask(case: &Case, prefix: &str, path: &str) -> Mask {
    Mask::from_frozen(case.u8(&format!("{prefix}.{path}")).into_iter().map(|bit| bit == 1))
}

/// The masks that come into force before step `t`, with thawed elements' state zeroed if the case says so.
fn change_masks(
    case: &Case,
    net: &Net,
    rule: &UpdateRule,
    executor: &mut dyn Executor,
    masks: &mut [Mask],
    t: usize,
) {
    let changes = case.params["mask_changes"].as_array().expect("mask_changes");
    let Some(change) = changes.iter().find(|change| number(&change["from_step"]) == t) else { return };
    let prefix = change["prefix"].as_str().expect("prefix");
    for (p, old) in net.parameters.iter().zip(masks) {
        let new = mask(case, prefix, &p.path);
        executor.set_mask(p.id, &new).unwrap();
        if t > 0 && case.params["thawed_slots"] == "reset" {
            let thawed = old.difference(&new).unwrap();
            for slot in 0..rule.slots().len() {
                let mut state = executor.state(p.id, slot);
                thawed.frozen_indices().for_each(|index| state[index] = 0.0);
                executor.write_state(p.id, slot, &state).unwrap();
            }
        }
        *old = new;
    }
}

/// Follows a trajectory for all its steps. `dense_gradients`: the executor gives gradients of frozen elements, too; if
/// not, only those of trainable ones are compared.
///
/// # Errors
/// What was off by more than `allowed`, and where; a frozen element that changed.
pub fn follow(make: Make, case: &Case, allowed: &Errors, dense_gradients: bool) -> Result<Errors, String> {
    let rule = update_rule(case);
    let net = net(case, rule);
    let mut executor = make(&net.graph);
    let executor = executor.as_mut();
    let mut seen = Errors::default();
    let mut masks: Vec<_> = Vec::new();
    for p in &net.parameters {
        let init = case.wide(&format!("init.{}", p.path));
        executor.write(p.value, &init).unwrap();
        masks.push(Mask::none(init.len()));
    }
    let (input, labels) = (case.wide("input"), case.wide("labels"));
    let (rates, losses) = (case.f64("lr_f64"), case.f64("loss_f64"));
    let norms = [case.f64("grad_norm_all_f64"), case.f64("grad_norm_trainable_f64")];
    let steps = number(&case.params["steps"]);
    let rows = net.graph.batch();
    let part = |all: &[f64], t: usize| all[all.len() / steps * t..all.len() / steps * (t + 1)].to_vec();

    for t in 0..steps {
        change_masks(case, &net, &rule, executor, &mut masks, t);
        let before: Vec<_> = net.parameters.iter().map(|p| executor.read(p.value)).collect();
        executor.write(net.input, &part(&input, t)).unwrap();
        executor.write(net.labels, &part(&labels, t)).unwrap();
        executor.run(step_scalars(&rule, rows, t, rates[t])).unwrap();

        let at = |what: &str| format!("{} step {t}: {what}", case.name);
        let loss = executor.read(net.mean_loss);
        seen.loss = seen.loss.max(check_relative(&at("loss"), &loss, &losses[t..=t], allowed.loss)?);
        let mut squares = [0.0; 2];
        for ((p, mask), before) in net.parameters.iter().zip(&masks).zip(&before) {
            let live = |data: Vec<f64>| -> Vec<f64> {
                let keep = |&(index, _): &(usize, f64)| dense_gradients || !mask.is_frozen(index);
                data.into_iter().enumerate().filter(keep).map(|(_, x)| x).collect()
            };
            let gradient = executor.read(p.gradient);
            for (index, g) in gradient.iter().enumerate() {
                squares[0] += g * g;
                squares[1] += if mask.is_frozen(index) { 0.0 } else { g * g };
            }
            if t == 0 {
                let want = live(case.f64(&format!("grad0.{}_f64", p.path)));
                let what = at(&format!("gradient of {}", p.path));
                seen.gradient =
                    seen.gradient.max(check_relative(&what, &live(gradient), &want, allowed.gradient)?);
            }
            let weights = executor.read(p.value);
            if let Some(index) = mask.frozen_indices().find(|&i| weights[i].to_bits() != before[i].to_bits())
            {
                return Err(at(&format!("frozen element {index} of {} changed", p.path)));
            }
            let all = case.f64(&format!("weights.{}_f64", p.path));
            let want = &all[weights.len() * (t + 1)..weights.len() * (t + 2)];
            let bound = if t < 5 { allowed.early_weights } else { allowed.weights };
            let error = check_relative(&at(&p.path), &weights, want, bound)?;
            let worst = if t < 5 { &mut seen.early_weights } else { &mut seen.weights };
            *worst = worst.max(error);
        }
        for (which, norms) in norms.iter().enumerate().skip(usize::from(!dense_gradients)) {
            let norm = squares[which].sqrt();
            seen.loss =
                seen.loss.max(check_relative(&at("gradient norm"), &[norm], &norms[t..=t], allowed.loss)?);
        }
    }
    final_state(case, &net, &masks, executor, allowed, &mut seen)?;
    Ok(seen)
}

fn final_state(
    case: &Case,
    net: &Net,
    masks: &[Mask],
    executor: &mut dyn Executor,
    allowed: &Errors,
    seen: &mut Errors,
) -> Result<(), String> {
    let slots = case.params["slots"].as_array().expect("slots");
    let changed = case.params["mask_changes"].as_array().expect("mask_changes").len() > 1;
    for (slot, name) in slots.iter().enumerate() {
        let name = name.as_str().expect("a slot's name");
        for (p, mask) in net.parameters.iter().zip(masks) {
            // After mask changes the state of elements frozen at the end is not in the golden data.
            let known = |data: Vec<f64>| -> Vec<f64> {
                let keep = |&(index, _): &(usize, f64)| !changed || !mask.is_frozen(index);
                data.into_iter().enumerate().filter(keep).map(|(_, x)| x).collect()
            };
            let what = format!("{} {name} of {}", case.name, p.path);
            let got = known(executor.state(p.id, slot));
            let want = known(case.f64(&format!("state.{name}.{}_f64", p.path)));
            let (bound, worst) = if ["exp_avg_sq", "square_avg", "sum"].contains(&name) {
                (allowed.second_moment, &mut seen.second_moment)
            } else {
                (allowed.state, &mut seen.state)
            };
            *worst = worst.max(check_relative(&what, &got, &want, bound)?);
            let untouched = |&(g, w): &(f64, f64)| w == 0.0 && g != 0.0;
            if !changed && got.iter().copied().zip(want.iter().copied()).any(|pair| untouched(&pair)) {
                return Err(format!("{what}: the state of an element that never trained is not 0"));
            }
        }
    }
    Ok(())
}
