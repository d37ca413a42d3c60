//! The conformance suite.

use crate::Device;
use frazil::conformance::{self, Outcome, Runs, Verdict};
use serde_json::{Value, json};
use wasm_bindgen::prelude::*;

/// The runs that remain.
#[wasm_bindgen]
pub struct Suite {
    runs: Runs,
}

#[wasm_bindgen]
impl Device {
    /// Prepares the conformance suite, or the cases whose names contain `filter`, unless it is empty.
    pub fn check(&self, filter: &str) -> Result<Suite, JsError> {
        let suite = conformance::Suite::new();
        let suite = if filter.is_empty() { suite } else { suite.case(format!("*{filter}*")) };
        Ok(Suite { runs: suite.run(&self.gpu)? })
    }
}

#[wasm_bindgen]
impl Suite {
    /// Number of all cases, each of which runs in some variants.
    #[wasm_bindgen(getter)]
    pub fn total(&self) -> usize {
        self.runs.cases()
    }

    /// Runs the next case in one variant; `undefined` after the last one.
    #[wasm_bindgen(jspi)]
    pub fn advance(&mut self) -> Option<String> {
        let run = self.runs.next_run()?;
        let outcome = self.runs.execute(&run);
        Some(json_of(&outcome, run.position[0]).to_string())
    }
}

fn json_of(outcome: &Outcome, case: usize) -> Value {
    let failure = match &outcome.verdict {
        Verdict::Pass => None,
        _ => Some(outcome.to_string()),
    };
    json!({
        "name": outcome.name,
        "op": outcome.op,
        "case": case,
        "family": outcome.family.to_string(),
        "kernels": outcome.kernels,
        // JSON has no infinity.
        "worst": outcome.worst_error.is_finite().then_some(outcome.worst_error),
        "failure": failure,
    })
}
