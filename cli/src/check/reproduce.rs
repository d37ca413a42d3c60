//! Repeats one case, and writes what a report of a defect needs: shaders, operands, results.

use super::lines::{CaseLine, Line, RunLine};
use super::{CheckArgs, at_argument};
use crate::output::Output;
use crate::{Failure, usage};
use frazil::conformance::{Extent, Run, Suite, Tensor, plant, record_case};
use frazil::gpu::AdapterReport;
use frazil::interop::npy;
use frazil::low_level::{Launch, Plan, PlanOptions};
use frazil::{Error, Gpu, Result};
use naga::back::{glsl, hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Instant;

pub fn run(args: &CheckArgs, name: &str) -> std::result::Result<(), Failure> {
    let output = Output::new(args.json);
    let gpu = Gpu::new(args.options())?;
    let suite = suite_with(args, name);
    if !suite.cases().is_ok_and(|cases| cases.iter().any(|case| case.name == name)) {
        let (at, got) = ("--reproduce".to_owned(), format!("{name:?}"));
        let expected = "the name of a case, as `frazil check --list --json` prints it in \"case\"".to_owned();
        return usage(Err(Error::InvalidArgument { at, expected, got }));
    }
    let runs = usage(suite.case(name).plan(gpu.report()).map_err(at_argument))?;
    let runs: Vec<_> = runs.filter(|run| run.case.name == name).collect();
    let report = super::work::adapter_line(&gpu, &args.selection(), 1);
    output.text(format!("adapter: {} ({}), {}", report.adapter, report.backend, report.driver))?;
    output.json(&Line::Adapter(Box::new(report)).to_json())?;
    if let Some(fault) = args.plant.as_ref().and_then(|planted| planted.fault.as_ref()) {
        plant(&gpu, fault)?;
    }
    let (mut wrong, mut stopped) = (0, 0);
    for run in &runs {
        let folder = args.dump.as_ref().map(|dump| dump.join(folder_name(run)));
        if let Some(folder) = &folder {
            // Before the case runs, which may not return.
            std::fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.clone(), source })?;
            write_shaders(folder, run, gpu.report())?;
        }
        if args.plant.as_ref().is_some_and(|planted| planted.crashes(&run.kernels)) {
            std::process::abort();
        }
        let (line, tensors) = repeated(args, &gpu, run)?;
        if let Some(folder) = &folder {
            write_tensors(folder, &tensors)?;
            write_text(&folder.join("result.json"), &json!(line))?;
        }
        output.text(super::report::line_of(&line, false))?;
        if let Some(worst) = &line.worst {
            output.text(format!(
                "      {} at {}: expected {}, got {}, bound {}; shapes {:?}, seed {}",
                worst.tensor, worst.index, worst.expected, worst.got, worst.bound, line.shapes, line.seed
            ))?;
        }
        if let Some(folder) = &folder {
            output.text(format!("      written to {}", folder.display()))?;
        }
        wrong += usize::from(!line.passed() && !line.is_stopped());
        stopped += usize::from(line.is_stopped());
        output.json(&Line::Case(Box::new(line)).to_json())?;
        if stopped > 0 {
            break;
        }
    }
    let result = match (wrong, stopped) {
        (0, 0) => Ok(()),
        (0, _) => Err(Failure::Stopped(format!("{name}: the device stopped"))),
        _ => Err(Failure::Verdict(format!("{name}: {wrong} of {} variants are wrong", runs.len()))),
    };
    if stopped > 0 {
        // A thread of the driver may never end, and would keep the process.
        crate::exit(result, args.json);
    }
    result
}

/// The suite with every case that a call may have run, whatever it selected: those of `--full`, and the random shapes of the
/// seed that the name contains.
fn suite_with(args: &CheckArgs, name: &str) -> Suite {
    let random = name.strip_prefix("random ").and_then(|rest| rest.split_once('/'));
    let suite = args.suite().extent(Extent::Full);
    match random.and_then(|(seed, _)| seed.parse().ok()) {
        Some(seed) => suite.seed(seed),
        None => suite,
    }
}

/// Runs a case until it fails, at most `--repeat` times; other bits than those of the first run are a failure.
fn repeated(args: &CheckArgs, gpu: &Gpu, run: &Run) -> Result<(CaseLine, Vec<Tensor>)> {
    let (first, mut tensors) = attempt(args, gpu, run)?;
    let mut line = first.clone();
    for number in 2..=args.repeat {
        if !line.passed() {
            break;
        }
        (line, tensors) = attempt(args, gpu, run)?;
        if line.passed() && line.digest != first.digest {
            line.status = "flaky".to_owned();
            line.message = Some(format!("run {number} has other bits than the first"));
        }
    }
    Ok((line, tensors))
}

/// Runs a case in a thread of its own, because a hang of the driver never returns.
fn attempt(args: &CheckArgs, gpu: &Gpu, run: &Run) -> Result<(CaseLine, Vec<Tensor>)> {
    let (sender, done) = channel();
    let (device, of, begun) = (gpu.clone(), run.clone(), Instant::now());
    // The receiver may have given up.
    let work = move || drop(sender.send(record_case(&device, &of.case, of.family, of.reduction)));
    let started = std::thread::Builder::new().name("case".to_owned()).spawn(work);
    started.map_err(|source| Error::Io { path: "a thread".into(), source })?;
    let ended = |status: &str, message: &str| {
        let seconds = begun.elapsed().as_secs_f64();
        let message = format!("{message} {seconds:.0} s");
        (RunLine::new(run).ended(status, message, seconds), Vec::new())
    };
    Ok(match done.recv_timeout(args.patience()) {
        Ok((outcome, tensors)) => (CaseLine::new(run, &outcome), tensors),
        Err(RecvTimeoutError::Timeout) => ended("timeout", "did not end within"),
        Err(RecvTimeoutError::Disconnected) => ended("crash", "panicked after"),
    })
}

/// The name of a run's folder: its family and reduction, as all are of one case.
fn folder_name(run: &Run) -> String {
    format!("{}-{}", run.family, super::lines::reduction_name(run.reduction))
}

/// Writes `launches.json`, and each shader as WGSL and in the languages of the backends.
fn write_shaders(folder: &Path, run: &Run, report: &AdapterReport) -> Result<()> {
    let options = PlanOptions::default().family(run.family).reduction(run.reduction);
    let launches = Plan::launches(&run.case.graph()?, report, &run.case.options(options))?;
    let mut described = Vec::new();
    for (number, launch) in launches.iter().enumerate() {
        let name = format!("{number:02}-{}", launch.kernel.name);
        let shader = launch.shader();
        write(&folder.join(format!("{name}.wgsl")), shader.wgsl.as_bytes())?;
        let mut errors = serde_json::Map::new();
        match parse(&shader.wgsl) {
            Ok((module, info)) => {
                for (extension, translated) in translations(&module, &info, launch) {
                    match translated {
                        Ok(bytes) => write(&folder.join(format!("{name}.{extension}")), &bytes)?,
                        Err(error) => {
                            errors.insert(extension.to_owned(), error.into());
                        }
                    }
                }
            }
            Err(error) => {
                errors.insert("wgsl".to_owned(), error.into());
            }
        }
        let parameters: Vec<String> = launch.params.iter().map(|byte| format!("{byte:02x}")).collect();
        let bindings =
            shader.bindings.iter().map(|(binding, access)| json!([binding, format!("{access:?}")]));
        described.push(json!({
            "shader": name,
            "workgroups": launch.groups,
            "parameters": parameters.concat(),
            "bindings": bindings.collect::<Vec<_>>(),
            "not_translated": errors,
        }));
    }
    write_text(&folder.join("launches.json"), &Value::from(described))
}

fn parse(text: &str) -> std::result::Result<(naga::Module, ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(text).map_err(|error| error.emit_to_string(text))?;
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
    validator.subgroup_stages(ShaderStages::COMPUTE).subgroup_operations(SubgroupOperationSet::all());
    let info = validator.validate(&module).map_err(|error| error.emit_to_string(text))?;
    Ok((module, info))
}

type Translated = std::result::Result<Vec<u8>, String>;

/// The shader in each language with naga's default options, by file extension.
fn translations(
    module: &naga::Module,
    info: &ModuleInfo,
    launch: &Launch,
) -> Vec<(&'static str, Translated)> {
    let spirv = || {
        let options = spv::Options { lang_version: (1, 3), ..Default::default() };
        let words = spv::write_vec(module, info, &options, None).map_err(|error| error.to_string())?;
        Ok(words.iter().flat_map(|word| word.to_le_bytes()).collect())
    };
    let metal = || {
        let options =
            msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() };
        let written = msl::write_string(module, info, &options, &Default::default());
        written.map(|(text, _)| text.into_bytes()).map_err(|error| error.to_string())
    };
    let direct3d = || {
        let shader_model =
            if launch.uses_subgroups() { hlsl::ShaderModel::V6_0 } else { hlsl::ShaderModel::V5_1 };
        let options =
            hlsl::Options { shader_model, zero_initialize_workgroup_memory: false, ..Default::default() };
        let mut text = String::new();
        let written =
            hlsl::Writer::new(&mut text, &options, &Default::default()).write(module, info, None).map(drop);
        written.map(|()| text.into_bytes()).map_err(|error| error.to_string())
    };
    let opengl = || {
        let options = glsl::Options::default();
        let pipeline = glsl::PipelineOptions {
            shader_stage: naga::ShaderStage::Compute,
            entry_point: "main".into(),
            multiview: None,
        };
        let mut text = String::new();
        let written = glsl::Writer::new(&mut text, module, info, &options, &pipeline, Default::default())
            .and_then(|mut writer| writer.write());
        written.map(|_| text.into_bytes()).map_err(|error| error.to_string())
    };
    // naga writes these for fewer features, and panics at some that it lacks.
    if launch.needs_cooperative_matrix() {
        return vec![("spv", spirv()), ("msl", metal())];
    }
    let mut all = vec![("spv", spirv()), ("msl", metal()), ("hlsl", direct3d())];
    if !launch.uses_subgroups() {
        all.push(("glsl", opengl()));
    }
    all
}

/// Writes each tensor as a `.npy` file, in the order of the run.
fn write_tensors(folder: &Path, tensors: &[Tensor]) -> Result<()> {
    for (number, tensor) in tensors.iter().enumerate() {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name: String = tensor.name.chars().map(plain).collect();
        let name = name.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
        let values: Vec<f32> = tensor.values.iter().map(|&x| x as f32).collect();
        npy::write(folder.join(format!("{number:03}-{name}.npy")), &tensor.shape, &values)?;
    }
    Ok(())
}

fn write_text(path: &Path, value: &Value) -> Result<()> {
    write(path, format!("{value:#}\n").as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(|source| Error::Io { path: path.to_owned(), source })
}
