//! Shaders and their Rust twins agree, and every backend's writer accepts them. Needs no GPU.

use crate::support::portable::{defined_twice, faults};
use frazil::conformance::shaders;
use frazil::gpu::Access;
use frazil::kernels::{FILES, Launch};
use naga::back::hlsl::ShaderModel;
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{AddressSpace, Module, StorageAccess, TypeInner};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;

/// Every shader, by its text.
fn launches() -> &'static BTreeMap<String, Launch> {
    static ALL: OnceLock<BTreeMap<String, Launch>> = OnceLock::new();
    ALL.get_or_init(|| shaders().unwrap())
}

/// `beyond`: what is needed besides subgroups.
fn parse(source: &str, beyond: Capabilities) -> Result<(Module, ModuleInfo), String> {
    let capabilities = Capabilities::SUBGROUP | beyond;
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(source))?;
    Ok((module, info))
}

/// Matrix units are asked for by one kernel alone.
fn beyond_subgroups(kernel: &str) -> Capabilities {
    if kernel == "gemm_cooperative" {
        Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16
    } else {
        Capabilities::empty()
    }
}

/// Fields of a struct with their offsets, those of a struct in it as `outer.inner`.
fn fields(module: &Module, ty: naga::Handle<naga::Type>) -> Result<(Vec<(String, usize)>, usize), String> {
    let TypeInner::Struct { members, span } = &module.types[ty].inner else {
        return Err("a uniform that is no struct".into());
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

/// Holds a text against its launch.
fn check(launch: &Launch, source: &str) -> Result<(Module, ModuleInfo), String> {
    let kernel = launch.kernel;
    let (module, info) = parse(source, beyond_subgroups(kernel.name))?;
    let [entry] = module.entry_points.as_slice() else { return Err("one entry point".into()) };
    if entry.name != "main" || entry.workgroup_size.iter().product::<u32>() > 256 {
        return Err(format!("entry point {} of {:?}", entry.name, entry.workgroup_size));
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
            // A copy of the parameters, in registers.
            AddressSpace::Private if global.name.as_deref() == Some("p") => continue,
            other => return Err(format!("a global in {other:?}")),
        };
        let at = global.binding.ok_or("a global without a binding")?;
        if at.group != 0 || bindings.insert(at.binding, access).is_some() {
            return Err(format!("group {} binding {}", at.group, at.binding));
        }
        match at.binding {
            0 => {
                let (got, span) = fields(&module, global.ty)?;
                let want: Vec<_> = launch.fields.iter().map(|f| (f.name.to_owned(), f.offset)).collect();
                if got != want || span != launch.params.len() {
                    let bytes = launch.params.len();
                    return Err(format!(
                        "parameters: WGSL has {got:?}, {span} bytes; Rust has {want:?}, {bytes} bytes"
                    ));
                }
            }
            1 => {
                let (_, span) = fields(&module, global.ty)?;
                if span != size_of::<frazil::graph::StepScalars>() {
                    return Err(format!("scalars of {span} bytes"));
                }
            }
            _ => {}
        }
    }
    let want: BTreeMap<u32, Access> = launch.shader().bindings.into_iter().collect();
    if bindings != want {
        return Err(format!("bindings: WGSL has {bindings:?}, Rust has {want:?}"));
    }
    let storage = want.values().filter(|a| **a != Access::Uniform).count();
    if storage > 8 || workgroup_bytes > 16_384 {
        return Err(format!("{storage} storage buffers, {workgroup_bytes} bytes of workgroup memory"));
    }
    Ok((module, info))
}

/// What a kernel needs that not every backend has.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Nothing,
    /// Not in GLSL ES 3.1.
    Subgroups,
    /// In SPIR-V and MSL alone.
    MatrixUnits,
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

/// Writes a module for every backend that can have it.
fn write(module: &Module, info: &ModuleInfo, needs: Needs) -> Result<(), String> {
    let spirv = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
    naga::back::spv::write_vec(module, info, &spirv, None).map_err(|e| format!("SPIR-V: {e}"))?;
    let metal =
        naga::back::msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() };
    naga::back::msl::write_string(module, info, &metal, &Default::default())
        .map_err(|e| format!("MSL: {e}"))?;
    if needs == Needs::MatrixUnits {
        return Ok(());
    }
    // What FXC compiles and what DXC does. FXC's has no subgroups.
    let models = match needs {
        Needs::Nothing => &[ShaderModel::V5_1, ShaderModel::V6_0][..],
        _ => &[ShaderModel::V6_0],
    };
    for &shader_model in models {
        let text = hlsl(module, info, shader_model)?;
        if let Some(line) = defined_twice(&text) {
            return Err(format!("HLSL: defined twice: {line}"));
        }
    }
    if needs == Needs::Subgroups {
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
fn every_shader_agrees_with_its_twin_and_is_written_for_every_backend() {
    let (mut texts, mut without_glsl, mut without_hlsl) = (0, 0, 0);
    let mut kernels = BTreeSet::new();
    for (source, launch) in launches() {
        let name = launch.kernel.name;
        let (module, info) = check(launch, source).unwrap_or_else(|message| panic!("{name}: {message}"));
        let needs = match name {
            "gemm_subgroup" => Needs::Subgroups,
            "gemm_cooperative" => Needs::MatrixUnits,
            _ => Needs::Nothing,
        };
        write(&module, &info, needs).unwrap_or_else(|message| panic!("{name}: {message}"));
        // Browsers and DX12 have no matrix units.
        if needs != Needs::MatrixUnits {
            let faults = faults(&module, &info);
            assert!(faults.is_empty(), "{name}: {faults:#?}");
        }
        without_glsl += usize::from(needs != Needs::Nothing);
        without_hlsl += usize::from(needs == Needs::MatrixUnits);
        kernels.insert(name);
        texts += 1;
    }
    println!(
        "{texts} shaders of {} kernels; {without_glsl} with subgroups are not written as GLSL, {without_hlsl} of them, with \
         matrix units, not as HLSL",
        kernels.len()
    );
    let all: BTreeSet<_> = FILES.iter().filter(|f| f.is_kernel()).map(|f| f.name).collect();
    assert_eq!(kernels, all, "every kernel has a shader that was checked");
}

#[test]
fn every_file_is_in_the_table_and_in_use() {
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
fn loops_over_registers_are_written_out() {
    for (source, launch) in launches() {
        assert!(!source.contains("// unroll"), "{}: a marked loop is left", launch.kernel.name);
    }
}

/// `&&` and `||` are branches, and one driver takes minutes and gigabytes to compile a few dozen in a row, as in a loop
/// that is written out. Values are made with `&` and `|`.
#[test]
fn values_are_made_without_branches() {
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
fn a_disagreement_is_caught() {
    let all = launches();
    let (source, launch) = all.iter().find(|(_, l)| l.kernel.name == "adam_update").unwrap();
    assert!(check(launch, source).is_ok());
    let planted = [
        ("    beta2: f32,", "    beta_two: f32,", "parameters: WGSL has"),
        (
            "    beta1: f32,\n    one_minus_beta1: f32,",
            "    one_minus_beta1: f32,\n    beta1: f32,",
            "parameters: WGSL has",
        ),
        ("    decoupled: u32,\n}", "    decoupled: u32,\n    more: u32,\n}", "parameters"),
        ("    last: u32,\n}", "    last: u32,\n    more: u32,\n}", "scalars of"),
        ("var<storage, read> mask", "var<storage, read_write> mask", "bindings: WGSL has"),
        ("@binding(11)", "@binding(12)", "bindings: WGSL has"),
        ("@group(0) @binding(11)", "@group(1) @binding(11)", "group 1"),
        ("WORKGROUP: u32 = 256u", "WORKGROUP: u32 = 512u", "entry point"),
        ("let m = ", "let = ", "error"),
    ];
    for (right, wrong, expected) in planted {
        assert!(source.contains(right), "{right}");
        // A renamed field is renamed where it is used, too, so that the text stays valid.
        let mut text = source.replacen(right, wrong, 1);
        if wrong.contains("beta_two") {
            text = text.replace("p.beta2", "p.beta_two");
        }
        let message = check(launch, &text).map(|_| ()).expect_err(wrong);
        assert!(message.contains(expected), "{wrong}: {message}");
    }
}

/// The faults of a text that has `body` as its entry point, after `before`.
fn faults_of(before: &str, body: &str) -> Vec<String> {
    let text = format!(
        "struct Params {{ n: u32, lane: u32 }}
        @group(0) @binding(0) var<uniform> given: Params;
        @group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
        var<private> p: Params;
        var<workgroup> shared_sum: array<f32, 64>;
        {before}
        @compute @workgroup_size(64)
        fn main(@builtin(local_invocation_index) local: u32, @builtin(workgroup_id) group: vec3<u32>) {{ {body} }}"
    );
    let (module, info) = parse(&text, Capabilities::empty()).unwrap();
    faults(&module, &info)
}

#[test]
fn what_other_compilers_refuse_is_found() {
    let varying = "control flow that is not uniform";
    let planted = [
        ("", "if (local < given.n) { workgroupBarrier(); }", varying),
        ("", "if (local < given.n) { return; } workgroupBarrier();", varying),
        ("", "p = given; for (var i = 0u; i < p.n; i++) { workgroupBarrier(); }", varying),
        ("", "for (var i = 0u; i < u32(y[0].x); i++) { workgroupBarrier(); }", varying),
        ("", "loop { if (local == 3u) { break; } workgroupBarrier(); }", varying),
        ("", "var n = given.n; if (local == 3u) { n = 1u; } if (n == 1u) { workgroupBarrier(); }", varying),
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
            "for (var i = 0u; i < bound(given.n); i++) { workgroupBarrier(); }",
            "returns early in a shader with barriers",
        ),
        ("", "var v = y[0]; for (var i = 0u; i < 3u; i++) { v[i] = 1.0; } y[1] = v;", "by a variable index"),
        ("", "y[1].x = y[0][local];", ""),
        ("", "let v = y[0]; y[1].x = v[local & 3u];", "by a variable index"),
        ("", "var m = mat4x4<f32>(); m[local & 3u] = y[0]; y[1] = m[0];", "by a variable index"),
        ("", "y[0] = vec4(bitcast<f32>(0x7fc00000u));", "a constant expression that is NaN"),
        ("const TOP = 0xff800000u;", "y[0] = vec4(bitcast<f32>(TOP));", "a constant expression that is -inf"),
        ("", "y[0] = bitcast<vec4<f32>>(vec4(0x7f800000u));", "a constant expression that is inf"),
        ("", "y[0] = quadBroadcast(y[1], 4u);", "quadBroadcast of lane"),
        // What is right.
        ("", "if (group.x < given.n) { return; } workgroupBarrier();", ""),
        ("", "let n = given.n; for (var i = 0u; i < n; i++) { workgroupBarrier(); }", ""),
        (
            "",
            "if (local < 3u) { shared_sum[local] = 1.0; } workgroupBarrier(); if (local > 3u) { return; }",
            "",
        ),
        (
            "fn bound(n: u32) -> u32 { return select(n, 1u, n == 0u); }",
            "if (bound(given.n) > 2u) { workgroupBarrier(); }",
            "",
        ),
        ("fn f(bits: u32) -> f32 { return bitcast<f32>(bits); }", "y[0] = vec4(f(0x7fc00000u));", ""),
        ("", "var v: array<vec4<f32>, 2>; v[local & 1u] = y[0]; y[1] = quadBroadcast(v[0], 3u);", ""),
    ];
    for (before, body, expected) in planted {
        let found = faults_of(before, body);
        match expected {
            "" => assert!(found.is_empty(), "{before} {body}: {found:?}"),
            _ => assert!(found.iter().any(|f| f.contains(expected)), "{before} {body}: {found:?}"),
        }
    }
}

/// naga writes the constructor of an array twice if one of two spellings of its type is an alias.
#[test]
fn what_hlsl_defines_twice_is_found() {
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
    let twice = |text: &str| {
        let (module, info) = parse(text, Capabilities::empty()).unwrap();
        defined_twice(&hlsl(&module, &info, ShaderModel::V5_1).unwrap())
    };
    assert!(twice(text).is_some());
    assert_eq!(twice(&text.replace("Pair()", "array<vec4<f32>, 2>()")), None);
}
