//! Planted faults: they show that the suite, and what calls it, detects a broken driver.

use crate::error::{Error, Result};
use crate::gpu::{Change, Gpu, Shader};
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use wildmatch::WildMatch;

/// What a planted fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The first element of the first result is 12345.
    Wrong,
    /// The first element of the first result is NaN.
    Nan,
    /// The first element of the first result is 12345 in every second pipeline of a kernel that is created.
    Flaky,
    /// The creation of the kernel's pipeline does not return.
    Hang,
    /// The device is lost when the kernel's pipeline is created.
    Lost,
}

/// A fault of the kernels whose names match a glob. Parsed from `wrong:GLOB`, and likewise `nan`, `flaky`, `hang`
/// and `lost`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// What it does.
    pub kind: FaultKind,
    /// The names of the kernels.
    pub kernel: String,
}

impl FromStr for Fault {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || {
            let expected = "wrong, nan, flaky, hang or lost with a glob of kernels, such as wrong:gemm_*";
            Error::argument("fault", expected, text)
        };
        let (kind, kernel) = text.split_once(':').ok_or_else(invalid)?;
        let kind = match kind {
            "wrong" => FaultKind::Wrong,
            "nan" => FaultKind::Nan,
            "flaky" => FaultKind::Flaky,
            "hang" => FaultKind::Hang,
            "lost" => FaultKind::Lost,
            _ => return Err(invalid()),
        };
        Ok(Fault { kind, kernel: kernel.to_owned() })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            FaultKind::Wrong => "wrong",
            FaultKind::Nan => "nan",
            FaultKind::Flaky => "flaky",
            FaultKind::Hang => "hang",
            FaultKind::Lost => "lost",
        };
        write!(f, "{kind}:{}", self.kernel)
    }
}

/// Plants a fault in a device: from then on, its new pipelines of the matching kernels have it. Call it before the suite
/// runs, once for each device.
///
/// # Errors
/// [`Error::InvalidArgument`] if the device has a fault already.
pub fn plant(gpu: &Gpu, fault: &Fault) -> Result<()> {
    let (kind, glob) = (fault.kind, WildMatch::new(&fault.kernel));
    let created = AtomicUsize::new(0);
    gpu.change_shaders(move |kernel, shader| {
        if !glob.matches(kernel) {
            return Change::None;
        }
        match kind {
            FaultKind::Lost => Change::Lose,
            FaultKind::Hang => Change::Hang,
            FaultKind::Flaky if created.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) => Change::None,
            _ => faulty(kind, shader).map_or(Change::None, Change::Text),
        }
    })
}

/// The text of a shader with a fault; `None` if it writes no array of numbers.
fn faulty(kind: FaultKind, shader: &Shader) -> Option<String> {
    let text = &shader.wgsl;
    let (name, ty) = text.lines().find_map(written_array)?;
    let number = match kind {
        FaultKind::Nan => "0x7fc00000u",
        // 12345.0
        _ => "0x4640e400u",
    };
    let value = if ty.contains("f32") { "bitcast<f32>(planted)" } else { "planted" };
    let store = format!("{name}[0] = {ty}({value});");
    // The entry point becomes a function, which the new entry point calls.
    let entry = text.find("@compute")?;
    let header = entry + text[entry..].find("fn main(")? + "fn main(".len();
    let end = header + text[header..].find(") {")?;
    let (attributes, parameters) = (&text[entry..header], &text[header..end]);
    let named = parameters.split(',').map(str::trim).filter(|parameter| !parameter.is_empty());
    let plain: Vec<_> =
        named.map(|parameter| parameter.rsplit_once(") ").map_or(parameter, |(_, p)| p)).collect();
    let arguments: Vec<_> = plain.iter().filter_map(|p| p.split(':').next()).map(str::trim).collect();
    Some(format!(
        "{}fn planted_main({}) {{{}\n{attributes}{parameters}) {{\n    planted_main({});\n    var planted = {number};\n    {store}\n}}\n",
        &text[..entry],
        plain.join(", "),
        &text[end + 3..],
        arguments.join(", ")
    ))
}

/// The name and the element type of a binding that the shader writes, if this line declares one with numbers.
fn written_array(line: &str) -> Option<(&str, &str)> {
    let (_, declaration) = line.split_once("var<storage, read_write> ")?;
    let (name, rest) = declaration.split_once(": array<")?;
    let ty = rest.split_once(">;")?.0;
    ["f32", "u32", "vec4<f32>", "vec4<u32>"].contains(&ty).then_some((name, ty))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_parse_what_they_print() {
        for text in ["wrong:relu", "nan:gemm_*", "flaky:mul", "hang:*", "lost:bias_add"] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        for wrong in ["relu", "slow:relu", "wrong"] {
            let message = wrong.parse::<Fault>().unwrap_err().to_string();
            assert!(message.contains(wrong) && message.contains("wrong:gemm_*"), "{message}");
        }
    }

    #[test]
    fn entry_point_is_wrapped() {
        let wgsl = "@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    y[local] = vec4<f32>(f32(group.x));
}
const WORKGROUP: u32 = 64u;
";
        let shader = Shader { wgsl: wgsl.to_owned(), bindings: Vec::new() };
        let text = faulty(FaultKind::Nan, &shader).unwrap();
        for part in [
            "fn planted_main(group: vec3<u32>, local: u32) {",
            "fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {",
            "planted_main(group, local);",
            "var planted = 0x7fc00000u;",
            "y[0] = vec4<f32>(bitcast<f32>(planted));",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(text.matches("@compute").count(), 1);
        let sums = Shader { wgsl: wgsl.replace("array<vec4<f32>>", "Sums"), bindings: Vec::new() };
        assert_eq!(faulty(FaultKind::Wrong, &sums), None);
    }
}
