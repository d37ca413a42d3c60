//! Results: one record per kernel and device, their file, and their comparison.

use crate::listing::{CLASSES, Mix};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::error::Error;

/// Devices whose kernels must not use private memory.
const WITHOUT_SPILLS: [&str; 3] = ["navi31", "navi21", "nvk"];

/// Relative change of a figure that a comparison accepts. Mesa's compilers are deterministic; this is the
/// room for changes that do not matter.
const TOLERANCE: f64 = 0.03;

/// Figures of a kernel on a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Short name of the device.
    pub device: String,
    /// Driver with its version.
    pub driver: String,
    /// What the kernel computes.
    pub kernel: String,
    /// Kernel, with its tile.
    pub shader: String,
    /// Number of dispatches in a training step of each model.
    pub dispatches: BTreeMap<String, u64>,
    /// Vector registers per invocation, in the driver's unit.
    pub registers: u64,
    /// Instructions or registers that the driver spills to memory.
    pub spills: u64,
    /// Bytes of private memory per invocation.
    pub scratch: u64,
    /// Waves, warps or invocations that can be resident at the same time, in the driver's unit.
    pub occupancy: u64,
    /// Instructions of the whole shader.
    pub instructions: u64,
    /// Instructions of the whole shader by class; empty if the driver prints no assembly.
    pub mix: Mix,
    /// Instructions by class of one iteration of the main loop, on its most expensive path; empty without
    /// one, or if the driver prints no assembly.
    pub main_loop: Mix,
    /// Share of multiply-adds in the cost of [`Record::main_loop`].
    pub share: Option<f64>,
}

impl Record {
    fn key(&self) -> (&str, &str) {
        (&self.device, &self.kernel)
    }

    fn to_json(&self) -> Value {
        let by_name = |mix: &Mix| -> Value {
            let named = CLASSES.iter().filter_map(|(class, name)| Some((*name, mix.get(class)?)));
            named.map(|(name, count)| (name.to_owned(), json!(count))).collect::<Map<_, _>>().into()
        };
        let mut value = json!({
            "device": self.device,
            "driver": self.driver,
            "kernel": self.kernel,
            "shader": self.shader,
            "dispatches": self.dispatches,
            "registers": self.registers,
            "spills": self.spills,
            "scratch": self.scratch,
            "occupancy": self.occupancy,
            "instructions": self.instructions,
        });
        if let Some(object) = value.as_object_mut() {
            if !self.mix.is_empty() {
                object.insert("mix".into(), by_name(&self.mix));
            }
            if let Some(share) = self.share {
                object.insert("main_loop".into(), by_name(&self.main_loop));
                object.insert("share".into(), json!((share * 1e4).round() / 1e4));
            }
        }
        value
    }

    fn from_json(value: &Value) -> Option<Self> {
        let text = |key| value.get(key)?.as_str().map(str::to_owned);
        let number = |key| value.get(key)?.as_u64();
        let mix = |key| -> Option<Mix> {
            let entries = value.get(key).and_then(Value::as_object).into_iter().flatten();
            let entry = |(name, count): (&String, &Value)| {
                let (class, _) = CLASSES.iter().find(|(_, other)| other == name)?;
                Some((*class, count.as_u64()?))
            };
            entries.map(entry).collect()
        };
        let dispatches = value.get("dispatches")?.as_object()?.iter();
        let dispatches = dispatches.map(|(model, count)| Some((model.clone(), count.as_u64()?)));
        Some(Record {
            device: text("device")?,
            driver: text("driver")?,
            kernel: text("kernel")?,
            shader: text("shader")?,
            dispatches: dispatches.collect::<Option<_>>()?,
            registers: number("registers")?,
            spills: number("spills")?,
            scratch: number("scratch")?,
            occupancy: number("occupancy")?,
            instructions: number("instructions")?,
            mix: mix("mix")?,
            main_loop: mix("main_loop")?,
            share: match value.get("share") {
                Some(share) => Some(share.as_f64()?),
                None => None,
            },
        })
    }
}

/// Formats records as a JSON list, one per line.
pub fn to_text(records: &[Record]) -> String {
    let lines: Vec<String> = records.iter().map(|record| record.to_json().to_string()).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

/// Reads the text of [`to_text`].
///
/// # Errors
/// If it is not such a list, or is empty.
pub fn from_text(text: &str) -> Result<Vec<Record>, Box<dyn Error>> {
    let list: Vec<Value> = serde_json::from_str(text)?;
    if list.is_empty() {
        return Err("expected a list of records, got an empty one".into());
    }
    let record = |value: &Value| Record::from_json(value).ok_or_else(|| format!("not a record: {value}"));
    Ok(list.iter().map(record).collect::<Result<_, _>>()?)
}

/// Result of [`compare`].
#[derive(Debug, Default, PartialEq)]
pub struct Comparison {
    /// What is worse than it may be; the check fails.
    pub failures: Vec<String>,
    /// Figures that have become better by more than the tolerance.
    pub improvements: Vec<String>,
    /// Devices that were not compared, with the reason.
    pub skipped: Vec<String>,
}

/// Compares new records with committed ones. Private memory fails on some devices whatever was committed. A
/// device is compared only if both are of the same driver version: another one may differ in every figure.
pub fn compare(committed: &[Record], new: &[Record]) -> Comparison {
    let mut result = Comparison::default();
    for record in new.iter().filter(|record| WITHOUT_SPILLS.contains(&record.device.as_str())) {
        if record.spills > 0 || record.scratch > 0 {
            result.failures.push(format!(
                "{}, {}: expected no private memory, got {} spills and {} bytes",
                record.device, record.kernel, record.spills, record.scratch
            ));
        }
    }
    let drivers = |records: &[Record]| -> BTreeMap<String, String> {
        records.iter().map(|record| (record.device.clone(), record.driver.clone())).collect()
    };
    let (old_drivers, new_drivers) = (drivers(committed), drivers(new));
    for (device, driver) in &new_drivers {
        match old_drivers.get(device) {
            Some(old) if old == driver => compare_device(device, committed, new, &mut result),
            Some(old) => {
                result.skipped.push(format!("{device}: the committed figures are of {old}, not {driver}"));
            }
            None => result.failures.push(format!("{device}: the committed file has no such device")),
        }
    }
    for device in old_drivers.keys().filter(|device| !new_drivers.contains_key(*device)) {
        result.failures.push(format!("{device}: expected results of this device, got none"));
    }
    result
}

fn compare_device(device: &str, committed: &[Record], new: &[Record], result: &mut Comparison) {
    let of = |records: &[Record]| -> BTreeMap<String, Record> {
        let own = records.iter().filter(|record| record.device == device);
        own.map(|record| (record.kernel.clone(), record.clone())).collect()
    };
    let (old, new) = (of(committed), of(new));
    for kernel in old.keys().filter(|kernel| !new.contains_key(*kernel)) {
        result.failures.push(format!("{device}, {kernel}: in the committed file only"));
    }
    for (kernel, new) in &new {
        let Some(old) = old.get(kernel) else {
            result.failures.push(format!("{device}, {kernel}: not in the committed file"));
            continue;
        };
        // Name, old and new value, and whether more is better.
        let figures = [
            ("share of multiply-adds", old.share.unwrap_or(0.0), new.share.unwrap_or(0.0), true),
            ("occupancy", old.occupancy as f64, new.occupancy as f64, true),
            ("instructions", old.instructions as f64, new.instructions as f64, false),
            ("spills", old.spills as f64, new.spills as f64, false),
            ("bytes of private memory", old.scratch as f64, new.scratch as f64, false),
        ];
        for (name, old, new, more_is_better) in figures {
            let (worse, better) = if more_is_better { (new, old) } else { (old, new) };
            let line = format!("{device}, {kernel}: {name} {old} -> {new}");
            if worse < better * (1.0 - TOLERANCE) {
                result.failures.push(line);
            } else if better < worse * (1.0 - TOLERANCE) {
                result.improvements.push(line);
            }
        }
    }
}

/// Formats the GEMMs as Markdown tables: a row per kernel, a column per device.
pub fn table(records: &[Record]) -> String {
    let mut devices: Vec<&str> = Vec::new();
    let mut kernels: Vec<&str> = Vec::new();
    let mut cells: BTreeMap<(&str, &str), &Record> = BTreeMap::new();
    for record in records.iter().filter(|record| record.shader.starts_with("gemm_")) {
        let (device, kernel) = record.key();
        if !devices.contains(&device) {
            devices.push(device);
        }
        if !kernels.contains(&kernel) {
            kernels.push(kernel);
        }
        cells.insert((device, kernel), record);
    }
    let mut text = format!("| kernel | {} |\n|---|{}\n", devices.join(" | "), "---|".repeat(devices.len()));
    for kernel in kernels {
        let cell = |device: &&str| match cells.get(&(*device, kernel)) {
            Some(record) => {
                let share = record.share.map_or(String::new(), |share| format!("{:.0} %, ", 100.0 * share));
                format!("{share}{} / {} / {}", record.registers, record.spills, record.occupancy)
            }
            None => String::new(),
        };
        let row: Vec<String> = devices.iter().map(cell).collect();
        text.push_str(&format!("| {kernel} | {} |\n", row.join(" | ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::Class;

    fn record() -> Record {
        Record {
            device: "navi31".into(),
            driver: "radv Mesa 26".into(),
            kernel: "cifar conv2".into(),
            shader: "gemm_tiled 64x64".into(),
            dispatches: [("cifar".to_owned(), 3)].into_iter().collect(),
            registers: 96,
            spills: 0,
            scratch: 0,
            occupancy: 16,
            instructions: 1000,
            mix: [(Class::Fma, 520), (Class::Control, 3)].into_iter().collect(),
            main_loop: [(Class::Fma, 512), (Class::Quarter, 7)].into_iter().collect(),
            share: Some(0.75),
        }
    }

    /// Failures of a comparison of [`record`] with a changed one.
    fn failures(change: impl Fn(&mut Record)) -> Vec<String> {
        let mut new = record();
        change(&mut new);
        compare(&[record()], &[new]).failures
    }

    #[test]
    fn text_is_read_as_it_was_written() {
        let none = Record { mix: Mix::new(), main_loop: Mix::new(), share: None, ..record() };
        let other = Record { device: "m1".into(), ..none };
        let records = [record(), other];
        let text = to_text(&records);
        assert_eq!(from_text(&text).unwrap(), records);
        assert_eq!(text.lines().count(), 4);
        for wrong in ["", "[]", "{}", "[{}]", &text.replace("\"spills\"", "\"x\""), &text.replace("fma", "x")]
        {
            assert!(from_text(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn equal_records_and_changes_within_the_tolerance_pass() {
        assert_eq!(compare(&[record()], &[record()]), Comparison::default());
        assert!(failures(|new| new.share = Some(0.74)).is_empty());
        assert!(failures(|new| new.instructions = 1020).is_empty());
        assert!(failures(|new| new.registers = 120).is_empty());
    }

    #[test]
    fn each_figure_that_falls_fails() {
        let one = |change: fn(&mut Record), text: &str| {
            let failures = failures(change);
            assert!(failures.len() == 1 && failures[0].contains(text), "{failures:?}");
        };
        one(|new| new.share = Some(0.72), "share of multiply-adds 0.75 -> 0.72");
        one(|new| new.share = None, "share of multiply-adds 0.75 -> 0");
        one(|new| new.occupancy = 15, "occupancy 16 -> 15");
        one(|new| new.instructions = 1040, "instructions 1000 -> 1040");
    }

    #[test]
    fn private_memory_fails_even_if_committed() {
        for change in [|r: &mut Record| r.spills = 1, |r: &mut Record| r.scratch = 16] {
            let mut spilled = record();
            change(&mut spilled);
            let failures = compare(&[spilled.clone()], &[spilled.clone()]).failures;
            assert!(
                failures.len() == 1 && failures[0].contains("expected no private memory"),
                "{failures:?}"
            );
            // Another driver version is not compared, but must not spill either.
            let old = Record { driver: "radv Mesa 25".into(), ..record() };
            assert_eq!(compare(&[old], &[spilled.clone()]).failures.len(), 1);
            // On the other devices, only an increase fails.
            let m1 = |record: Record| Record { device: "m1".into(), ..record };
            let same = compare(&[m1(spilled.clone())], &[m1(spilled.clone())]);
            assert!(same.failures.is_empty());
            assert_eq!(compare(&[m1(record())], &[m1(spilled)]).failures.len(), 1);
        }
    }

    #[test]
    fn missing_devices_and_kernels_fail() {
        let renamed = Record { kernel: "cifar conv3".into(), ..record() };
        assert_eq!(compare(&[record()], &[renamed]).failures.len(), 2);
        let other = Record { device: "navi21".into(), ..record() };
        assert_eq!(compare(&[record()], &[record(), other.clone()]).failures.len(), 1);
        assert_eq!(compare(&[record(), other], &[record()]).failures.len(), 1);
    }

    #[test]
    fn improvements_are_reported_and_another_driver_is_skipped() {
        let better = Record { share: Some(0.8), ..record() };
        let result = compare(&[record()], &[better]);
        assert!(result.failures.is_empty() && result.improvements.len() == 1);
        let other = Record { driver: "radv Mesa 27".into(), share: Some(0.1), ..record() };
        let result = compare(&[record()], &[other]);
        assert!(result.failures.is_empty() && result.skipped.len() == 1);
    }

    #[test]
    fn the_table_has_a_column_per_device() {
        let m1 = Record { device: "m1".into(), share: None, ..record() };
        let text = table(&[record(), m1, Record { shader: "relu".into(), ..record() }]);
        assert_eq!(
            text,
            "| kernel | navi31 | m1 |\n|---|---|---|\n| cifar conv2 | 75 %, 96 / 0 / 16 | 96 / 0 / 16 |\n"
        );
    }
}
