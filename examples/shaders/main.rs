//! Prints or exports every assembled shader of Frazil, as WGSL or HLSL, for inspection or for other shader
//! compilers.
//!
//! ```text
//! cargo run --release --example shaders                          # name and length of each
//! cargo run --release --example shaders -- --kernel adam_update  # text of all variants of a kernel
//! cargo run --release --example shaders -- --json FILE           # all shaders as a JSON list
//! cargo run --release --example shaders -- --hlsl DIR            # all shaders for DX12, as DIR/*.hlsl
//! ```

use frazil::conformance::shaders;
use frazil::gpu::Access;
use frazil::low_level::Launch;
use naga::back::hlsl;
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let all = shaders()?;
    // Names each shader by its kernel and a number: the variants of a kernel are numbered in the order of
    // their texts.
    let mut named: Vec<(String, &str, &Launch)> = Vec::new();
    for (text, launch) in &all {
        let kernel = launch.kernel.name;
        let number = named.iter().filter(|(_, _, other)| other.kernel.name == kernel).count();
        named.push((format!("{kernel}-{number:03}"), text, launch));
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => named.iter().for_each(|(name, text, _)| println!("{name}  {} lines", text.lines().count())),
        ["--kernel", kernel] => {
            let found: Vec<_> = named.iter().filter(|(_, _, l)| l.kernel.name == kernel).collect();
            if found.is_empty() {
                let hint = "run without arguments for a list";
                return Err(format!("expected the name of a kernel, got {kernel}; {hint}").into());
            }
            found.iter().for_each(|(name, text, _)| println!("// {name}\n{text}"));
        }
        ["--json", file] => write_json(&named, Path::new(file))?,
        ["--hlsl", folder] => write_hlsl(&named, Path::new(folder))?,
        ref other => {
            let expected = "--kernel NAME, --json FILE, --hlsl DIR or no argument";
            return Err(format!("expected {expected}, got {other:?}").into());
        }
    }
    Ok(())
}

/// Writes a JSON list of shaders with the data that a WebGPU program needs to create their pipelines. Shaders
/// with cooperative matrices are left out, because WebGPU does not support them.
fn write_json(named: &[(String, &str, &Launch)], file: &Path) -> Result<(), Box<dyn Error>> {
    let object = |(name, text, launch): &(String, &str, &Launch)| {
        let bindings = launch.shader().bindings.into_iter().map(|(number, access)| {
            let kind = match access {
                Access::Uniform => "uniform",
                Access::Read => "read-only-storage",
                Access::ReadWrite => "storage",
            };
            serde_json::json!([number, kind])
        });
        serde_json::json!({
            "name": name,
            "kernel": launch.kernel.name,
            "text": text,
            "bindings": bindings.collect::<Vec<_>>(),
            "subgroups": launch.uses_subgroups(),
        })
    };
    let web = named.iter().filter(|(_, _, launch)| !launch.needs_cooperative_matrix());
    let list: Vec<_> = web.map(object).collect();
    std::fs::write(file, serde_json::to_string(&list)?)?;
    println!("{} shaders in {}", list.len(), file.display());
    Ok(())
}

/// Writes HLSL with the same naga options as wgpu: shader model 5.1 (FXC), or 6.0 (DXC) for shaders with
/// subgroup operations.
fn write_hlsl(named: &[(String, &str, &Launch)], folder: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    let mut written = 0;
    for (name, text, launch) in named.iter().filter(|(_, _, l)| !l.needs_cooperative_matrix()) {
        let model = if launch.uses_subgroups() { hlsl::ShaderModel::V6_0 } else { hlsl::ShaderModel::V5_1 };
        let (module, info) = parse(text)?;
        let options = hlsl::Options {
            shader_model: model,
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        };
        let mut out = String::new();
        hlsl::Writer::new(&mut out, &options, &Default::default()).write(&module, &info, None)?;
        let suffix = if launch.uses_subgroups() { "sm6.hlsl" } else { "hlsl" };
        std::fs::write(folder.join(format!("{name}.{suffix}")), out)?;
        written += 1;
    }
    println!("{written} shaders in {}", folder.display());
    Ok(())
}

fn parse(text: &str) -> Result<(naga::Module, ModuleInfo), Box<dyn Error>> {
    let module = naga::front::wgsl::parse_str(text).map_err(|e| e.emit_to_string(text))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::SUBGROUP);
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|e| e.emit_to_string(text))?;
    Ok((module, info))
}
