//! Runs cases in GEMM families.

use super::case::{Case, Work};
use super::outcome::{Failure, Outcome, Verdict, distinct};
use super::table::cases;
use super::{ops, update};
use crate::compiler::{PlanOptions, Reduction};
use crate::digest::Fnv1a;
use crate::engine::Plan;
use crate::error::{Error, Result};
use crate::gpu::{AdapterReport, Gpu};
use crate::kernels::{GemmFamily, TILES, TileSet};
use std::iter::FusedIterator;
use std::sync::Arc;

/// Runs every case of the op table in every GEMM family and with both variants of reductions, as far as its
/// kernels differ; only in the families in `only` unless it is empty. The returned iterator runs one case in
/// one variant per step; a case without a GEMM and a reduction runs once.
///
/// ```no_run
/// # fn main() -> frazil::Result<()> {
/// let gpu = frazil::Gpu::new(frazil::GpuOptions::default())?;
/// for outcome in frazil::conformance::run(&gpu, &[])? {
///     let outcome = outcome?;
///     if !outcome.passed() {
///         println!("{outcome}");
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`Error::InvalidArgument`] for a family that the adapter does not support. Each step of the iterator fails
/// as [`run_case`] does; after an error the iterator ends.
pub fn run(gpu: &Gpu, only: &[GemmFamily]) -> Result<Runs> {
    let report = gpu.report();
    if let Some(family) = only.iter().find(|family| !family.is_supported(report)) {
        let supported: Vec<_> = GemmFamily::supported(report).iter().map(ToString::to_string).collect();
        let expected = format!("families that {} supports: {}", report.name, supported.join(", "));
        return Err(Error::argument("families", expected, family));
    }
    let mut runs = Vec::new();
    for case in cases()?.into_iter().map(Arc::new) {
        let families = if only.is_empty() { all_families(&case, report) } else { only.to_vec() };
        let reductions = [Reduction::Serial, Reduction::Parallel];
        let variants = distinct_variants(&case, report, &families, &reductions);
        runs.extend(variants.into_iter().map(|variant| (Arc::clone(&case), variant)));
    }
    Ok(Runs { gpu: gpu.clone(), runs: runs.into_iter() })
}

/// The outcomes of [`run()`]; its length is the number of runs that remain.
#[derive(Debug)]
pub struct Runs {
    gpu: Gpu,
    runs: std::vec::IntoIter<(Arc<Case>, (GemmFamily, Reduction))>,
}

impl Iterator for Runs {
    type Item = Result<Outcome>;

    fn next(&mut self) -> Option<Self::Item> {
        let (case, (family, reduction)) = self.runs.next()?;
        let outcome = run_case(&self.gpu, &case, family, reduction);
        if outcome.is_err() {
            self.runs = Vec::new().into_iter();
        }
        Some(outcome)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.runs.size_hint()
    }
}

impl ExactSizeIterator for Runs {}

impl FusedIterator for Runs {}

/// The GEMM families in which a case launches different kernels on this adapter: all that the adapter
/// supports, without those that launch the same kernels as an earlier one, cooperative matrices last. Each
/// case also runs with one tile of the tiled family, which depends on its name, so that the cases together
/// run every tile. For a case without a GEMM, the first family. Reductions are those of the adapter's class.
pub fn families(case: &Case, report: &AdapterReport) -> Vec<GemmFamily> {
    let variants = distinct_variants(case, report, &all_families(case, report), &[Reduction::Auto]);
    variants.into_iter().map(|(family, _)| family).collect()
}

/// All families of an adapter, and one tile of the tiled family.
fn all_families(case: &Case, report: &AdapterReport) -> Vec<GemmFamily> {
    let mut name = Fnv1a::default();
    name.bytes(case.name.as_bytes());
    let tile = TILES[((name.value() >> 32) % TILES.len() as u64) as usize];
    let tile = GemmFamily::Tiled { tiles: TileSet::Only(tile) };
    let tile = Some(tile).filter(|tile| tile.is_supported(report));
    let cooperative = GemmFamily::cooperative(report);
    let cooperative = cooperative.into_iter().flat_map(|family| [family, family.with_stored_operands()]);
    GemmFamily::supported(report).into_iter().chain(tile).chain(cooperative).collect()
}

/// The pairs of a family and a reduction in which a case launches different kernels.
fn distinct_variants(
    case: &Case,
    report: &AdapterReport,
    families: &[GemmFamily],
    reductions: &[Reduction],
) -> Vec<(GemmFamily, Reduction)> {
    let families = if case.has_gemm() { families } else { &families[..families.len().min(1)] };
    let launches = |(family, reduction): (GemmFamily, Reduction)| {
        let options = case.options(PlanOptions::default().family(family).reduction(reduction));
        let launches = Plan::launches(&case.graph().ok()?, report, &options).ok()?;
        Some(launches.iter().map(|l| (l.variant(), l.params.clone(), l.groups)).collect::<Vec<_>>())
    };
    let (mut distinct, mut earlier) = (Vec::new(), Vec::new());
    for &family in families {
        for &reduction in reductions {
            // A case that cannot be planned is included, so that its outcome reports the error.
            let launches = launches((family, reduction));
            if launches.is_none() || !earlier.contains(&launches) {
                distinct.push((family, reduction));
                earlier.push(launches);
            }
        }
    }
    distinct
}

/// Runs a case in one GEMM family with one variant of reductions, and compares its results with the reference.
/// See the [module](super) for what is compared.
///
/// # Errors
/// [`Error::DeviceLost`], [`Error::Timeout`]. Any other error becomes a failed outcome.
pub fn run_case(gpu: &Gpu, case: &Case, family: GemmFamily, reduction: Reduction) -> Result<Outcome> {
    let options = case.options(PlanOptions::default().family(family).reduction(reduction));
    let guarded = options.clone().guard_bands(true);
    let measured = match &case.work {
        Work::Ops(ops) => ops::run(gpu, case, ops, family, &guarded),
        Work::Update(update) => update::run(gpu, case, update, &guarded),
    };
    let (kernels, worst_error, verdict) = match measured {
        Ok(measured) => (measured.kernels, measured.worst_error, Verdict::Pass),
        Err(Failure::Error(error @ (Error::DeviceLost { .. } | Error::Timeout { .. }))) => return Err(error),
        Err(failure) => {
            let why = match failure {
                Failure::Mismatch(why) => why,
                Failure::Error(error) => error.to_string(),
            };
            (planned_kernels(case, gpu.report(), &options), f64::INFINITY, Verdict::Fail(why))
        }
    };
    let (name, op) = (case.name.clone(), case.op());
    Ok(Outcome { name, op, family, reduction, kernels, worst_error, verdict })
}

/// The kernels that are planned for a failed case; empty if planning fails.
fn planned_kernels(case: &Case, report: &AdapterReport, options: &PlanOptions) -> Vec<&'static str> {
    let plan = case.graph().and_then(|graph| Plan::estimate(&graph, report, options));
    plan.map(|plan| distinct(plan.dispatches.iter().map(|d| d.kernel))).unwrap_or_default()
}
