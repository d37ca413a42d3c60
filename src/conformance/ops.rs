//! Runs chains of operations on the device and compares their results with the reference.

use super::bounds::bounds;
use super::case::{Case, Fill, Operand, Ops, OpsGraph, Wire, Work};
use super::compare::{HALF_ULP, compare, compare_negative_zeros};
use super::outcome::{Failure, Measured, distinct};
use crate::compiler::PlanOptions;
use crate::engine::Plan;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::graph::{DType, Op, ParameterId, StepScalars, ValueId};
use crate::kernels::GemmFamily;

/// Runs a case with a full batch and with each short batch, with a guard band after every tensor, and
/// compares all results.
pub(super) fn run(
    gpu: &Gpu,
    case: &Case,
    ops: &Ops,
    family: GemmFamily,
    options: &PlanOptions,
) -> std::result::Result<Measured, Failure> {
    let built = ops.build()?;
    let data = operands(case, ops, family);
    let plan = compile(gpu, ops, &built, options)?;
    write(&plan, &built, &data)?;
    run_rows(&plan, ops.batch)?;
    let mut worst_error = compare_results(case, ops, &built, &plan, &data, ops.batch)?;
    for &rows in &ops.short_batches {
        // Runs a full batch with NaN in the unused rows first, so that unused rows of workspaces are NaN too.
        write(&plan, &built, &poisoned(ops, &data, rows))?;
        run_rows(&plan, ops.batch)?;
        let before = read_outputs(&plan, &built)?;
        run_rows(&plan, rows)?;
        worst_error = worst_error.max(compare_results(case, ops, &built, &plan, &data, rows)?);
        for (output, before) in built.outputs().iter().zip(before) {
            let value = built.graph.at(output.id);
            let used = if value.batched { rows * value.elements_per_row() } else { before.len() };
            if read(&plan, output.id)?[used..] != before[used..] {
                return Err(Failure::Mismatch(format!("{}: rows beyond {rows} were written", value.name)));
            }
        }
    }
    plan.check_guards()?;
    Ok(Measured { kernels: distinct(plan.report().dispatches.iter().map(|d| d.kernel)), worst_error })
}

/// The bits of every result that a case compares, for a full batch; empty for an update. All `options` are
/// used, except for those that [`Case::options`] sets.
///
/// # Errors
/// As [`Plan::compile`] and [`Plan::run`].
pub fn outputs(gpu: &Gpu, case: &Case, options: &PlanOptions) -> Result<Vec<Vec<u32>>> {
    let Work::Ops(ops) = &case.work else { return Ok(Vec::new()) };
    let built = ops.build()?;
    let plan = compile(gpu, ops, &built, &case.options(options.clone()))?;
    write(&plan, &built, &case.data())?;
    plan.run(StepScalars::forward(ops.batch))?;
    read_outputs(&plan, &built)
}

/// The reference's results for the first `rows` rows of `data`, in the order of [`outputs`]; empty for an
/// update.
///
/// # Errors
/// As [`crate::reference::Reference::run`].
pub fn reference_outputs(case: &Case, data: &[Vec<f64>], rows: usize) -> Result<Vec<Vec<f64>>> {
    let Work::Ops(ops) = &case.work else { return Ok(Vec::new()) };
    let built = ops.build()?;
    let reference = built.evaluate(data, rows)?;
    Ok(built.outputs().iter().map(|output| reference.read(output.id).to_vec()).collect())
}

/// The case's operands. For cooperative matrices, which round operands to f16, floats are rounded to f16 in
/// advance: the products are then exact in f32, and the bounds need no allowance for that rounding.
fn operands(case: &Case, ops: &Ops, family: GemmFamily) -> Vec<Vec<f64>> {
    let mut data = case.data();
    if matches!(family, GemmFamily::Cooperative { .. }) {
        let floats = ops.operands.iter().zip(&mut data).filter(|(operand, _)| operand.dtype() == DType::F32);
        floats.flat_map(|(_, data)| data).for_each(|x| *x = to_f16(*x));
    }
    data
}

/// Rounds to the nearest f16, ties to even: 11 significant bits, multiples of 2^-24. Overflow is not handled,
/// because no operand exceeds the range of f16.
fn to_f16(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let step = 2f64.powi((x.abs().log2().floor() as i32).max(-14) - 10);
    (x / step).round_ties_even() * step
}

fn compile(gpu: &Gpu, ops: &Ops, built: &OpsGraph, options: &PlanOptions) -> Result<Plan> {
    let plan = Plan::compile(gpu, &built.graph, options)?;
    if let Some(partial) = &ops.partial {
        plan.store().write_mask(ParameterId::of(0), &partial.mask)?;
    }
    Ok(plan)
}

fn run_rows(plan: &Plan, rows: usize) -> Result<()> {
    plan.clear_sums()?;
    plan.clear_non_finite()?;
    plan.run(StepScalars::forward(rows))
}

/// Returns the operands with all rows from `rows` on replaced by NaN (by the largest integer for integer
/// operands).
fn poisoned(ops: &Ops, data: &[Vec<f64>], rows: usize) -> Vec<Vec<f64>> {
    let poison = |(operand, data): (&Operand, &Vec<f64>)| {
        let mut data = data.clone();
        if operand.batched {
            let poison = if operand.dtype() == DType::F32 { f64::NAN } else { f64::from(u32::MAX) };
            data[rows * operand.elements_per_row()..].fill(poison);
        }
        data
    };
    ops.operands.iter().zip(data).map(poison).collect()
}

fn write(plan: &Plan, built: &OpsGraph, data: &[Vec<f64>]) -> Result<()> {
    for (&input, data) in built.inputs.iter().zip(data) {
        match built.graph.at(input).dtype {
            DType::F32 => plan.write_f32(input, &data.iter().map(|&x| x as f32).collect::<Vec<_>>())?,
            DType::U32 => plan.write_u32(input, &data.iter().map(|&x| x as u32).collect::<Vec<_>>())?,
        }
    }
    Ok(())
}

fn read(plan: &Plan, id: ValueId) -> Result<Vec<u32>> {
    match plan.graph().at(id).dtype {
        DType::F32 => Ok(plan.read_f32(id)?.into_iter().map(f32::to_bits).collect()),
        DType::U32 => plan.read_u32(id),
    }
}

fn read_outputs(plan: &Plan, built: &OpsGraph) -> Result<Vec<Vec<u32>>> {
    built.outputs().iter().map(|output| read(plan, output.id)).collect()
}

/// Compares the first `rows` rows of all results, and the running sums if there are metrics; returns the
/// largest error as a fraction of its bound.
fn compare_results(
    case: &Case,
    ops: &Ops,
    built: &OpsGraph,
    plan: &Plan,
    data: &[Vec<f64>],
    rows: usize,
) -> std::result::Result<f64, Failure> {
    let mut want = reference_outputs(case, data, rows)?;
    let mut bound = bounds(case, data, rows)?;
    if let Some(partial) = &ops.partial {
        // Gradients are initially 0, and the gradients of frozen elements must not be written.
        for index in partial.mask.frozen_indices() {
            (want[0][index], bound[0][index]) = (0.0, 0.0);
        }
    }
    let mut worst = 0.0f64;
    for ((output, want), bound) in built.outputs().iter().zip(&want).zip(&bound) {
        let value = built.graph.at(output.id);
        let to_f64 = |bits: u32| match value.dtype {
            DType::F32 => f64::from(f32::from_bits(bits)),
            DType::U32 => f64::from(bits),
        };
        let got: Vec<f64> = read(plan, output.id)?.into_iter().map(to_f64).collect();
        let used = if value.batched { rows * value.elements_per_row() } else { got.len() };
        let what = format!("{}, {rows} rows", value.name);
        worst = worst.max(compare(&what, &got[..used], &want[..used], &bound[..used])?);
        if ops.operands.iter().any(|operand| matches!(operand.fill, Fill::Planted { .. })) {
            compare_negative_zeros(&what, &got[..used], &want[..used])?;
        }
    }
    for ((op, wires), bound) in ops.nodes.iter().zip(&bound) {
        if let (Op::Metrics, [Wire::Operand(_), ..]) = (op, wires.as_slice()) {
            worst = worst.max(compare_sums(built, plan, data, rows, bound[0])?);
        }
    }
    Ok(worst)
}

/// Compares the running sums after one run of metrics: counts exactly, the loss within `mean_bound` times its
/// divisor.
fn compare_sums(
    built: &OpsGraph,
    plan: &Plan,
    data: &[Vec<f64>],
    rows: usize,
    mean_bound: f64,
) -> std::result::Result<f64, Failure> {
    let want = built.evaluate(data, rows)?.sums();
    let got = plan.sums()?;
    if (u64::from(got.correct), u64::from(got.examples)) != (want.correct, want.examples) {
        return Err(Failure::Mismatch(format!(
            "running sums of {rows} rows: expected {want:?}, got {got:?}"
        )));
    }
    let weight_bound = (4.0 + (rows as f64).sqrt()) * HALF_ULP * want.weight;
    let weight_error = compare("running weight", &[got.weight.into()], &[want.weight], &[weight_bound])?;
    let divisor = if want.weight > 0.0 { want.weight } else { rows as f64 };
    if let Some(step) = got.non_finite_step {
        let message = format!("running sums: expected finite losses, got a NaN or infinity in step {step}");
        return Err(Failure::Mismatch(message));
    }
    let loss_error = compare("running loss", &[got.loss.into()], &[want.loss], &[divisor * mean_bound])?;
    Ok(loss_error.max(weight_error))
}

#[cfg(test)]
mod tests {
    use super::to_f16;

    /// IEEE 754-2008 binary16 has 11 significant bits and a smallest step of 2^-24.
    #[test]
    fn to_f16_rounds_to_nearest_even() {
        let (half_step, least) = (2f64.powi(-11), 2f64.powi(-24));
        for (x, expected) in [
            (0.1, 0.0999755859375),
            (-1.0 / 3.0, -0.333251953125),
            (1.0 + half_step, 1.0),
            (1.0 + 3.0 * half_step, 1.0 + 4.0 * half_step),
            (2.0 - half_step / 2.0, 2.0),
            (65504.0, 65504.0),
            (least, least),
            (least / 2.0, 0.0),
            (1.5 * least, 2.0 * least),
            (0.0, 0.0),
        ] {
            assert_eq!(to_f16(x), expected, "{x}");
        }
    }
}
