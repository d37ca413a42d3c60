//! The conformance suite.

use crate::Device;
use frazil::Gpu;
use frazil::conformance::{self, Case, Outcome, Runs, Verdict};
use frazil::low_level::{GemmFamily, Reduction};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

/// The runs that remain.
#[wasm_bindgen]
pub struct Suite {
    gpu: Gpu,
    runs: Remaining,
    total: usize,
}

enum Remaining {
    /// Of the whole suite.
    All(Runs),
    /// Of the selected cases, each in the default variant of reductions.
    Some(std::vec::IntoIter<(Case, GemmFamily)>),
}

#[wasm_bindgen]
impl Device {
    /// Prepares the conformance suite, or the cases whose names contain `filter`, unless it is empty.
    pub fn check(&self, filter: &str) -> Result<Suite, JsError> {
        let gpu = self.gpu.clone();
        if filter.is_empty() {
            let runs = conformance::run(&gpu, &[])?;
            return Ok(Suite { total: runs.len(), gpu, runs: Remaining::All(runs) });
        }
        let mut selected = Vec::new();
        for case in conformance::cases()?.into_iter().filter(|case| case.name.contains(filter)) {
            let families = conformance::families(&case, gpu.report());
            selected.extend(families.into_iter().map(|family| (case.clone(), family)));
        }
        Ok(Suite { total: selected.len(), gpu, runs: Remaining::Some(selected.into_iter()) })
    }
}

#[wasm_bindgen]
impl Suite {
    /// Number of all runs.
    #[wasm_bindgen(getter)]
    pub fn total(&self) -> usize {
        self.total
    }

    /// Runs the next case in one variant; `undefined` after the last one.
    #[wasm_bindgen(jspi)]
    pub fn advance(&mut self) -> Result<Option<String>, JsError> {
        let outcome = match &mut self.runs {
            Remaining::All(runs) => runs.next().transpose()?,
            Remaining::Some(cases) => match cases.next() {
                Some((case, family)) => {
                    Some(conformance::run_case(&self.gpu, &case, family, Reduction::Auto)?)
                }
                None => None,
            },
        };
        Ok(outcome.map(|outcome| json_of(&outcome).to_string()))
    }
}

fn json_of(outcome: &Outcome) -> Value {
    let failure = match &outcome.verdict {
        Verdict::Fail(why) => Some(why.as_str()),
        _ => None,
    };
    json!({
        "name": outcome.name,
        "op": outcome.op,
        "family": outcome.family.to_string(),
        "kernels": outcome.kernels,
        // JSON has no infinity.
        "worst": outcome.worst_error.is_finite().then_some(outcome.worst_error),
        "failure": failure,
    })
}
