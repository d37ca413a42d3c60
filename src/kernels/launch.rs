//! What runs a kernel: its whole text, its parameters and its grid, as data.

use super::alias::expand_aliases;
use super::unroll::unroll;
use super::{GRID_X, Kernel, Snippet};
use crate::gpu::Access;

/// One run of a kernel, without its buffers.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// Snippets of this variant.
    pub snippets: Vec<&'static Snippet>,
    /// Generated numbers of this variant; loops over them can be unrolled.
    pub constants: Vec<(&'static str, u32)>,
    /// Elements that it goes over of arenas, which are bound whole; none if it goes over no arena, or all of it.
    pub arena_elements: Option<usize>,
    /// Other generated declarations of this variant.
    pub declarations: Vec<String>,
    /// The parameters' bytes.
    pub params: Vec<u8>,
    /// Workgroups.
    pub groups: [u32; 3],
    /// Multiplications and additions, for a full batch.
    pub flops: u64,
    /// Rounds of loops in one invocation; see [`super::MOST_ROUNDS`].
    pub rounds: usize,
}

/// What decides a launch's text: launches with equal variants have equal texts. Cheaper to make and to compare than a text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// The kernel's name, and those of its snippets.
    files: Vec<&'static str>,
    constants: Vec<(&'static str, u32)>,
    declarations: Vec<String>,
}

impl Launch {
    /// What decides [`Launch::source`].
    pub fn variant(&self) -> Variant {
        let snippets = self.snippets.iter().map(|snippet| snippet.name);
        Variant {
            files: std::iter::once(self.kernel.name).chain(snippets).collect(),
            constants: self.constants.clone(),
            declarations: self.declarations.clone(),
        }
    }

    pub(super) fn new(
        kernel: &'static Kernel,
        params: &impl bytemuck::NoUninit,
        workgroup: u32,
        groups: [u32; 3],
    ) -> Self {
        let constants = vec![("WORKGROUP", workgroup), ("GRID_X", GRID_X)];
        let params = bytemuck::bytes_of(params).to_vec();
        Launch {
            kernel,
            snippets: Vec::new(),
            arena_elements: None,
            constants,
            declarations: Vec::new(),
            params,
            groups,
            flops: 0,
            rounds: 0,
        }
    }

    pub(super) fn arena_elements(mut self, elements: usize) -> Self {
        self.arena_elements = Some(elements);
        self
    }

    pub(super) fn flops(mut self, flops: u64) -> Self {
        self.flops = flops;
        self
    }

    pub(super) fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }

    /// The whole shader: the body first, then what it uses; order is free in WGSL.
    pub fn source(&self) -> String {
        let mut text = self.kernel.body.to_owned();
        for snippet in self.kernel.snippets.iter().chain(&self.snippets) {
            text.push_str("\n// ---- shared/");
            text.push_str(snippet.name);
            text.push_str(".wgsl\n");
            text.push_str(snippet.text);
        }
        text.push_str("\n// ---- generated\n");
        for (name, value) in &self.constants {
            text.push_str(&format!("const {name}: u32 = {value}u;\n"));
        }
        for line in &self.declarations {
            text.push_str(line);
            text.push('\n');
        }
        unroll(&expand_aliases(&text), &self.constants)
    }

    /// Whether the shader has subgroup operations: WebGPU wants `enable subgroups;` in front of it, which naga refuses.
    pub fn uses_subgroups(&self) -> bool {
        self.kernel.name == "gemm_subgroup"
    }

    /// Each binding's number and use, in order of the numbers. Binding 0 is the parameters, 1 the step's scalars; a number in
    /// between may be missing.
    pub fn bindings(&self) -> Vec<(u32, Access)> {
        let snippets = self.kernel.snippets.iter().chain(&self.snippets).flat_map(|s| s.bindings);
        let own = self.kernel.bindings.iter().chain(snippets).copied();
        let mut all: Vec<_> = [(0, Access::Uniform), (1, Access::Uniform)].into_iter().chain(own).collect();
        all.sort_by_key(|(number, _)| *number);
        all
    }
}
