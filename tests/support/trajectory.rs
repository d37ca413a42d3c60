//! Golden trajectories (tests/golden): builds the network of a case as a graph, and compares every training
//! step of an executor with the golden values.

use super::compare::check_relative;
use super::executor::{Executor, Make};
use super::golden::{Case, conv2d_layer, number};
use frazil::low_level::Shape;
use frazil::low_level::{Clip, DType, Graph, Op, ParameterId, StepScalars, Target, UpdateRule, ValueId};
use frazil::mask::Mask;
use serde_json::Value;

/// A training graph (network, loss, gradients and update) and the ids of its values.
pub struct Net {
    pub graph: Graph,
    pub input: ValueId,
    pub labels: ValueId,
    pub mean_loss: ValueId,
    pub parameters: Vec<NetParameter>,
}

/// A parameter and its gradient, which is an output of the graph.
pub struct NetParameter {
    pub path: String,
    pub id: ParameterId,
    pub value: ValueId,
    pub gradient: ValueId,
}

/// Reads the update rule of a case from `params.optimizer`.
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
        Some(kind @ ("adam" | "adamw" | "amsgrad")) => UpdateRule::Adam {
            beta1: float("beta1"),
            beta2: float("beta2"),
            epsilon: float("eps"),
            weight_decay,
            decoupled: kind == "adamw",
            amsgrad: kind == "amsgrad",
        },
        Some("rmsprop") => UpdateRule::RmsProp {
            alpha: float("alpha"),
            epsilon: float("eps"),
            momentum: float("momentum"),
            centered: false,
            weight_decay,
        },
        Some("adagrad") => UpdateRule::Adagrad { epsilon: float("eps"), weight_decay },
        other => panic!("{}: unknown optimizer {other:?}", case.name),
    }
}

/// Whether the bias correction of a case counts the steps in which each element was trained, and not all
/// steps.
pub fn counts_element_steps(case: &Case) -> bool {
    match case.params["bias_correction"].as_str() {
        None => false,
        Some("element steps") => true,
        other => panic!("{}: unknown bias correction {other:?}", case.name),
    }
}

/// Reads the gradient clipping of a case from `params.clip`; `None` if the case does not clip gradients.
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
        other => panic!("{}: expected a norm over trainable or all, got {other:?}", case.name),
    }
}

fn parameter(graph: &mut Graph, name: &str, tensor: &str, shape: &[usize]) -> ValueId {
    graph.parameter(&format!("{name}.{tensor}"), Shape::new(shape).unwrap()).unwrap()
}

/// Builds the network that `params.net` describes, trained with the update rule `rule`; [`Graph::backward`]
/// appends the gradients.
pub fn net(case: &Case, rule: UpdateRule) -> Net {
    let spec = &case.params["net"];
    let extents: Vec<_> = spec["input"].as_array().expect("input").iter().map(number).collect();
    let mut graph = Graph::new(extents[0]).unwrap();
    let input = graph.batch_input("input", &extents[1..], DType::F32).unwrap();
    let labels = graph.batch_input("labels", &[], DType::U32).unwrap();

    let layers = spec["layers"].as_array().expect("layers");
    let logits = layers.iter().fold(input, |x, layer| forward(&mut graph, layer, x, &case.name));
    let losses =
        graph.push_one(Op::SoftmaxCrossEntropy { smoothing: 0.0 }, &[logits, labels], "loss").unwrap();
    let mean_loss = graph.push_one(Op::Metrics, &[losses, logits, labels], "metrics").unwrap();
    graph.mark_output(mean_loss).unwrap();

    let ids: Vec<_> = (0..graph.parameters().len()).map(ParameterId::of).collect();
    let values: Vec<_> = ids.iter().map(|&id| graph.parameter_value(id).unwrap()).collect();
    let gradients = graph.backward(mean_loss, &values).unwrap();
    gradients.iter().for_each(|&gradient| graph.mark_output(gradient).unwrap());
    if let Some(clip) = clip(case) {
        graph.push(Op::Clip(clip, ids.clone()), &gradients, "clip").unwrap();
    }
    let targets = ids.iter().map(|&id| Target::from(id)).collect();
    graph.push(Op::Update(rule, targets), &gradients, "update").unwrap();
    let parameter = |id: ParameterId| NetParameter {
        path: graph.parameters()[id.index()].path.clone(),
        id,
        value: values[id.index()],
        gradient: gradients[id.index()],
    };
    let parameters = ids.into_iter().map(parameter).collect();
    Net { graph, input, labels, mean_loss, parameters }
}

/// Appends a layer that `params.net` describes, and returns its result.
fn forward(graph: &mut Graph, layer: &Value, x: ValueId, at: &str) -> ValueId {
    let name = layer["name"].as_str().unwrap_or_default().to_owned();
    let extents = graph.value(x).unwrap().shape.extents().to_vec();
    let (op, kernel_shape) = match layer["type"].as_str() {
        Some("relu") => return graph.push_one(Op::Relu, &[x], "relu").unwrap(),
        Some("flatten") => {
            let size = extents[1..].iter().product();
            assert_eq!(size, number(&layer["size"]), "{at}: flatten");
            return graph.push_one(Op::Reshape(vec![extents[0], size]), &[x], "flatten").unwrap();
        }
        Some("conv2d") => {
            let conv = conv2d_layer(layer, [extents[1], extents[2]], at);
            (Op::Conv2d(conv), conv.kernel_shape().to_vec())
        }
        Some("dense") => {
            let op = Op::MatMul { transpose_a: false, transpose_b: false };
            (op, vec![number(&layer["inputs"]), number(&layer["outputs"])])
        }
        _ => panic!("{at}: expected relu, flatten, conv2d or dense, got layer {layer}"),
    };
    let kernel = parameter(graph, &name, "kernel", &kernel_shape);
    let bias = parameter(graph, &name, "bias", &kernel_shape[kernel_shape.len() - 1..]);
    let y = graph.push_one(op, &[x, kernel], &name).unwrap();
    graph.push_one(Op::BiasAdd, &[y, bias], &format!("{name} bias")).unwrap()
}

/// Returns Adam's bias corrections at step `t`, counted from 0: `1 - beta^(t + 1)`; 1 for other rules.
fn corrections(rule: &UpdateRule, t: usize) -> [f64; 2] {
    match *rule {
        UpdateRule::Adam { beta1, beta2, .. } => [beta1, beta2].map(|beta| 1.0 - beta.powi(t as i32 + 1)),
        _ => [1.0; 2],
    }
}

/// Returns the scalars of step `t`, counted from 0.
fn step_scalars(rule: &UpdateRule, rows: usize, t: usize, learning_rate: f64) -> StepScalars {
    let [correction1, correction2] = corrections(rule, t).map(|correction| correction as f32);
    let learning_rate = learning_rate as f32;
    StepScalars { learning_rate, correction1, correction2, step: t as u32, ..StepScalars::forward(rows) }
}

/// Returns the largest relative error of an update that is caused by rounding its scalars to f32, to first
/// order: the error of `learning_rate * sqrt(correction2) / correction1`.
pub fn update_rounding(case: &Case) -> f64 {
    let rule = update_rule(case);
    let rounding = |x: f64| (f64::from(x as f32) - x).abs() / x;
    let of_step = |(t, rate): (usize, f64)| {
        let [correction1, correction2] = corrections(&rule, t).map(rounding);
        rounding(rate) + correction1 + 0.5 * correction2
    };
    case.f64("lr_f64").into_iter().enumerate().map(of_step).fold(0.0, f64::max)
}

/// Relative errors: those that a test allows, or the largest ones of a run. tests/golden/README.md has a
/// table of what float32 can reach.
#[derive(Clone, Copy, Debug, Default)]
pub struct Errors {
    /// Weights after steps 1 to 5, relative to the weights.
    pub early_weights: f64,
    /// Weights after later steps, relative to the weights.
    pub weights: f64,
    /// Weights, relative to the sum of the norms of all updates so far (the length of their path). This error
    /// is allowed in addition to `early_weights` or `weights`.
    pub updates: f64,
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
    /// Returns the element-wise maximum.
    pub fn max(self, other: Errors) -> Errors {
        Errors {
            early_weights: self.early_weights.max(other.early_weights),
            weights: self.weights.max(other.weights),
            updates: self.updates.max(other.updates),
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

/// Applies the mask change of a case before step `t`, if there is one, and zeroes the optimizer state of
/// thawed elements if the case requires it. `trained` counts the steps in which each element was trained.
fn change_masks(
    case: &Case,
    net: &Net,
    rule: &UpdateRule,
    executor: &mut dyn Executor,
    masks: &mut [Mask],
    trained: &mut [Vec<u32>],
    t: usize,
) {
    let changes = case.params["mask_changes"].as_array().expect("mask_changes");
    let Some(change) = changes.iter().find(|change| number(&change["from_step"]) == t) else { return };
    let prefix = change["prefix"].as_str().expect("prefix");
    for ((p, old), trained) in net.parameters.iter().zip(masks).zip(trained) {
        let new = mask(case, prefix, &p.path);
        executor.set_mask(p.id, &new).unwrap();
        if t > 0 && case.params["thawed_slots"] == "reset" {
            let thawed = old.difference(&new).unwrap();
            thawed.frozen_indices().for_each(|index| trained[index] = 0);
            for slot in 0..rule.slots().len() {
                let mut state = executor.state(p.id, slot);
                thawed.frozen_indices().for_each(|index| state[index] = 0.0);
                executor.write_state(p.id, slot, &state).unwrap();
            }
        }
        if counts_element_steps(case) {
            let missed: Vec<_> = trained.iter().map(|trained| t as u32 - trained).collect();
            executor.set_missed_steps(p.id, &missed).unwrap();
        }
        *old = new;
    }
}

/// Runs all steps of a trajectory and compares loss, gradients, weights and state with the golden ones.
/// Returns the largest errors.
///
/// # Errors
/// Names a value that differs by more than `allowed` with its step, or a frozen element that changed.
pub fn check_trajectory(make: Make, case: &Case, allowed: &Errors) -> Result<Errors, String> {
    let rule = update_rule(case);
    let net = net(case, rule);
    let mut executor = make(&net.graph);
    let executor = executor.as_mut();
    let mut errors = Errors::default();
    let mut masks = Vec::new();
    let mut trained = Vec::new();
    // Sum of the norms of the updates of each parameter so far.
    let mut paths = vec![0.0; net.parameters.len()];
    for p in &net.parameters {
        let init = case.wide(&format!("init.{}", p.path));
        executor.write(p.value, &init).unwrap();
        masks.push(Mask::none(init.len()).unwrap());
        trained.push(vec![0; init.len()]);
    }
    let (input, labels) = (case.wide("input"), case.wide("labels"));
    let (rates, losses) = (case.f64("lr_f64"), case.f64("loss_f64"));
    let norms = [case.f64("grad_norm_all_f64"), case.f64("grad_norm_trainable_f64")];
    let steps = number(&case.params["steps"]);
    let rows = net.graph.batch();
    let part = |all: &[f64], t: usize| all[all.len() / steps * t..all.len() / steps * (t + 1)].to_vec();

    for t in 0..steps {
        change_masks(case, &net, &rule, executor, &mut masks, &mut trained, t);
        let before: Vec<_> = net.parameters.iter().map(|p| executor.read(p.value)).collect();
        executor.write(net.input, &part(&input, t)).unwrap();
        executor.write(net.labels, &part(&labels, t)).unwrap();
        executor.run(step_scalars(&rule, rows, t, rates[t])).unwrap();

        let at = |what: &str| format!("{} step {t}: {what}", case.name);
        let loss = executor.read(net.mean_loss);
        errors.loss = errors.loss.max(check_relative(&at("loss"), &loss, &losses[t..=t], allowed.loss)?);
        let mut squares = [0.0; 2];
        for (((p, mask), before), path) in net.parameters.iter().zip(&masks).zip(&before).zip(&mut paths) {
            let gradient = executor.read(p.gradient);
            for (index, g) in gradient.iter().enumerate() {
                squares[0] += g * g;
                squares[1] += if mask.is_frozen(index) { 0.0 } else { g * g };
            }
            if t == 0 {
                let want = case.f64(&format!("grad0.{}_f64", p.path));
                let what = at(&format!("gradient of {}", p.path));
                errors.gradient =
                    errors.gradient.max(check_relative(&what, &gradient, &want, allowed.gradient)?);
            }
            let weights = executor.read(p.value);
            if let Some(index) = mask.frozen_indices().find(|&i| weights[i].to_bits() != before[i].to_bits())
            {
                return Err(at(&format!("frozen element {index} of {} changed", p.path)));
            }
            let all = case.f64(&format!("weights.{}_f64", p.path));
            let [last, want] = [t, t + 1].map(|row| &all[weights.len() * row..weights.len() * (row + 1)]);
            *path += norm(want.iter().zip(last).map(|(new, old)| new - old));
            let size = Some(norm(want.iter().copied())).filter(|&norm| norm > 0.0).unwrap_or(1.0);
            let relative = if t < 5 { allowed.early_weights } else { allowed.weights };
            let error =
                check_relative(&at(&p.path), &weights, want, relative + allowed.updates * *path / size)?;
            let worst = if t < 5 { &mut errors.early_weights } else { &mut errors.weights };
            *worst = worst.max(error);
            if *path > 0.0 {
                errors.updates = errors.updates.max(error * size / *path);
            }
        }
        for (mask, trained) in masks.iter().zip(&mut trained) {
            mask.complement().frozen_indices().for_each(|index| trained[index] += 1);
        }
        for (squares, norms) in squares.iter().zip(&norms) {
            let (what, norm) = (at("gradient norm"), squares.sqrt());
            errors.loss = errors.loss.max(check_relative(&what, &[norm], &norms[t..=t], allowed.loss)?);
        }
    }
    final_state(case, &net, &masks, executor, allowed, &mut errors)?;
    Ok(errors)
}

fn norm(elements: impl Iterator<Item = f64>) -> f64 {
    elements.map(|x| x * x).sum::<f64>().sqrt()
}

/// Compares the optimizer state after the last step, and updates `errors`.
///
/// # Errors
/// Names the first slot that differs, or an element whose golden state is 0 and whose actual state is not.
fn final_state(
    case: &Case,
    net: &Net,
    masks: &[Mask],
    executor: &mut dyn Executor,
    allowed: &Errors,
    errors: &mut Errors,
) -> Result<(), String> {
    let slots = case.params["slots"].as_array().expect("slots");
    let changed = case.params["mask_changes"].as_array().expect("mask_changes").len() > 1;
    for (slot, name) in slots.iter().enumerate() {
        let name = name.as_str().expect("a slot's name");
        for (p, mask) in net.parameters.iter().zip(masks) {
            // If a mask changes during training, the golden state of elements that are frozen at the end is
            // not meaningful, so these elements are not compared.
            let comparable = |data: Vec<f64>| -> Vec<f64> {
                let keep = |&(index, _): &(usize, f64)| !changed || !mask.is_frozen(index);
                data.into_iter().enumerate().filter(keep).map(|(_, x)| x).collect()
            };
            let what = format!("{} {name} of {}", case.name, p.path);
            let got = comparable(executor.state(p.id, slot));
            let want = comparable(case.f64(&format!("state.{name}.{}_f64", p.path)));
            let (bound, worst) = if ["exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum"].contains(&name) {
                (allowed.second_moment, &mut errors.second_moment)
            } else {
                (allowed.state, &mut errors.state)
            };
            *worst = worst.max(check_relative(&what, &got, &want, bound)?);
            if !changed && got.iter().zip(&want).any(|(&got, &want)| want == 0.0 && got != 0.0) {
                return Err(format!("{what}: the state of an element that was never trainable is not 0"));
            }
        }
    }
    Ok(())
}
