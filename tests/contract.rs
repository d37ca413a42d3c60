//! Tests of every shader without a GPU: its parameters and bindings match their Rust declarations, and naga
//! translates it for every backend.

use crate::support::portable::{duplicate_definition, portability_violations};
use frazil::conformance::shaders;
use frazil::gpu::Access;
use frazil::low_level::{FILES, Launch};
use naga::back::hlsl::ShaderModel;
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{AddressSpace, Module, StorageAccess, TypeInner};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

/// Every launch (kernel with its declarations and bindings) that the conformance suite uses, keyed by its
/// WGSL text.
fn launches() -> &'static BTreeMap<String, Launch> {
    static ALL: OnceLock<BTreeMap<String, Launch>> = OnceLock::new();
    ALL.get_or_init(|| shaders().unwrap())
}

/// Parses and validates a shader. Subgroup operations and the `additional` capabilities are allowed.
fn parse(source: &str, additional: Capabilities) -> Result<(Module, ModuleInfo), String> {
    let capabilities = Capabilities::SUBGROUP | additional;
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(source))?;
    Ok((module, info))
}

/// Returns the naga capabilities that a shader needs in addition to subgroups.
fn additional_capabilities(launch: &Launch) -> Capabilities {
    if launch.needs_cooperative_matrix() {
        Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16
    } else {
        Capabilities::empty()
    }
}

/// Returns the fields of a struct with their byte offsets, and its size in bytes. Fields of nested structs
/// are named `outer.inner`.
fn fields(module: &Module, ty: naga::Handle<naga::Type>) -> Result<(Vec<(String, usize)>, usize), String> {
    let TypeInner::Struct { members, span } = &module.types[ty].inner else {
        return Err(format!("expected a struct as uniform, got {:?}", module.types[ty].inner));
    };
    let mut all = Vec::new();
    for member in members {
        let (name, at) = (member.name.clone().unwrap_or_default(), member.offset as usize);
        match fields(module, member.ty) {
            Ok((inner, _)) => all.extend(inner.into_iter().map(|(n, o)| (format!("{name}.{n}"), at + o))),
            Err(_) => all.push((name, at)),
        }
    }
    Ok((all, *span as usize))
}

/// Checks a shader against its Rust declaration: entry point, bindings, parameter layout and resource limits.
fn check(launch: &Launch, source: &str) -> Result<(Module, ModuleInfo), String> {
    let (module, info) = parse(source, additional_capabilities(launch))?;
    let [entry] = module.entry_points.as_slice() else {
        return Err(format!("expected 1 entry point, got {}", module.entry_points.len()));
    };
    if entry.name != "main" || entry.workgroup_size.iter().product::<u32>() > 256 {
        return Err(format!(
            "expected entry point main of at most 256 invocations, got {} of {:?}",
            entry.name, entry.workgroup_size
        ));
    }
    let mut bindings = BTreeMap::new();
    let mut workgroup_bytes = 0;
    for (_, global) in module.global_variables.iter() {
        let access = match global.space {
            AddressSpace::Uniform => Access::Uniform,
            AddressSpace::Storage { access } if access == StorageAccess::LOAD => Access::Read,
            AddressSpace::Storage { .. } => Access::ReadWrite,
            AddressSpace::WorkGroup => {
                workgroup_bytes += module.types[global.ty].inner.size(module.to_ctx());
                continue;
            }
            // The global `p` is the private copy of the parameters from the uniform buffer, and needs no
            // binding.
            AddressSpace::Private if global.name.as_deref() == Some("p") => continue,
            other => return Err(format!("expected a buffer or workgroup memory, got a global in {other:?}")),
        };
        let binding = global.binding.ok_or("expected a binding, got a global without one")?;
        if binding.group != 0 || bindings.insert(binding.binding, access).is_some() {
            return Err(format!(
                "expected unique bindings in group 0, got group {} binding {}",
                binding.group, binding.binding
            ));
        }
        match binding.binding {
            0 => {
                let (got, span) = fields(&module, global.ty)?;
                let want: Vec<_> = launch.fields.iter().map(|f| (f.name.to_owned(), f.offset)).collect();
                if got != want || span != launch.params.len() {
                    let bytes = launch.params.len();
                    return Err(format!(
                        "parameters: expected {want:?}, {bytes} bytes, got {got:?}, {span} bytes"
                    ));
                }
            }
            1 => {
                let (_, span) = fields(&module, global.ty)?;
                let want = size_of::<frazil::low_level::StepScalars>();
                if span != want {
                    return Err(format!("scalars: expected {want} bytes, got {span}"));
                }
            }
            _ => {}
        }
    }
    let want: BTreeMap<u32, Access> = launch.shader().bindings.into_iter().collect();
    if bindings != want {
        return Err(format!("bindings: expected {want:?}, got {bindings:?}"));
    }
    let storage = want.values().filter(|a| **a != Access::Uniform).count();
    if storage > 8 || workgroup_bytes > 16_384 {
        return Err(format!(
            "expected at most 8 storage buffers and 16384 bytes of workgroup memory, \
             got {storage} and {workgroup_bytes}"
        ));
    }
    Ok((module, info))
}

/// Optional WGSL feature of a kernel that some backends do not support.
#[derive(Clone, Copy, PartialEq)]
enum Feature {
    None,
    /// Not supported by GLSL ES 3.1.
    Subgroups,
    /// Supported by SPIR-V and MSL only.
    CooperativeMatrix,
}

fn hlsl(module: &Module, info: &ModuleInfo, shader_model: ShaderModel) -> Result<String, String> {
    let options = naga::back::hlsl::Options {
        shader_model,
        zero_initialize_workgroup_memory: false,
        ..Default::default()
    };
    let mut text = String::new();
    naga::back::hlsl::Writer::new(&mut text, &options, &Default::default())
        .write(module, info, None)
        .map_err(|e| format!("HLSL: {e}"))?;
    Ok(text)
}

/// Translates a module for every backend that supports its `feature`.
fn write(module: &Module, info: &ModuleInfo, feature: Feature) -> Result<(), String> {
    let spirv = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
    naga::back::spv::write_vec(module, info, &spirv, None).map_err(|e| format!("SPIR-V: {e}"))?;
    let metal =
        naga::back::msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() };
    naga::back::msl::write_string(module, info, &metal, &Default::default())
        .map_err(|e| format!("MSL: {e}"))?;
    if feature == Feature::CooperativeMatrix {
        return Ok(());
    }
    // Writes HLSL for shader model 5.1 (compiled by FXC, which has no subgroup operations) and 6.0 (compiled
    // by DXC).
    let models = match feature {
        Feature::None => &[ShaderModel::V5_1, ShaderModel::V6_0][..],
        _ => &[ShaderModel::V6_0],
    };
    for &shader_model in models {
        let text = hlsl(module, info, shader_model)?;
        if let Some(line) = duplicate_definition(&text) {
            return Err(format!("HLSL: duplicate definition: {line}"));
        }
    }
    if feature == Feature::Subgroups {
        return Ok(());
    }
    let glsl = naga::back::glsl::Options::default();
    let pipeline = naga::back::glsl::PipelineOptions {
        shader_stage: naga::ShaderStage::Compute,
        entry_point: "main".into(),
        multiview: None,
    };
    let mut text = String::new();
    naga::back::glsl::Writer::new(&mut text, module, info, &glsl, &pipeline, Default::default())
        .and_then(|mut writer| writer.write())
        .map_err(|e| format!("GLSL: {e}"))?;
    Ok(())
}

#[test]
fn every_shader_matches_its_declarations_and_compiles_for_every_backend() {
    let (mut texts, mut without_glsl, mut without_hlsl) = (0, 0, 0);
    let mut kernels = BTreeSet::new();
    for (source, launch) in launches() {
        let name = launch.kernel.name;
        // WebGPU's smallest limit of a uniform binding, in compatibility mode.
        assert!(launch.params.len() <= 16_384, "{name}: the parameters exceed a uniform binding");
        let (module, info) = check(launch, source).unwrap_or_else(|message| panic!("{name}: {message}"));
        let feature = match name {
            "gemm_subgroup" => Feature::Subgroups,
            _ if launch.needs_cooperative_matrix() => Feature::CooperativeMatrix,
            _ => Feature::None,
        };
        write(&module, &info, feature).unwrap_or_else(|message| panic!("{name}: {message}"));
        // Shaders with cooperative matrices run on Vulkan and Metal only, so the restrictions of browsers and
        // DX12 do not apply to them.
        if feature != Feature::CooperativeMatrix {
            let violations = portability_violations(&module, &info);
            assert!(violations.is_empty(), "{name}: {violations:#?}");
        }
        without_glsl += usize::from(feature != Feature::None);
        without_hlsl += usize::from(feature == Feature::CooperativeMatrix);
        kernels.insert(name);
        texts += 1;
    }
    println!(
        "{texts} shaders of {} kernels; not written as GLSL: {without_glsl} with subgroups or cooperative \
         matrices; not written as HLSL: {without_hlsl} with cooperative matrices",
        kernels.len()
    );
    let all: BTreeSet<_> = FILES.iter().filter(|f| f.is_kernel()).map(|f| f.name).collect();
    assert_eq!(kernels, all, "every kernel must have a checked shader");
}

#[test]
fn every_wgsl_file_is_in_the_table_and_used() {
    let mut on_disk = BTreeSet::new();
    for folder in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders")).unwrap() {
        let folder = folder.unwrap();
        for file in std::fs::read_dir(folder.path()).unwrap() {
            let names = [folder.file_name(), file.unwrap().file_name()].map(|n| n.into_string().unwrap());
            on_disk.insert(names.join("/"));
        }
    }
    let in_table: BTreeSet<_> = FILES.iter().map(|f| format!("{}/{}.wgsl", f.folder, f.name)).collect();
    assert_eq!(on_disk, in_table);
    let used = launches().values().flat_map(Launch::files);
    let used: BTreeSet<_> = used.map(|f| format!("{}/{}.wgsl", f.folder, f.name)).collect();
    assert_eq!(in_table, used);
}

#[test]
fn marked_loops_are_unrolled() {
    for (source, launch) in launches() {
        assert!(!source.contains("// unroll"), "{}: a marked loop was not unrolled", launch.kernel.name);
    }
}

/// Values must be computed with `&` and `|` instead of `&&` and `||`, which compile to branches: one driver
/// takes minutes and gigabytes to compile a few dozen of them in sequence, as in an unrolled loop.
#[test]
fn values_use_no_short_circuit_operators() {
    let branch = |line: &&str| {
        let code = line.split("//").next().unwrap().trim();
        (code.contains("&&") || code.contains("||"))
            && !code.starts_with("if (")
            && !code.starts_with("for (")
    };
    assert!(branch(&"let inside = h < p.height && w < p.width;") && !branch(&"if (a || b) { // c && d"));
    for launch in launches().values() {
        let source = launch.shader().wgsl;
        let found: Vec<_> = source.lines().filter(branch).collect();
        assert!(found.is_empty(), "{}: {found:#?}", launch.kernel.name);
    }
}

#[test]
fn contract_check_detects_mismatches() {
    let all = launches();
    // The variant whose parameters end with those of the rule.
    let is_plain = |source: &str| !source.contains("missed_steps");
    let found = all.iter().find(|(source, l)| l.kernel.name == "adam_update" && is_plain(source));
    let (source, launch) = found.unwrap();
    assert!(check(launch, source).is_ok());
    let mutations = [
        ("    beta2: f32,", "    beta_two: f32,", "parameters: expected"),
        (
            "    beta1: f32,\n    one_minus_beta1: f32,",
            "    one_minus_beta1: f32,\n    beta1: f32,",
            "parameters: expected",
        ),
        ("    decoupled: u32,\n}", "    decoupled: u32,\n    more: u32,\n}", "parameters"),
        ("    last: u32,\n}", "    last: u32,\n    more: u32,\n}", "scalars: expected"),
        ("var<storage, read> mask", "var<storage, read_write> mask", "bindings: expected"),
        ("@binding(11)", "@binding(12)", "bindings: expected"),
        ("@group(0) @binding(11)", "@group(1) @binding(11)", "group 1"),
        ("WORKGROUP: u32 = 256u", "WORKGROUP: u32 = 512u", "entry point"),
        ("let m = ", "let = ", "error"),
    ];
    for (right, wrong, expected) in mutations {
        assert!(source.contains(right), "{right}");
        // Renames all uses of the field `beta2` too, so that the shader remains valid and only the comparison
        // with the Rust declaration fails.
        let mut text = source.replacen(right, wrong, 1);
        if wrong.contains("beta_two") {
            text = text.replace("p.beta2", "p.beta_two");
        }
        let message = check(launch, &text).map(|_| ()).expect_err(wrong);
        assert!(message.contains(expected), "{wrong}: {message}");
    }
}

/// Returns the portability violations of a shader whose entry point has the given `body` and whose additional
/// declarations are `before`.
fn violations_of(before: &str, body: &str) -> Vec<String> {
    let text = format!(
        "struct Params {{ n: u32, lane: u32 }}
        @group(0) @binding(0) var<uniform> uniform_params: Params;
        @group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
        var<private> p: Params;
        var<workgroup> shared_sum: array<f32, 64>;
        {before}
        @compute @workgroup_size(64)
        fn main(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) group: vec3<u32>) {{ {body} }}"
    );
    let (module, info) = parse(&text, Capabilities::empty()).unwrap();
    portability_violations(&module, &info)
}

#[test]
fn portability_checks_detect_what_other_compilers_reject() {
    let varying = "non-uniform control flow";
    let shaders = [
        ("", "if (local < uniform_params.n) { workgroupBarrier(); }", varying),
        ("", "if (local < uniform_params.n) { return; } workgroupBarrier();", varying),
        ("", "p = uniform_params; for (var i = 0u; i < p.n; i++) { workgroupBarrier(); }", varying),
        ("", "for (var i = 0u; i < u32(y[0].x); i++) { workgroupBarrier(); }", varying),
        ("", "loop { if (local == 3u) { break; } workgroupBarrier(); }", varying),
        (
            "",
            "var n = uniform_params.n; if (local == 3u) { n = 1u; } if (n == 1u) { workgroupBarrier(); }",
            varying,
        ),
        (
            "fn bound(n: u32) -> u32 { return n + p.n; }",
            "if (bound(1u) > 2u) { workgroupBarrier(); }",
            varying,
        ),
        ("fn meet(n: u32) { if (n > 1u) { workgroupBarrier(); } }", "meet(local);", varying),
        (
            "fn give(n: ptr<function, u32>) { *n = p.n; }",
            "var n = 0u; give(&n); if (n > 1u) { workgroupBarrier(); }",
            varying,
        ),
        ("", "if (local > 3u) { y[0] = vec4(subgroupAdd(1.0)); }", varying),
        (
            "fn bound(n: u32) -> u32 { if (n == 0u) { return 1u; } return n; }",
            "for (var i = 0u; i < bound(uniform_params.n); i++) { workgroupBarrier(); }",
            "early return in a shader with barriers",
        ),
        (
            "",
            "var v = y[0]; for (var i = 0u; i < 3u; i++) { v[i] = 1.0; } y[1] = v;",
            "with a variable index",
        ),
        ("", "y[1].x = y[0][local];", ""),
        ("", "let v = y[0]; y[1].x = v[local & 3u];", "with a variable index"),
        ("", "var m = mat4x4<f32>(); m[local & 3u] = y[0]; y[1] = m[0];", "with a variable index"),
        ("", "y[0] = vec4(bitcast<f32>(0x7fc00000u));", "constant expression with value NaN"),
        (
            "const TOP = 0xff800000u;",
            "y[0] = vec4(bitcast<f32>(TOP));",
            "constant expression with value -inf",
        ),
        ("", "y[0] = bitcast<vec4<f32>>(vec4(0x7f800000u));", "constant expression with value inf"),
        ("", "y[0] = quadBroadcast(y[1], 4u);", "quadBroadcast from lane"),
        // Valid shaders, in which no violation may be found.
        ("", "if (group.x < uniform_params.n) { return; } workgroupBarrier();", ""),
        ("", "let n = uniform_params.n; for (var i = 0u; i < n; i++) { workgroupBarrier(); }", ""),
        (
            "",
            "if (local < 3u) { shared_sum[local] = 1.0; } workgroupBarrier(); if (local > 3u) { return; }",
            "",
        ),
        (
            "fn bound(n: u32) -> u32 { return select(n, 1u, n == 0u); }",
            "if (bound(uniform_params.n) > 2u) { workgroupBarrier(); }",
            "",
        ),
        ("fn f(bits: u32) -> f32 { return bitcast<f32>(bits); }", "y[0] = vec4(f(0x7fc00000u));", ""),
        ("", "var v: array<vec4<f32>, 2>; v[local & 1u] = y[0]; y[1] = quadBroadcast(v[0], 3u);", ""),
    ];
    for (before, body, expected) in shaders {
        let found = violations_of(before, body);
        match expected {
            "" => assert!(found.is_empty(), "{before} {body}: {found:?}"),
            _ => assert!(found.iter().any(|f| f.contains(expected)), "{before} {body}: {found:?}"),
        }
    }
}

/// Detects a naga bug: the HLSL backend writes the constructor of an array type twice if the type is used
/// both directly and through an alias.
#[test]
fn duplicate_hlsl_definitions_are_detected() {
    let text = "
        alias Pair = array<vec4<f32>, 2>;
        @group(0) @binding(0) var<storage, read_write> y: array<vec4<f32>, 4>;
        @compute @workgroup_size(1)
        fn main(@builtin(local_invocation_index) i: u32) {
            var a = Pair();
            var b = array<vec4<f32>, 2>();
            a[i] = y[0];
            b[i] = y[1];
            y[2] = a[0] + b[0];
        }";
    let duplicate = |text: &str| {
        let (module, info) = parse(text, Capabilities::empty()).unwrap();
        duplicate_definition(&hlsl(&module, &info, ShaderModel::V5_1).unwrap())
    };
    assert!(duplicate(text).is_some());
    assert_eq!(duplicate(&text.replace("Pair()", "array<vec4<f32>, 2>()")), None);
}
