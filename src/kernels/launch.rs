//! Description of one kernel launch as data: shader text, parameters, grid.

use super::GRID_X;
use super::files::{Dependencies, WgslFile};
use super::preprocess::{expand_aliases, unroll};
use crate::gpu::{Access, Shader};
use crate::wgsl::{Field, WgslStruct, declaration};

/// One launch of a kernel, without its buffers.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The kernel.
    pub kernel: &'static WgslFile,
    /// Additional WGSL files of this variant, which the kernel's `// uses:` line does not list.
    pub snippets: Vec<&'static WgslFile>,
    /// Generated integer constants of this variant; loops with such a constant as their bound can be
    /// unrolled.
    pub constants: Vec<(&'static str, u32)>,
    /// Number of arena elements that the kernel processes (an arena, one buffer of many tensors, is bound as
    /// a whole); `None` if the kernel uses no arena, or all of it.
    pub arena_elements: Option<usize>,
    /// Number of elements that the kernel writes to a result of which it computes a part; `None` if it writes all.
    pub written_elements: Option<usize>,
    /// Other generated declarations of this variant.
    pub declarations: Vec<String>,
    /// Members of the struct `Params`.
    pub fields: Vec<Field>,
    /// Bytes of the parameters.
    pub params: Vec<u8>,
    /// Number of workgroups in x, y, z.
    pub groups: [u32; 3],
    /// Multiplications and additions of a full batch.
    pub flops: u64,
    /// Multiplications and additions that the tiles of a GEMM perform, those in empty rows, columns and steps of
    /// k included; 0 for other kernels.
    pub tile_flops: u64,
    /// Loop iterations of one invocation, over all its loops. Software adapters leave a loop after 65,535
    /// iterations.
    pub iterations: usize,
    /// Whether the kernel reads the buffers that it writes, as an update of weights does.
    pub in_place: bool,
}

/// Key of a launch's shader text: equal keys mean equal texts. Building and comparing keys is faster than
/// building and comparing texts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Variant {
    /// Names of the kernel and its snippets.
    files: Vec<&'static str>,
    constants: Vec<(&'static str, u32)>,
    declarations: Vec<String>,
}

impl Launch {
    /// Key of [`Launch::shader`].
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
            written_elements: None,
            declarations: Vec::new(),
            fields: P::FIELDS.to_vec(),
            params: bytemuck::bytes_of(params).to_vec(),
            groups,
            flops: 0,
            tile_flops: 0,
            iterations: 0,
            in_place: false,
        }
    }

    /// Appends members to the parameter struct.
    pub(super) fn more_params<P: WgslStruct>(mut self, params: &P) -> Self {
        // WGSL aligns arrays in uniform buffers to 16 bytes, and numbers to 4.
        if P::FIELDS.iter().any(|field| field.ty.starts_with("array")) {
            self.params.resize(self.params.len().next_multiple_of(16), 0);
        }
        let before = self.params.len();
        self.fields.extend(P::FIELDS.iter().map(|f| Field { offset: before + f.offset, ..*f }));
        self.params.extend_from_slice(bytemuck::bytes_of(params));
        // WGSL rounds the size of a struct with an array in a uniform buffer up to 16 bytes.
        if self.fields.iter().any(|field| field.ty.starts_with("array")) {
            self.params.resize(self.params.len().next_multiple_of(16), 0);
        }
        self
    }

    /// Value of a `u32` member of the parameters; 0 if there is none of that name.
    pub(super) fn parameter(&self, name: &str) -> u32 {
        let field = self.fields.iter().find(|field| field.name == name);
        let bytes = field.and_then(|field| self.params.get(field.offset..field.offset + 4));
        bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
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

    pub(super) fn in_place(mut self) -> Self {
        self.in_place = true;
        self
    }

    /// Declares the types of a kernel that processes either four channels or one channel per invocation:
    /// `Element` (`vec4<f32>` or `f32`), `Words` (the corresponding type of `u32`), `Flags` (of `bool`), and
    /// the number of channels, `WIDTH`.
    pub(super) fn channel_vectors(mut self, vec4: bool) -> Self {
        let vector = |scalar: &str| if vec4 { format!("vec4<{scalar}>") } else { scalar.to_owned() };
        self.declarations.extend([
            format!("alias Element = {};", vector("f32")),
            format!("alias Words = {};", vector("u32")),
            format!("alias Flags = {};", vector("bool")),
            format!("const WIDTH: u32 = {}u;", if vec4 { 4 } else { 1 }),
        ]);
        self
    }

    fn dependencies(&self) -> Dependencies {
        let mut dependencies = Dependencies::default();
        dependencies.add(self.kernel);
        self.snippets.iter().for_each(|snippet| dependencies.add(snippet));
        dependencies
    }

    /// The accesses of the shader's bindings in the order of their numbers.
    pub(crate) fn accesses(&self) -> Vec<Access> {
        let mut bindings: Vec<_> = self.files().iter().flat_map(|file| file.bindings()).collect();
        bindings.sort_by_key(|(number, _)| *number);
        bindings.into_iter().map(|(_, access)| access).collect()
    }

    /// Files that make up the text, each once.
    pub fn files(&self) -> Vec<&'static WgslFile> {
        self.dependencies().files
    }

    /// Assembles the shader: the kernel, the files that it uses, then the generated declarations. The order
    /// of declarations has no meaning in WGSL.
    pub fn shader(&self) -> Shader {
        let dependencies = self.dependencies();
        let mut text = String::new();
        let mut bindings = Vec::new();
        for file in &dependencies.files {
            text.push_str(&format!("// ---- {}/{}.wgsl\n{}\n", file.folder, file.name, file.text));
            bindings.extend(file.bindings());
        }
        text.push_str("// ---- generated\n");
        text.push_str(&declaration("Params", &self.fields));
        for (name, fields) in &dependencies.structs {
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

    /// Whether the shader runs only on devices that are opened with cooperative matrices: it multiplies them, or
    /// rounds their operands to f16.
    pub fn needs_cooperative_matrix(&self) -> bool {
        ["gemm_cooperative", "round_to_f16"].contains(&self.kernel.name)
    }

    /// Whether the shader has subgroup operations. WebGPU then requires the directive `enable subgroups;`,
    /// which naga rejects.
    pub fn uses_subgroups(&self) -> bool {
        self.kernel.name == "gemm_subgroup"
    }
}
