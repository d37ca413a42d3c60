//! Runs masked updates on the device: compares trainable elements within bounds, and frozen elements and the
//! padding between tensors bit by bit.

use super::bounds::update_bounds;
use super::case::{Case, InitialTensors, Update};
use super::compare::{HALF_ULP, Mismatch, compare_elements};
use super::outcome::{Failure, Measured, distinct};
use super::tensors::Tensors;
use crate::compiler::PlanOptions;
use crate::engine::Plan;
use crate::gpu::Gpu;
use crate::graph::{Clip, StepScalars};
use crate::reference::Reference;

/// The scalars of the step of an update.
fn scalars(update: &Update) -> StepScalars {
    // Adam's bias corrections, 1 - beta^(step + 1), for the default betas.
    let [correction1, correction2] = if update.missed_steps { [1.0, 1.0] } else { [0.271, 0.002_997] };
    let step = update.step();
    StepScalars { learning_rate: 0.05, correction1, correction2, step, ..StepScalars::forward(1) }
}

/// Runs one update and compares weights, optimizer state and the clipped norm.
pub(super) fn run(
    gpu: &Gpu,
    case: &Case,
    update: &Update,
    options: &PlanOptions,
    tensors: &mut Tensors,
) -> std::result::Result<Measured, Failure> {
    let built = update.build()?;
    let plan = Plan::compile(gpu, &built.graph, options)?;
    let store = plan.store();
    let mut reference = Reference::new(&built.graph)?;
    let before: Vec<_> = built.parameters.iter().map(|&id| InitialTensors::new(case, update, id)).collect();
    store.guard_padding()?;
    for (&id, before) in built.parameters.iter().zip(&before) {
        store.write_mask(id, &before.mask)?;
        store.write_weights(id, &before.weights)?;
        reference.set_mask(id, &before.mask)?;
        if update.missed_steps {
            store.write_missed_steps(id, &before.missed_steps)?;
            reference.set_missed_steps(id, &before.missed_steps)?;
        }
        reference.write(built.graph.at_parameter(id), &to_f64(&before.weights))?;
        for (slot, state) in before.state.iter().enumerate() {
            store.write_state(slot, id, state)?;
            if !update.is_excluded(id) {
                reference.write_state(id, slot, &to_f64(state))?;
            }
        }
    }
    let step = scalars(update);
    let batches = if update.accumulate {
        vec![StepScalars { share: 0.25, last: 0, ..step }, StepScalars { share: 0.75, first: 0, ..step }]
    } else {
        vec![step]
    };
    for batch in batches {
        for (&id, &gradient) in built.targets.iter().zip(&built.gradients) {
            let bits = &before[id.0].gradient;
            plan.write_f32(gradient, &bits.iter().map(|&b| f32::from_bits(b)).collect::<Vec<_>>())?;
            reference.write(gradient, &to_f64(bits))?;
        }
        plan.run(batch)?;
        reference.run(batch)?;
    }
    if matches!(update.clip, Some(Clip::Norm { .. })) {
        let (got, want) = (f64::from(plan.sums()?.gradient_norm), reference.gradient_norm());
        let elements: usize = update.sizes.iter().sum();
        compare_elements("gradient norm", &[got], &[want], &[(elements + 6) as f64 * HALF_ULP * want])?;
    }
    let mut worst_error = 0.0f64;
    for &id in &built.parameters {
        let bound = update_bounds(update, id.0, &before, &step);
        let before = &before[id.0];
        let path = &built.graph.parameters()[id.0].path;
        tensors.copy(&format!("{path}: gradient"), &[before.gradient.len()], &to_f64(&before.gradient));
        let trainable = |i: usize| !before.mask.is_frozen(i) && !update.is_excluded(id);
        // The result of the element with the injected value is not compared.
        let compared = |i: usize| trainable(i) && update.planted.is_none_or(|planted| planted.index != i);
        let mut check = |name: &str, got: &[u32], old: &[u32], want: &[f64], bound: &[f64]| {
            let what = format!("{path}: {name}");
            tensors.hash(got);
            for (of, values) in [("before", &to_f64(old)), ("got", &to_f64(got))] {
                tensors.copy(&format!("{what}: {of}"), &[old.len()], values);
            }
            if !want.is_empty() {
                tensors.copy(&format!("{what}: expected"), &[want.len()], want);
            }
            compare_unchanged(&what, got, old, trainable)?;
            let error = compare_selected(&what, got, want, bound, compared)?;
            worst_error = worst_error.max(error);
            Ok::<_, Failure>(())
        };
        let want = reference.read(built.graph.at_parameter(id));
        check("weights", &store.read_weights(id)?, &before.weights, want, &bound[0])?;
        for (slot, old) in before.state.iter().enumerate() {
            let got = store.read_state(slot, id)?;
            let want = reference.state(id, slot);
            check(update.rule.slots()[slot], &got, old, want, &bound[1 + slot])?;
        }
    }
    store.check_padding()?;
    plan.check_guards()?;
    Ok(Measured { kernels: distinct(plan.report().dispatches.iter().map(|d| d.kernel)), worst_error })
}

fn to_f64(bits: &[u32]) -> Vec<f64> {
    bits.iter().map(|&b| f64::from(f32::from_bits(b))).collect()
}

/// Checks that elements that are not trainable have the same bits as before.
fn compare_unchanged(
    what: &str,
    got: &[u32],
    old: &[u32],
    trainable: impl Fn(usize) -> bool,
) -> std::result::Result<(), String> {
    match (0..got.len()).find(|&i| !trainable(i) && got[i] != old[i]) {
        Some(i) => {
            Err(format!("{what}: frozen element {i}: expected {:#010x}, got {:#010x}", old[i], got[i]))
        }
        None => Ok(()),
    }
}

/// Compares the selected elements within their bounds.
fn compare_selected(
    what: &str,
    got: &[u32],
    want: &[f64],
    bound: &[f64],
    selected: impl Fn(usize) -> bool,
) -> std::result::Result<f64, Mismatch> {
    // The reference has no state for a parameter that is not updated; none of its elements is selected.
    if want.is_empty() {
        return Ok(0.0);
    }
    let indices: Vec<usize> = (0..got.len()).filter(|&i| selected(i)).collect();
    let pick = |x: &[f64]| indices.iter().map(|&i| x[i]).collect::<Vec<_>>();
    compare_elements(what, &pick(&to_f64(got)), &pick(want), &pick(bound))
        .map_err(|wrong| Mismatch { index: indices[wrong.index], ..wrong })
}
