//! Shaders and their Rust twins agree, and every backend's writer accepts them. Needs no GPU.

use frazil::check::cases;
use frazil::gpu::{Access, AdapterReport, Backend, DeviceKind};
use frazil::graph::StepScalars;
use frazil::kernels::{GemmFamily, KERNELS, Launch, digest};
use frazil::{Plan, PlanOptions};
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{AddressSpace, Module, StorageAccess, TypeInner};
use std::collections::{BTreeMap, BTreeSet};
use std::mem::offset_of;
use std::path::Path;

static SCALARS: [(&str, usize); 12] = [
    ("learning_rate", offset_of!(StepScalars, learning_rate)),
    ("correction1", offset_of!(StepScalars, correction1)),
    ("correction2", offset_of!(StepScalars, correction2)),
    ("rows", offset_of!(StepScalars, rows)),
    ("step", offset_of!(StepScalars, step)),
    ("on_non_finite_continue", offset_of!(StepScalars, on_non_finite_continue)),
    ("seed_low", offset_of!(StepScalars, seed)),
    ("seed_high", offset_of!(StepScalars, seed) + 4),
    ("draw", offset_of!(StepScalars, draw)),
    ("share", offset_of!(StepScalars, share)),
    ("first", offset_of!(StepScalars, first)),
    ("last", offset_of!(StepScalars, last)),
];

fn adapter() -> AdapterReport {
    AdapterReport {
        name: "none".into(),
        driver: String::new(),
        backend: Backend::Vulkan,
        kind: DeviceKind::Discrete,
        software: false,
        subgroup: Some([8, 64]),
        matrix_units: None,
        timestamps: false,
        max_buffer: 1 << 30,
        max_binding: 1 << 30,
        max_storage_buffers: 8,
        max_workgroup_memory: 16_384,
        max_invocations: 256,
    }
}

/// An adapter that can run the family.
fn adapter_for(family: GemmFamily) -> AdapterReport {
    match family {
        GemmFamily::Cooperative { side, lanes } => {
            AdapterReport { matrix_units: Some(side), subgroup: Some([8, lanes]), ..adapter() }
        }
        _ => adapter(),
    }
}

/// Every text that the op table and the digests need in any family, once.
fn launches() -> BTreeMap<String, Launch> {
    let mut all = BTreeMap::new();
    let families = ["register", "subgroup4", "subgroup8", "tiled-small", "tiled-large"];
    let with_units = ["cooperative8x8", "cooperative8x32", "cooperative16x32", "cooperative16x64"];
    let families = families.iter().chain(&with_units).map(|name| GemmFamily::parse(name).unwrap());
    let families: Vec<_> = families.map(|family| (family, adapter_for(family))).collect();
    for case in cases().unwrap() {
        let graph = case.graph().unwrap();
        for (family, adapter) in &families {
            for explicit in [false, true] {
                let options = PlanOptions::default().family(*family).explicit_columns(explicit);
                let options = case.options(options);
                for launch in Plan::launches(&graph, adapter, &options).unwrap() {
                    all.insert(launch.source(), launch);
                }
            }
        }
    }
    // The table's cases have no running statistics.
    let model = frazil::Model::input([3]).batch_norm("bn").dense("fc", 2).build().unwrap();
    let rule = frazil::graph::UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };
    let graph = model.training_graph(4, frazil::Loss::SoftmaxCrossEntropy, rule).unwrap().graph;
    for launch in Plan::launches(&graph, &adapter(), &PlanOptions::default()).unwrap() {
        all.insert(launch.source(), launch);
    }
    for launch in [digest(3, false), digest(3, true)] {
        all.insert(launch.source(), launch);
    }
    all
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

/// What Rust says of a launch's parameters: fields with their offsets, and bytes. Where an update ends a product, its rule
/// stands in the place of none.
fn parameters(launch: &Launch) -> (Vec<(&'static str, usize)>, usize) {
    let kernel = launch.kernel;
    let (mut all, bytes) = (kernel.params.to_vec(), kernel.params_bytes);
    let Some(update) = launch.update else { return (all, bytes) };
    let (last, place) = all.pop().unwrap();
    assert_eq!(last, "rule.unused");
    let rule = |params: &[(&'static str, usize)]| {
        params.iter().position(|(name, _)| name.starts_with("rule.")).unwrap()
    };
    let (first, rules) = (rule(update.params), update.params);
    let from = rules[first].1;
    all.extend(rules[first..].iter().map(|&(name, at)| (name, at - from + place)));
    (all, update.params_bytes - from + place)
}

fn equal(what: &str, got: &[(String, usize)], want: &[(&str, usize)]) -> Result<(), String> {
    let want: Vec<_> = want.iter().map(|(name, offset)| ((*name).to_owned(), *offset)).collect();
    if got == want { Ok(()) } else { Err(format!("{what}: WGSL has {got:?}, Rust has {want:?}")) }
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
                let (want, bytes) = parameters(launch);
                equal("parameters", &got, &want)?;
                if span != bytes || launch.params.len() != span {
                    return Err(format!("parameters of {span} bytes, in Rust {bytes}"));
                }
            }
            1 => {
                let (got, span) = fields(&module, global.ty)?;
                equal("scalars", &got, &SCALARS)?;
                if span != size_of::<StepScalars>() {
                    return Err(format!("scalars of {span} bytes"));
                }
            }
            _ => {}
        }
    }
    let want: BTreeMap<u32, Access> = launch.bindings().into_iter().collect();
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
    let hlsl = naga::back::hlsl::Options {
        shader_model: naga::back::hlsl::ShaderModel::V6_0,
        fake_missing_bindings: true,
        ..Default::default()
    };
    let pipeline = Default::default();
    let mut text = String::new();
    naga::back::hlsl::Writer::new(&mut text, &hlsl, &pipeline)
        .write(module, info, None)
        .map_err(|e| format!("HLSL: {e}"))?;
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
        let (module, info) = check(&launch, &source).unwrap_or_else(|message| panic!("{name}: {message}"));
        let needs = match name {
            "gemm_subgroup" => Needs::Subgroups,
            "gemm_cooperative" => Needs::MatrixUnits,
            _ => Needs::Nothing,
        };
        write(&module, &info, needs).unwrap_or_else(|message| panic!("{name}: {message}"));
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
    let all: BTreeSet<_> = KERNELS.iter().map(|k| k.name).collect();
    assert_eq!(kernels, all, "every kernel has a shader that was checked");
}

#[test]
fn every_file_is_claimed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let names = |folder: &Path| -> Vec<String> {
        let files = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path());
        let mut names: Vec<_> = files
            .filter(|p| p.is_file())
            .map(|p| p.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    let mut kernels: Vec<_> = KERNELS.iter().map(|k| format!("{}.wgsl", k.name)).collect();
    kernels.sort();
    assert_eq!(names(&folder), kernels, "one kernel a file, and one file a kernel");
    for kernel in KERNELS {
        let text = std::fs::read_to_string(folder.join(format!("{}.wgsl", kernel.name))).unwrap();
        assert_eq!(kernel.body, text, "{}", kernel.name);
    }
    let used: BTreeSet<_> = launches()
        .into_values()
        .flat_map(|l| {
            l.kernel
                .snippets
                .iter()
                .map(|s| s.name)
                .chain(l.snippets.iter().map(|s| s.name))
                .collect::<Vec<_>>()
        })
        .map(|name| format!("{name}.wgsl"))
        .collect();
    assert_eq!(names(&folder.join("shared")), used.into_iter().collect::<Vec<_>>(), "snippets in use");
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
        let source = launch.source();
        let found: Vec<_> = source.lines().filter(branch).collect();
        assert!(found.is_empty(), "{}: {found:#?}", launch.kernel.name);
    }
}

/// The update reads what the metrics and the clip write.
#[test]
fn all_declarations_of_the_sums_agree() {
    let all = launches();
    let sums = |name: &str| {
        let (source, _) = all.iter().find(|(_, l)| l.kernel.name == name).unwrap();
        let (module, _) = parse(source, Capabilities::empty()).unwrap();
        let (ty, _) = module.types.iter().find(|(_, t)| t.name.as_deref() == Some("Sums")).unwrap();
        fields(&module, ty).unwrap()
    };
    assert_eq!(sums("metrics"), sums("sgd_update"));
    assert_eq!(sums("metrics"), sums("adam_update"));
    assert_eq!(sums("metrics"), sums("clip_scale"));
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
        ("    rows: u32,", "    lines: u32,", "scalars: WGSL has"),
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
        text = text
            .replace("rule.beta2", if wrong.contains("beta_two") { "rule.beta_two" } else { "rule.beta2" });
        text = text
            .replace("scalars.rows", if wrong.contains("lines") { "scalars.lines" } else { "scalars.rows" });
        let message = check(launch, &text).map(|_| ()).expect_err(wrong);
        assert!(message.contains(expected), "{wrong}: {message}");
    }
}
