//! What a device does with special floats where WGSL leaves the choice to it.

use crate::engine::run_shader;
use crate::error::Result;
use crate::gpu::{Access, Gpu, Shader};

/// How a device treats one kind of special floats. WGSL allows every one of the values, so none is a failure; kernels
/// give correct results with all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fact {
    /// What is measured, such as `subnormal operands`.
    pub name: &'static str,
    /// What the device does, such as `flushed`.
    pub value: &'static str,
}

/// Each operand is read from a buffer, so that no compiler computes a result in advance.
const SHADER: &str = "
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(1)
fn main() {
    y[0] = bitcast<u32>(x[0] * x[1]);
    y[1] = bitcast<u32>(x[2] * x[3]);
    y[2] = bitcast<u32>(x[4] * x[5]);
    y[3] = select(0u, 1u, x[6] != x[6]);
    y[4] = bitcast<u32>(max(x[6], x[5]));
    y[5] = bitcast<u32>(min(x[5], x[6]));
    y[6] = bitcast<u32>(x[7] - x[12]);
    y[7] = bitcast<u32>(x[8] + x[8]);
    y[8] = bitcast<u32>(x[9] * x[9] + x[10]);
    y[9] = bitcast<u32>(x[6]);
    y[10] = bitcast<u32>(x[5] / x[11]);
}
";

/// The operands of the shader, by index: 2^-127 (subnormal), 4, 2^-126 (the smallest normal float), 1/2, -0, 1, NaN with
/// a payload, infinity, the largest float, 1 + 2^-12, -(1 + 2^-11), +0, infinity.
const OPERANDS: [u32; 13] = [
    0x0040_0000,
    0x4080_0000,
    0x0080_0000,
    0x3f00_0000,
    0x8000_0000,
    0x3f80_0000,
    0x7fc1_2345,
    0x7f80_0000,
    0x7f7f_ffff,
    0x3f80_0800,
    0xbf80_1000,
    0x0000_0000,
    0x7f80_0000,
];

/// Measures how a device treats subnormal numbers, NaN, infinities, -0.0 and contraction.
///
/// # Errors
/// [`Error::Validation`](crate::Error::Validation), [`Error::DeviceLost`](crate::Error::DeviceLost),
/// [`Error::Timeout`](crate::Error::Timeout).
pub fn float_facts(gpu: &Gpu) -> Result<Vec<Fact>> {
    let bindings = vec![(0, Access::Read), (1, Access::ReadWrite)];
    let shader = Shader { wgsl: SHADER.to_owned(), bindings };
    let y = run_shader(gpu, "float facts", &shader, &OPERANDS, 11)?;
    Ok(facts(&y))
}

/// Interprets the results of the shader.
fn facts(y: &[u32]) -> Vec<Fact> {
    let is_nan = |bits: u32| f32::from_bits(bits).is_nan();
    let one_of = |bits: u32, values: &[(u32, &'static str)]| {
        values.iter().find(|(value, _)| *value == bits).map_or("other", |(_, name)| name)
    };
    let of_nan = |bits: u32| {
        if is_nan(bits) { "NaN" } else { one_of(bits, &[(0x3f80_0000, "the number")]) }
    };
    let (kept, flushed) = ("kept", "flushed to 0");
    let values = [
        ("subnormal operands", one_of(y[0], &[(0x0100_0000, kept), (0, flushed)])),
        ("subnormal results", one_of(y[1], &[(0x0040_0000, kept), (0, flushed)])),
        ("-0.0 * 1", one_of(y[2], &[(0x8000_0000, "-0.0"), (0, "0.0")])),
        ("x != x of NaN", one_of(y[3], &[(1, "true"), (0, "false")])),
        ("max(NaN, 1)", of_nan(y[4])),
        ("min(1, NaN)", of_nan(y[5])),
        ("infinity - infinity", if is_nan(y[6]) { "NaN" } else { one_of(y[6], &[(0, "0.0")]) }),
        ("overflow", one_of(y[7], &[(0x7f80_0000, "infinity"), (0x7f7f_ffff, "the largest float")])),
        ("a * b + c", one_of(y[8], &[(0, "rounded twice"), (0x3380_0000, "fused")])),
        ("NaN payloads in copies", one_of(y[9], &[(OPERANDS[6], kept), (0x7fc0_0000, "lost")])),
        ("1 / 0", one_of(y[10], &[(0x7f80_0000, "infinity"), (0x7f7f_ffff, "the largest float")])),
    ];
    values.into_iter().map(|(name, value)| Fact { name, value }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The results of a host whose floats follow IEEE 754, and of one that flushes and folds.
    #[test]
    fn results_are_interpreted() {
        let x = OPERANDS.map(f32::from_bits);
        let sum = x[9] * x[9] + x[10];
        let ieee = [x[0] * x[1], x[2] * x[3], x[4] * x[5]].map(f32::to_bits);
        let rest = [1, x[5].to_bits(), x[6].to_bits(), (x[7] - x[12]).to_bits(), (x[8] + x[8]).to_bits()];
        let last = [sum.to_bits(), OPERANDS[6], (x[5] / x[11]).to_bits()];
        let of = |y: &[u32]| facts(y).iter().map(|fact| fact.value).collect::<Vec<_>>();
        let found = of(&[&ieee[..], &rest, &last].concat());
        assert_eq!(
            found,
            [
                "kept",
                "kept",
                "-0.0",
                "true",
                "the number",
                "NaN",
                "NaN",
                "infinity",
                "rounded twice",
                "kept",
                "infinity"
            ]
        );
        // (1 + 2^-12)^2 - (1 + 2^-11) = 2^-24, which the rounded product loses.
        assert_eq!(x[9].mul_add(x[9], x[10]).to_bits(), 0x3380_0000);
        let flushed = of(&[0, 0, 0, 0, 0, 0x3f80_0000, 0, 0x7f7f_ffff, 0x3380_0000, 0x7fc0_0000, 7]);
        assert_eq!(
            flushed,
            [
                "flushed to 0",
                "flushed to 0",
                "0.0",
                "false",
                "other",
                "the number",
                "0.0",
                "the largest float",
                "fused",
                "lost",
                "other"
            ]
        );
    }
}
