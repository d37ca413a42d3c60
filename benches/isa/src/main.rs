//! Statistics of the device code that Mesa's drivers generate for Frazil's kernels: registers, spills,
//! occupancy, and the instructions of the main loops. `scripts/isa.sh` runs it on devices that need no GPU.
//!
//! ```text
//! frazil-isa measure DEVICE FILE [FOLDER]   compiles all kernels on the only Vulkan device; FOLDER gets the assembly
//! frazil-isa check COMMITTED FILE...        compares with the committed results; exit code 1 if a figure is worse
//! frazil-isa update COMMITTED FILE...       replaces the committed results
//! frazil-isa table FILE                     prints the GEMMs as a Markdown table
//! ```

mod kernels;
mod listing;
mod record;
mod vulkan;

use frazil::gpu::{AdapterReport, Backend, devices};
use kernels::Kernel;
use listing::{Listing, Set};
use record::{Record, compare, from_text, table, to_text};
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

/// Names of a driver's statistics, and its instruction set if its assembly is read.
struct Driver {
    /// Beginning of the driver's name.
    name: &'static str,
    set: Option<Set>,
    registers: &'static str,
    spills: &'static str,
    /// `None` if the driver reports spills only.
    scratch: Option<&'static str>,
    occupancy: &'static str,
    instructions: &'static str,
}

const DRIVERS: [Driver; 4] = [
    Driver {
        name: "radv",
        set: Some(Set::Rdna),
        registers: "VGPRs",
        spills: "Spilled VGPRs",
        scratch: Some("Scratch size"),
        occupancy: "Subgroups per SIMD",
        instructions: "Instructions",
    },
    Driver {
        name: "NVK",
        set: Some(Set::Nvidia),
        registers: "Number of GPRs",
        spills: "Spills to memory",
        scratch: Some("SLM size"),
        occupancy: "Max warps/SM",
        instructions: "Instruction count",
    },
    Driver {
        name: "Honeykrisp",
        set: None,
        registers: "GPRs",
        spills: "Spills",
        scratch: Some("Scratch"),
        occupancy: "Threads",
        instructions: "Instructions",
    },
    Driver {
        name: "turnip",
        set: None,
        registers: "Registers used",
        spills: "STP Count",
        scratch: None,
        occupancy: "Max Waves Per Core",
        instructions: "Instruction Count",
    },
];

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("frazil-isa: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &[String]) -> Result<bool, Box<dyn Error>> {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["measure", device, file] => measure(device, Path::new(file), None),
        ["measure", device, file, folder] => measure(device, Path::new(file), Some(Path::new(folder))),
        ["check", committed, ref files @ ..] if !files.is_empty() => check(committed, &read(files)?),
        ["update", committed, ref files @ ..] if !files.is_empty() => {
            std::fs::write(committed, to_text(&read(files)?))?;
            Ok(true)
        }
        ["table", file] => {
            print!("{}", table(&read(&[file])?));
            Ok(true)
        }
        _ => {
            Err("expected measure DEVICE FILE [FOLDER], check or update COMMITTED FILE..., or table FILE"
                .into())
        }
    }
}

fn read(files: &[&str]) -> Result<Vec<Record>, Box<dyn Error>> {
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
        all.extend(from_text(&text).map_err(|error| format!("{file}: {error}"))?);
    }
    Ok(all)
}

fn check(committed: &str, new: &[Record]) -> Result<bool, Box<dyn Error>> {
    let result = compare(&read(&[committed])?, new);
    result.improvements.iter().for_each(|line| println!("better: {line}"));
    result.skipped.iter().for_each(|line| println!("SKIPPED: {line}"));
    result.failures.iter().for_each(|line| println!("FAIL {line}"));
    println!("{} kernels, {} failures", new.len(), result.failures.len());
    if !result.failures.is_empty() {
        println!("if this is intended, `make isa-update` replaces {committed}");
    }
    Ok(result.failures.is_empty())
}

/// Compiles all kernels on the Vulkan device and writes their records.
fn measure(name: &str, file: &Path, folder: Option<&Path>) -> Result<bool, Box<dyn Error>> {
    let report = devices().into_iter().find(|report| report.backend == Backend::Vulkan);
    let report = report.ok_or("no Vulkan device")?;
    let driver = DRIVERS.iter().find(|driver| report.driver.starts_with(driver.name));
    let driver = driver.ok_or_else(|| format!("unknown driver {}", report.driver))?;
    let device = vulkan::Device::open()?;
    let mut records = Vec::new();
    for (index, kernel) in kernels::kernels(&report)?.iter().enumerate() {
        let compiled = device.compile(&kernel.shader).map_err(|error| format!("{}: {error}", kernel.name))?;
        if let Some(folder) = folder {
            std::fs::create_dir_all(folder)?;
            let base = format!("{index:03} {} {}", kernel.name, kernel.shader_name).replace(['/', ' '], "_");
            for (kind, text) in &compiled.texts {
                std::fs::write(folder.join(format!("{base}_{}.txt", kind.replace(['/', ' '], "_"))), text)?;
            }
            std::fs::write(folder.join(format!("{base}.wgsl")), &kernel.shader.wgsl)?;
        }
        let record = record(name, &report, driver, kernel, &compiled)
            .map_err(|error| format!("{}: {error}", kernel.name))?;
        records.push(record);
    }
    std::fs::write(file, to_text(&records))?;
    println!("{name}: {} kernels", records.len());
    Ok(true)
}

fn record(
    device: &str,
    report: &AdapterReport,
    driver: &Driver,
    kernel: &Kernel,
    compiled: &vulkan::Report,
) -> Result<Record, Box<dyn Error>> {
    let statistic = |name: &str| {
        let found = compiled.statistics.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
        found.ok_or_else(|| format!("the driver has no statistic {name}"))
    };
    let listing = match driver.set {
        Some(set) => {
            let assembly = compiled.texts.iter().find(|(name, _)| name.ends_with("ssembly"));
            let (_, text) = assembly.ok_or("the driver prints no assembly")?;
            Some((set, Listing::read(set, text)?))
        }
        None => None,
    };
    let main_loop = listing.as_ref().and_then(|(set, listing)| Some((set, listing.main_loop()?)));
    Ok(Record {
        device: device.to_owned(),
        driver: report.driver.clone(),
        kernel: kernel.name.clone(),
        shader: kernel.shader_name.clone(),
        dispatches: kernel.dispatches.clone(),
        registers: statistic(driver.registers)?,
        spills: statistic(driver.spills)?,
        scratch: driver.scratch.map_or(Ok(0), statistic)?,
        occupancy: statistic(driver.occupancy)?,
        instructions: statistic(driver.instructions)?,
        mix: listing.as_ref().map(|(_, listing)| listing.mix()).unwrap_or_default(),
        share: main_loop.as_ref().map(|(set, mix)| set.multiply_add_share(mix)),
        main_loop: main_loop.map(|(_, mix)| mix).unwrap_or_default(),
    })
}
