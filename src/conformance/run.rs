//! Runs a case on the device and holds it against the reference.

use super::bound::{HALF_ULP, bounds, compare, evaluate};
use super::case::{Built, Case, Fill, Ops, Wire, Work};
use super::{Outcome, Verdict, update};
use crate::compiler::PlanOptions;
use crate::engine::Plan;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::{DType, Op, ParameterId, StepScalars, ValueId};
use crate::kernels::GemmFamily;

/// What a finished case tells: the kernels that ran, and the largest error as a fraction of its bound.
pub(super) struct Measured {
    pub kernels: Vec<&'static str>,
    pub worst: f64,
}

/// Why a case did not finish: what is wrong with it, or what is wrong with the device.
pub(super) enum Stop {
    Wrong(String),
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Error(error)
    }
}

impl From<String> for Stop {
    fn from(message: String) -> Self {
        Stop::Wrong(message)
    }
}

/// Runs a case in a family, with guard bands behind all tensors: with a full batch, and with each short one while the rows
/// beyond hold NaN.
///
/// # Errors
/// [`Error::DeviceLost`], [`Error::Timeout`]; all else is a verdict.
pub fn run_case(gpu: &Gpu, case: &Case, family: GemmFamily) -> Result<Outcome> {
    let measured = match &case.work {
        Work::Ops(ops) => run_ops(gpu, case, ops, family),
        Work::Update(update) => update::run(gpu, case, update, family),
    };
    let (kernels, worst_error, verdict) = match measured {
        Ok(m) => (m.kernels, m.worst, Verdict::Pass),
        Err(Stop::Wrong(why)) => (kernels(case, gpu, family), f64::INFINITY, Verdict::Fail(why)),
        Err(Stop::Error(error @ (Error::DeviceLost { .. } | Error::Timeout { .. }))) => return Err(error),
        Err(Stop::Error(error)) => {
            (kernels(case, gpu, family), f64::INFINITY, Verdict::Fail(error.to_string()))
        }
    };
    let (name, op) = (case.name.clone(), case.op());
    Ok(Outcome { name, op, family, kernels, worst_error, verdict })
}

/// The kernels of a case that failed, as planned; none if it cannot even be planned.
fn kernels(case: &Case, gpu: &Gpu, family: GemmFamily) -> Vec<&'static str> {
    let graph = match &case.work {
        Work::Ops(ops) => ops.build().map(|built| built.graph),
        Work::Update(update) => update.build().map(|built| built.graph),
    };
    let options = case.options(PlanOptions::default().family(family));
    let report = graph.and_then(|graph| Plan::estimate(&graph, gpu.report(), &options));
    report.map(|report| distinct(report.dispatches.iter().map(|d| d.kernel))).unwrap_or_default()
}

/// Each name once, in order.
pub(super) fn distinct(names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut found = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// The bits of every result that the case compares, for a full batch; nothing for an update. `options` are used as they are,
/// but for the case's own workspace.
///
/// # Errors
/// As [`Plan::compile`] and [`Plan::run`].
pub fn outputs(gpu: &Gpu, case: &Case, options: &PlanOptions) -> Result<Vec<Vec<u32>>> {
    let Work::Ops(ops) = &case.work else { return Ok(Vec::new()) };
    let built = ops.build()?;
    let plan = compile(gpu, ops, &built, &case.options(options.clone()))?;
    write(&plan, &built, &case.data())?;
    plan.run(StepScalars::forward(ops.batch))?;
    built.outputs().iter().map(|&(_, _, id)| read(&plan, id)).collect()
}

/// The reference's results for `rows` rows of these operands, in the order of [`outputs`].
///
/// # Errors
/// As [`crate::reference::Reference::run`].
pub fn reference_outputs(case: &Case, data: &[Vec<f64>], rows: usize) -> Result<Vec<Vec<f64>>> {
    let Work::Ops(ops) = &case.work else { return Ok(Vec::new()) };
    let built = ops.build()?;
    let reference = evaluate(&built, data, rows)?;
    Ok(built.outputs().iter().map(|&(_, _, id)| reference.read(id).to_vec()).collect())
}

fn run_ops(gpu: &Gpu, case: &Case, ops: &Ops, family: GemmFamily) -> std::result::Result<Measured, Stop> {
    let built = ops.build()?;
    let data = operands(case, ops, family);
    let options = case.options(PlanOptions::default().family(family).guard_bands(true));
    let plan = compile(gpu, ops, &built, &options)?;
    write(&plan, &built, &data)?;
    run(&plan, ops.batch)?;
    let mut worst = hold(case, ops, &built, &plan, &data, ops.batch)?;
    for &rows in &ops.short {
        // A full run first, so that workspaces hold NaN as well.
        write(&plan, &built, &poisoned(ops, &data, rows))?;
        run(&plan, ops.batch)?;
        let before = read_all(&plan, &built)?;
        run(&plan, rows)?;
        worst = worst.max(hold(case, ops, &built, &plan, &data, rows)?);
        for (&(_, _, id), before) in built.outputs().iter().zip(before) {
            let value = built.graph.at(id);
            let used = if value.batched { rows * value.elements_per_row() } else { before.len() };
            if read(&plan, id)?[used..] != before[used..] {
                return Err(Stop::Wrong(format!("{}: rows beyond {rows} were written", value.name)));
            }
        }
    }
    plan.check_guards()?;
    Ok(Measured { kernels: distinct(plan.report().dispatches.iter().map(|d| d.kernel)), worst })
}

/// The case's operands, and for matrix units, which round them to f16, the nearest that f16 has: the products are then as
/// exact as in f32, and what is wrong is not lost in what is rounded.
fn operands(case: &Case, ops: &Ops, family: GemmFamily) -> Vec<Vec<f64>> {
    let mut data = case.data();
    if matches!(family, GemmFamily::Cooperative { .. }) {
        let floats = ops.operands.iter().zip(&mut data).filter(|(operand, _)| operand.dtype() == DType::F32);
        floats.flat_map(|(_, data)| data).for_each(|x| *x = to_f16(*x));
    }
    data
}

/// The nearest number of f16, ties to even: 11 bits, but none below 2^-24. Larger ones than f16 has are not among the operands.
pub(super) fn to_f16(x: f64) -> f64 {
    if x == 0.0 || !x.is_finite() {
        return x;
    }
    let step = 2f64.powi((x.abs().log2().floor() as i32).max(-14) - 10);
    (x / step).round_ties_even() * step
}

fn compile(gpu: &Gpu, ops: &Ops, built: &Built, options: &PlanOptions) -> Result<Plan> {
    let plan = Plan::compile(gpu, &built.graph, options)?;
    if let Some(partial) = &ops.partial {
        plan.store().write_mask(ParameterId::of(0), &partial.mask)?;
    }
    Ok(plan)
}

fn run(plan: &Plan, rows: usize) -> Result<()> {
    plan.clear_sums()?;
    plan.clear_non_finite()?;
    plan.run(StepScalars::forward(rows))
}

/// NaN in all rows from `rows` on, or the largest integer.
fn poisoned(ops: &Ops, data: &[Vec<f64>], rows: usize) -> Vec<Vec<f64>> {
    let poison = |(operand, data): (&super::Operand, &Vec<f64>)| {
        let mut data = data.clone();
        if operand.batched {
            let poison = if operand.dtype() == DType::F32 { f64::NAN } else { f64::from(u32::MAX) };
            data[rows * operand.per_row()..].fill(poison);
        }
        data
    };
    ops.operands.iter().zip(data).map(poison).collect()
}

fn write(plan: &Plan, built: &Built, data: &[Vec<f64>]) -> Result<()> {
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

fn read_all(plan: &Plan, built: &Built) -> Result<Vec<Vec<u32>>> {
    built.outputs().iter().map(|&(_, _, id)| read(plan, id)).collect()
}

/// Compares the first `rows` rows of all results, and the running sums if there are metrics.
fn hold(
    case: &Case,
    ops: &Ops,
    built: &Built,
    plan: &Plan,
    data: &[Vec<f64>],
    rows: usize,
) -> std::result::Result<f64, Stop> {
    let mut want = reference_outputs(case, data, rows)?;
    let mut bound = bounds(case, data, rows)?;
    if let Some(partial) = &ops.partial {
        // Gradients begin as 0, and nobody writes those of frozen elements.
        for index in partial.mask.frozen_indices() {
            (want[0][index], bound[0][index]) = (0.0, 0.0);
        }
    }
    let mut worst = 0.0f64;
    for ((&(_, _, id), want), bound) in built.outputs().iter().zip(&want).zip(&bound) {
        let value = built.graph.at(id);
        let wide = |bits: u32| {
            if value.dtype == DType::F32 { f64::from(f32::from_bits(bits)) } else { f64::from(bits) }
        };
        let got: Vec<f64> = read(plan, id)?.into_iter().map(wide).collect();
        let used = if value.batched { rows * value.elements_per_row() } else { got.len() };
        let what = format!("{}, {rows} rows", value.name);
        worst = worst.max(compare(&what, &got[..used], &want[..used], &bound[..used])?);
        if ops.operands.iter().any(|operand| matches!(operand.fill, Fill::Planted { .. })) {
            keeps_negative_zeros(&what, &got[..used], &want[..used])?;
        }
    }
    for ((op, wires), bound) in ops.nodes.iter().zip(&bound) {
        if let (Op::Metrics, [Wire::Operand(_), ..]) = (op, wires.as_slice()) {
            worst = worst.max(hold_sums(built, plan, data, rows, bound[0])?);
        }
    }
    Ok(worst)
}

/// That -0.0 is not +0.0, which elsewhere are equal.
fn keeps_negative_zeros(what: &str, got: &[f64], want: &[f64]) -> std::result::Result<(), String> {
    let negative_zero = |x: f64| x == 0.0 && x.is_sign_negative();
    match (0..want.len()).find(|&i| negative_zero(want[i]) && !negative_zero(got[i])) {
        Some(i) => Err(format!("{what}: element {i} is {:?}, expected -0.0", got[i])),
        None => Ok(()),
    }
}

/// The running sums of a run of metrics: counts exactly, the loss within `rows` times the mean's bound.
fn hold_sums(
    built: &Built,
    plan: &Plan,
    data: &[Vec<f64>],
    rows: usize,
    bound: f64,
) -> std::result::Result<f64, Stop> {
    let want = evaluate(built, data, rows)?.sums();
    let got = plan.sums()?;
    if (u64::from(got.correct), u64::from(got.examples)) != (want.correct, want.examples) {
        return Err(Stop::Wrong(format!("running sums of {rows} rows: {got:?}, expected {want:?}")));
    }
    let of_weight = (4.0 + (rows as f64).sqrt()) * HALF_ULP * want.weight;
    let close = compare("running weight", &[got.weight.into()], &[want.weight], &[of_weight])?;
    let rows = if want.weight > 0.0 { want.weight } else { rows as f64 };
    if let Some(step) = got.non_finite_step {
        return Err(Stop::Wrong(format!("running sums: a NaN or infinity in step {step}")));
    }
    Ok(compare("running loss", &[got.loss.into()], &[want.loss], &[rows * bound])?.max(close))
}

#[cfg(test)]
mod tests {
    use super::{keeps_negative_zeros, to_f16};

    #[test]
    fn a_lost_sign_is_reported() {
        assert!(keeps_negative_zeros("x", &[0.0, -0.0, f64::NAN], &[0.0, -0.0, f64::NAN]).is_ok());
        let wrong = keeps_negative_zeros("x", &[0.0, 0.0], &[0.0, -0.0]).unwrap_err();
        assert_eq!(wrong, "x: element 1 is 0.0, expected -0.0");
    }

    /// IEEE 754-2008's binary16: 11 significant bits, the smallest step 2^-24.
    #[test]
    fn rounds_to_the_nearest_half() {
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
