//! Runs chains of operations on the device and compares their results with the reference.

use super::bounds::chain_bounds;
use super::case::{Case, Fill, Operand, Ops, OpsGraph, Wire, Work};
use super::compare::{HALF_ULP, compare_elements, compare_negative_zeros};
use super::outcome::{Failure, Measured, distinct};
use super::tensors::Tensors;
use crate::compiler::PlanOptions;
use crate::engine::Plan;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::graph::{DType, Op, ParameterId, StepScalars, ValueId};
use crate::kernels::GemmFamily;
use crate::reference::ReferenceSums;
use std::collections::HashMap;
use std::sync::Arc;

/// A case with its data and what is expected for each number of rows. All variants of a case share it: the reference
/// takes longer than the device. A clone shares it, too.
#[derive(Clone)]
pub(super) struct Prepared {
    built: Arc<OpsGraph>,
    data: Arc<Vec<Vec<f64>>>,
    expected: HashMap<usize, Arc<Expected>>,
}

/// The results, their bounds and the running sums of one number of rows.
struct Expected {
    want: Vec<Vec<f64>>,
    bound: Vec<Vec<f64>>,
    /// The bounds of the first result of each operation with metrics.
    metrics: Vec<f64>,
    sums: ReferenceSums,
}

impl Prepared {
    /// Draws the data of a case, unless `prepared` has them already: of this case, and rounded as the family needs.
    pub fn once<'a>(
        prepared: &'a mut Option<Self>,
        case: &Case,
        ops: &Ops,
        family: GemmFamily,
    ) -> Result<&'a mut Self> {
        let new = match prepared.take() {
            Some(prepared) => prepared,
            None => Prepared {
                built: Arc::new(ops.build()?),
                data: Arc::new(operands(case, ops, family)),
                expected: HashMap::new(),
            },
        };
        Ok(prepared.insert(new))
    }

    fn expected(&mut self, ops: &Ops, rows: usize) -> Result<Arc<Expected>> {
        if let Some(found) = self.expected.get(&rows) {
            return Ok(Arc::clone(found));
        }
        let reference = self.built.evaluate(&self.data, rows)?;
        let all = chain_bounds(ops, &self.built, &reference, rows)?;
        let outputs = self.built.outputs();
        let mut want: Vec<_> = outputs.iter().map(|output| reference.read(output.id).to_vec()).collect();
        let mut bound: Vec<_> = outputs.iter().map(|o| all[o.node][o.index].clone()).collect();
        if let Some(partial) = &ops.partial {
            // Gradients are initially 0, and the gradients of frozen elements must not be written.
            for index in partial.mask.frozen_indices() {
                (want[0][index], bound[0][index]) = (0.0, 0.0);
            }
        }
        let is_metrics = |(op, wires): &(Op, Vec<Wire>)| {
            matches!((op, wires.as_slice()), (Op::Metrics, [Wire::Operand(_), ..]))
        };
        let metrics = ops.nodes.iter().zip(&all).filter(|(node, _)| is_metrics(node));
        let metrics = metrics.map(|(_, bounds)| bounds[0][0]).collect();
        let expected = Arc::new(Expected { want, bound, metrics, sums: reference.sums() });
        self.expected.insert(rows, Arc::clone(&expected));
        Ok(expected)
    }
}

/// Runs a case with a full batch and with each short batch, with a guard band after every tensor, and
/// compares all results.
pub(super) fn run(
    gpu: &Gpu,
    ops: &Ops,
    prepared: &mut Prepared,
    options: &PlanOptions,
    tensors: &mut Tensors,
) -> std::result::Result<Measured, Failure> {
    for (number, (operand, data)) in ops.operands.iter().zip(prepared.data.iter()).enumerate() {
        let shape =
            [if operand.batched { vec![ops.batch] } else { vec![] }, operand.extents.clone()].concat();
        tensors.copy(&format!("operand {number}"), &shape, data);
    }
    let plan = compile(gpu, ops, &prepared.built, options)?;
    write(&plan, &prepared.built, &prepared.data)?;
    run_rows(&plan, ops.batch)?;
    let mut worst_error = compare_results(ops, prepared, &plan, ops.batch, tensors)?;
    for &rows in &ops.short_batches {
        // Runs a full batch with NaN in the unused rows first, so that unused rows of workspaces are NaN too.
        write(&plan, &prepared.built, &poisoned(ops, &prepared.data, rows))?;
        run_rows(&plan, ops.batch)?;
        let before = read_outputs(&plan, &prepared.built)?;
        run_rows(&plan, rows)?;
        worst_error = worst_error.max(compare_results(ops, prepared, &plan, rows, tensors)?);
        let built = &prepared.built;
        for (output, before) in built.outputs().iter().zip(before) {
            let value = built.graph.at(output.id);
            let used = if value.batched { rows * value.elements_per_row() } else { before.len() };
            if read(&plan, output.id)?[used..] != before[used..] {
                return Err(Failure::Other(format!("{}: rows beyond {rows} were written", value.name)));
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
    ops: &Ops,
    prepared: &mut Prepared,
    plan: &Plan,
    rows: usize,
    tensors: &mut Tensors,
) -> std::result::Result<f64, Failure> {
    let expected = prepared.expected(ops, rows)?;
    let graph = &prepared.built.graph;
    let mut worst = 0.0f64;
    for ((output, want), bound) in prepared.built.outputs().iter().zip(&expected.want).zip(&expected.bound) {
        let value = graph.at(output.id);
        let to_f64 = |bits: &u32| match value.dtype {
            DType::F32 => f64::from(f32::from_bits(*bits)),
            DType::U32 => f64::from(*bits),
        };
        let bits = read(plan, output.id)?;
        let used = if value.batched { rows * value.elements_per_row() } else { bits.len() };
        tensors.hash(&bits[..used]);
        let got: Vec<f64> = bits[..used].iter().map(to_f64).collect();
        let what = format!("{}, {rows} rows", value.name);
        let mut shape = value.shape.extents().to_vec();
        if value.batched {
            shape[0] = rows;
        }
        for (name, values) in [("expected", &want[..used]), ("bound", &bound[..used]), ("got", &got[..])] {
            tensors.copy(&format!("{what}: {name}"), &shape, values);
        }
        worst = worst.max(compare_elements(&what, &got, &want[..used], &bound[..used])?);
        if ops.operands.iter().any(|operand| matches!(operand.fill, Fill::Planted { .. })) {
            compare_negative_zeros(&what, &got, &want[..used])?;
        }
    }
    for &bound in &expected.metrics {
        worst = worst.max(compare_sums(plan, &expected.sums, rows, bound)?);
    }
    Ok(worst)
}

/// Compares the running sums after one run of metrics: counts exactly, the loss within `mean_bound` times its
/// divisor.
fn compare_sums(
    plan: &Plan,
    want: &ReferenceSums,
    rows: usize,
    mean_bound: f64,
) -> std::result::Result<f64, Failure> {
    let got = plan.sums()?;
    if (u64::from(got.correct), u64::from(got.examples)) != (want.correct, want.examples) {
        return Err(Failure::Other(format!("running sums of {rows} rows: expected {want:?}, got {got:?}")));
    }
    let weight_bound = (4.0 + (rows as f64).sqrt()) * HALF_ULP * want.weight;
    let weight_error =
        compare_elements("running weight", &[got.weight.into()], &[want.weight], &[weight_bound])?;
    let divisor = if want.weight > 0.0 { want.weight } else { rows as f64 };
    if let Some(step) = got.non_finite_step {
        let message = format!("running sums: expected finite losses, got a NaN or infinity in step {step}");
        return Err(Failure::Other(message));
    }
    let loss_error =
        compare_elements("running loss", &[got.loss.into()], &[want.loss], &[divisor * mean_bound])?;
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
