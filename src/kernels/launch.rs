//! What runs a kernel: its whole text, its parameters and its grid, as data.

use super::GRID_X;
use super::alias::expand_aliases;
use super::files::{Used, WgslFile};
use super::unroll::unroll;
use crate::gpu::Shader;
use crate::wgsl::{Field, WgslStruct, declaration};

/// One run of a kernel, without its buffers.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The kernel.
    pub kernel: &'static WgslFile,
    /// Files of this variant, besides those that the kernel uses.
    pub snippets: Vec<&'static WgslFile>,
    /// Generated numbers of this variant; loops over them can be unrolled.
    pub constants: Vec<(&'static str, u32)>,
    /// Elements that it goes over of arenas, which are bound whole; none if it goes over no arena, or all of it.
    pub arena_elements: Option<usize>,
    /// Other generated declarations of this variant.
    pub declarations: Vec<String>,
    /// The members of the struct `Params`.
    pub fields: Vec<Field>,
    /// The parameters' bytes.
    pub params: Vec<u8>,
    /// Workgroups.
    pub groups: [u32; 3],
    /// Multiplications and additions, for a full batch.
    pub flops: u64,
    /// Rounds of loops in one invocation; see [`super::MAX_ITERATIONS`].
    pub iterations: usize,
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
    /// What decides [`Launch::shader`].
    pub fn variant(&self) -> Variant {
        let snippets = self.snippets.iter().map(|snippet| snippet.name);
        Variant {
            files: std::iter::once(self.kernel.name).chain(snippets).collect(),
            constants: self.constants.clone(),
            declarations: self.declarations.clone(),
        }
    }

    pub(super) fn new<P: WgslStruct>(
        kernel: &'static WgslFile,
        params: &P,
        workgroup: u32,
        groups: [u32; 3],
    ) -> Self {
        Launch {
            kernel,
            snippets: Vec::new(),
            constants: vec![("WORKGROUP", workgroup), ("GRID_X", GRID_X)],
            arena_elements: None,
            declarations: Vec::new(),
            fields: P::FIELDS.to_vec(),
            params: bytemuck::bytes_of(params).to_vec(),
            groups,
            flops: 0,
            iterations: 0,
        }
    }

    /// Adds members to the parameters, behind those that are there.
    pub(super) fn more_params<P: WgslStruct>(mut self, params: &P) -> Self {
        let before = self.params.len();
        self.fields.extend(P::FIELDS.iter().map(|f| Field { offset: before + f.offset, ..*f }));
        self.params.extend_from_slice(bytemuck::bytes_of(params));
        self
    }

    pub(super) fn arena_elements(mut self, elements: usize) -> Self {
        self.arena_elements = Some(elements);
        self
    }

    pub(super) fn flops(mut self, flops: u64) -> Self {
        self.flops = flops;
        self
    }

    pub(super) fn iterations(mut self, iterations: usize) -> Self {
        self.iterations = iterations;
        self
    }

    fn used(&self) -> Used {
        let mut used = Used::default();
        used.add(self.kernel);
        self.snippets.iter().for_each(|snippet| used.add(snippet));
        used
    }

    /// The files that make up the text, each once.
    pub fn files(&self) -> Vec<&'static WgslFile> {
        self.used().files
    }

    /// The shader: the kernel first, then what it uses, then what is generated; order is free in WGSL.
    pub fn shader(&self) -> Shader {
        let used = self.used();
        let mut text = String::new();
        let mut bindings = Vec::new();
        for file in &used.files {
            text.push_str(&format!("// ---- {}/{}.wgsl\n{}\n", file.folder, file.name, file.text));
            bindings.extend(file.bindings());
        }
        text.push_str("// ---- generated\n");
        text.push_str(&declaration("Params", &self.fields));
        for (name, fields) in &used.structs {
            text.push_str(&declaration(name, fields));
        }
        for (name, value) in &self.constants {
            text.push_str(&format!("const {name}: u32 = {value}u;\n"));
        }
        for line in &self.declarations {
            text.push_str(line);
            text.push('\n');
        }
        bindings.sort_by_key(|(number, _)| *number);
        Shader { wgsl: unroll(&expand_aliases(&text), &self.constants), bindings }
    }

    /// Whether the shader has subgroup operations: WebGPU wants `enable subgroups;` in front of it, which naga refuses.
    pub fn uses_subgroups(&self) -> bool {
        self.kernel.name == "gemm_subgroup"
    }
}
