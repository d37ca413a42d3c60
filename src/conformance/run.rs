//! Runs a case in one variant, and finds the variants of a case.

use super::case::{Case, Work};
use super::ops::{self, Prepared};
use super::outcome::{Failure, Outcome, Verdict, distinct};
use super::tensors::{Tensor, Tensors};
use super::{training, update};
use crate::compiler::{PlanOptions, Reduction};
use crate::digest::Fnv1a;
use crate::engine::Plan;
use crate::gpu::{AdapterReport, Gpu};
use crate::kernels::{GemmFamily, Launch, TILES, TileSet};
use crate::stopwatch::Stopwatch;

/// The GEMM families in which a case launches different kernels on this adapter: all that the adapter
/// supports, without those that launch the same kernels as an earlier one, cooperative matrices last. Each
/// case also runs with one tile of the tiled family, which depends on its name, so that the cases together
/// run every tile. For a case without a GEMM, the first family. Reductions are those of the adapter's class.
pub fn families(case: &Case, report: &AdapterReport) -> Vec<GemmFamily> {
    let variants = distinct_variants(case, report, &all_families(case, report), &[Reduction::Auto]);
    variants.into_iter().map(|variant| variant.family).collect()
}

/// All families of an adapter, and one tile of the tiled family.
pub(super) fn all_families(case: &Case, report: &AdapterReport) -> Vec<GemmFamily> {
    let mut name = Fnv1a::default();
    name.bytes(case.name.as_bytes());
    let tile = TILES[((name.value() >> 32) % TILES.len() as u64) as usize];
    let tile = GemmFamily::Tiled { tiles: TileSet::Only(tile) };
    let tile = Some(tile).filter(|tile| tile.is_supported(report));
    let cooperative = GemmFamily::cooperative(report);
    let cooperative = cooperative.into_iter().flat_map(|family| [family, family.with_stored_operands()]);
    GemmFamily::supported(report).into_iter().chain(tile).chain(cooperative).collect()
}

/// One way of computing a case on an adapter.
pub(super) struct Variant {
    pub family: GemmFamily,
    pub reduction: Reduction,
    /// The kernels, each once; empty if the case cannot be planned.
    pub kernels: Vec<&'static str>,
    /// The WGSL files of each launch.
    pub files: Vec<Vec<&'static str>>,
}

/// The pairs of a family and a reduction in which a case launches different kernels.
pub(super) fn distinct_variants(
    case: &Case,
    report: &AdapterReport,
    families: &[GemmFamily],
    reductions: &[Reduction],
) -> Vec<Variant> {
    let families = if case.has_gemm() { families } else { &families[..families.len().min(1)] };
    let graph = case.graph().ok();
    let launches = |family, reduction| {
        let options = case.options(PlanOptions::default().family(family).reduction(reduction));
        Plan::launches(graph.as_ref()?, report, &options).ok()
    };
    let (mut variants, mut earlier) = (Vec::new(), Vec::new());
    for &family in families {
        for &reduction in reductions {
            // A case that cannot be planned is included, so that its outcome reports the error.
            let launches = launches(family, reduction);
            let key = launches
                .as_ref()
                .map(|all| all.iter().map(|l| (l.variant(), l.params.clone(), l.groups)).collect::<Vec<_>>());
            if key.is_none() || !earlier.contains(&key) {
                let launches = launches.unwrap_or_default();
                let kernels = distinct(launches.iter().map(|launch| launch.kernel.name));
                let of = |launch: &Launch| launch.files().iter().map(|file| file.name).collect();
                variants.push(Variant {
                    family,
                    reduction,
                    kernels,
                    files: launches.iter().map(of).collect(),
                });
                earlier.push(key);
            }
        }
    }
    variants
}

/// Runs a case in one GEMM family with one variant of reductions, and compares its results with the reference.
/// See the [module](super) for what is compared. An error is a verdict of the outcome.
pub fn run_case(gpu: &Gpu, case: &Case, family: GemmFamily, reduction: Reduction) -> Outcome {
    run_prepared(gpu, case, family, reduction, &mut None, &mut Tensors::default())
}

/// [`run_case`] that also returns the operands, expected results, bounds and results, up to the first result that is
/// wrong.
pub fn record_case(
    gpu: &Gpu,
    case: &Case,
    family: GemmFamily,
    reduction: Reduction,
) -> (Outcome, Vec<Tensor>) {
    let mut tensors = Tensors::with_copies();
    let outcome = run_prepared(gpu, case, family, reduction, &mut None, &mut tensors);
    (outcome, tensors.into_copies())
}

/// [`run_case`] with what the variants of the case share, which the first of them prepares.
pub(super) fn run_prepared(
    gpu: &Gpu,
    case: &Case,
    family: GemmFamily,
    reduction: Reduction,
    prepared: &mut Option<Prepared>,
    tensors: &mut Tensors,
) -> Outcome {
    let begun = Stopwatch::start();
    let options = case.options(PlanOptions::default().family(family).reduction(reduction));
    let guarded = options.clone().guard_bands(true);
    let measured = match &case.work {
        Work::Ops(ops) => Prepared::once(prepared, case, ops, family)
            .map_err(Failure::from)
            .and_then(|prepared| ops::run(gpu, ops, prepared, &guarded, tensors)),
        Work::Update(update) => update::run(gpu, case, update, &guarded, tensors),
        Work::Training(of) => training::run(gpu, case, of, family, tensors),
    };
    let (kernels, worst_error, (verdict, mismatch)) = match measured {
        Ok(measured) => (measured.kernels, measured.worst_error, (Verdict::Pass, None)),
        Err(failure) => (planned_kernels(case, gpu.report(), &options), f64::INFINITY, failure.verdict()),
    };
    Outcome {
        name: case.name.clone(),
        op: case.op(),
        family,
        reduction,
        kernels,
        worst_error,
        verdict,
        mismatch,
        digest: tensors.digest(),
        elapsed: begun.elapsed(),
    }
}

/// The kernels that are planned for a failed case; empty if planning fails.
fn planned_kernels(case: &Case, report: &AdapterReport, options: &PlanOptions) -> Vec<&'static str> {
    let plan = case.graph().and_then(|graph| Plan::estimate(&graph, report, options));
    plan.map(|plan| distinct(plan.dispatches.iter().map(|d| d.kernel))).unwrap_or_default()
}
