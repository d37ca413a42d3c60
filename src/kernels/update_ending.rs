//! Products of weight gradients that end with the masked update: no gradient is written, and none is read.

use super::gemm_params::Params;
use super::gemm_snippets::{
    EPILOGUE, EXTRA_SCALAR, EXTRA_VEC4, RULE_NONE, STORE_C_SCALAR, STORE_C_UPDATE, STORE_C_VEC4,
};
use super::update_range::Range;
use super::{Epilogue, Gemm, Launch, UPDATE_ALONE};

/// Whether each result is a gradient, whole, and in a place that lies in its tensor as the result does in C, by fours.
pub(crate) fn can_end_with_update(gemm: &Gemm) -> bool {
    let by_fours = [gemm.n, gemm.c.stride, gemm.c.group, gemm.c.offset].iter().all(|x| x.is_multiple_of(4));
    by_fours && gemm.slices == 1 && !gemm.accumulate && gemm.epilogue == Epilogue::None && !gemm.pooled
}

impl Launch {
    /// This product, with C the gradient of an arena's elements, ended by the update that `update` would be by itself. The
    /// offset of C counts from the arena's beginning. Buffers: A, B, the sums of columns if asked for, mask, sums, weights, state.
    pub(crate) fn ended_by(mut self, update: &Launch) -> Launch {
        let replaced = [&STORE_C_SCALAR, &STORE_C_VEC4, &EXTRA_SCALAR, &EXTRA_VEC4, &EPILOGUE, &RULE_NONE];
        self.snippets.retain(|snippet| replaced.iter().all(|other| other.name != snippet.name));
        self.snippets.push(&STORE_C_UPDATE);
        for snippet in update.kernel.snippets {
            let known = self.kernel.snippets.iter().chain(&self.snippets).any(|s| s.name == snippet.name);
            if !known && snippet.name != UPDATE_ALONE.name {
                self.snippets.push(snippet);
            }
        }
        self.params.truncate(std::mem::offset_of!(Params, rule));
        self.params.extend_from_slice(&update.params[size_of::<Range>()..]);
        self.update = Some(update.kernel);
        self.arena_elements = update.arena_elements;
        self
    }
}
