//! ONNX's `Resize` and `Upsample`, as far as an upsampling layer computes the same.

use super::attributes::{decimal, int, text};
use super::proto::{Attribute, Node, Read};
use crate::layer::{UpsampleLayer, Upsampling};

/// Largest difference of the weights of an element: positions are computed in f32 or f64.
const TOLERANCE: f64 = 1e-5;

/// Returns the layer that computes the same as a node on images of `shape` = `[h, w, c]`. `old` nodes have the
/// semantics before version 11 of the operators. Of `scales` and `sizes`, one is empty.
pub(super) fn layer(
    node: &Node,
    old: bool,
    scales: &[f32],
    sizes: &[i64],
    shape: &[usize],
) -> Read<UpsampleLayer> {
    if int(node, "antialias", 0)? != 0 {
        return Err("expected antialias = 0, got 1".to_owned());
    }
    match text(node, "keep_aspect_ratio_policy", "stretch")? {
        "stretch" => {}
        other => return Err(format!("expected keep_aspect_ratio_policy = stretch, got {other}")),
    }
    let axes = match node.attributes.get("axes") {
        None => vec![0, 1, 2, 3],
        Some(Attribute::Ints(axes)) => {
            axes.iter().map(|&axis| if axis < 0 { axis + 4 } else { axis }).collect()
        }
        Some(other) => return Err(format!("attribute axes: expected integers, got {other:?}")),
    };
    let candidates = match text(node, "mode", "nearest")? {
        "nearest" => vec![Upsampling::Nearest],
        "linear" | "bilinear" => vec![Upsampling::Bilinear, Upsampling::BilinearCorners],
        other => return Err(format!("expected the mode nearest or linear, got {other}")),
    };
    let of = |axis: i64| axes.iter().position(|&other| other == axis);
    // The scale and the size of the result of rows and columns.
    let mut targets = [(1.0, shape[0]), (1.0, shape[1])];
    if !sizes.is_empty() && sizes.len() == axes.len() && scales.is_empty() {
        for (axis, target) in (2..).zip(&mut targets) {
            let Some(at) = of(axis) else { continue };
            let size = usize::try_from(sizes[at]).ok().filter(|size| (1..=1 << 20).contains(size));
            let size = size.ok_or_else(|| format!("expected 1 to 1,048,576 pixels, got {:?}", sizes[at]))?;
            *target = (size as f64 / target.1 as f64, size);
        }
        let channels = of(1).map(|at| sizes[at]);
        if channels.is_some_and(|channels| channels != shape[2] as i64) {
            return Err(format!("expected {} channels, as before, got {sizes:?}", shape[2]));
        }
    } else if !scales.is_empty() && scales.len() == axes.len() && sizes.is_empty() {
        for (axis, target) in (2..).zip(&mut targets) {
            let Some(at) = of(axis) else { continue };
            // Of a scale that is not valid, the layer says so.
            *target = (decimal(scales[at]), (target.1 as f32 * scales[at]) as usize);
        }
        let others = axes.iter().zip(scales).filter(|&(&axis, _)| axis < 2);
        if others.clone().any(|(_, &scale)| scale != 1.0) {
            return Err(format!("expected scales of rows and columns alone, got {scales:?}"));
        }
    } else {
        let got = format!("{} scales and {} sizes", scales.len(), sizes.len());
        return Err(format!("expected scales or sizes of {} axes as constants, got {got}", axes.len()));
    }
    let default = if old { "asymmetric" } else { "half_pixel" };
    let coordinates = text(node, "coordinate_transformation_mode", default)?;
    let rounding = text(node, "nearest_mode", if old { "floor" } else { "round_prefer_floor" })?;
    for upsampling in candidates {
        let candidate = match sizes.is_empty() {
            true => UpsampleLayer::by(upsampling, targets.map(|(scale, _)| scale)),
            false => UpsampleLayer::to(upsampling, targets.map(|(_, size)| size)),
        };
        let resample = candidate.resolve(node.op, shape).map_err(|error| error.to_string())?;
        let mut same = true;
        for (axis, (scale, size)) in targets.into_iter().enumerate() {
            let weights = resample.weights(axis);
            same &= weights.len() == size;
            for (output, (first, weights)) in weights.iter().enumerate() {
                let position = position(coordinates, output, scale, shape[axis], size)?;
                let expected = match upsampling {
                    Upsampling::Nearest => (nearest(rounding, position, shape[axis])?, vec![1.0]),
                    _ => linear(position, shape[axis]),
                };
                same &= equal((*first, weights), (expected.0, &expected.1));
            }
        }
        if same {
            return Ok(candidate);
        }
    }
    Err(format!(
        "expected nearest or linear interpolation as in PyTorch's Upsample (asymmetric and floor, half_pixel or \
         align_corners), got {coordinates} and {rounding}, which are other pixels for {:?} to {:?}",
        &shape[..2],
        targets.map(|(_, size)| size)
    ))
}

/// Returns the position in the input, by ONNX's formulas, of pixel `output` of `size`.
fn position(coordinates: &str, output: usize, scale: f64, input: usize, size: usize) -> Read<f64> {
    let half_pixel = (output as f64 + 0.5) / scale - 0.5;
    Ok(match coordinates {
        "asymmetric" => output as f64 / scale,
        "half_pixel" => half_pixel,
        "pytorch_half_pixel" if size > 1 => half_pixel,
        "pytorch_half_pixel" => 0.0,
        "align_corners" if size > 1 => output as f64 * (input - 1) as f64 / (size - 1) as f64,
        "align_corners" => 0.0,
        other => {
            return Err(format!(
                "expected the coordinates asymmetric, half_pixel, pytorch_half_pixel or align_corners, got {other}"
            ));
        }
    })
}

fn nearest(rounding: &str, position: f64, input: usize) -> Read<usize> {
    // A quotient such as 3 / (1 / 3) may be a little below the integer that it is.
    let position = if (position - position.round()).abs() < 1e-6 { position.round() } else { position };
    let pixel = match rounding {
        "floor" => position.floor(),
        "ceil" => position.ceil(),
        "round_prefer_floor" => (position - 0.5).ceil(),
        "round_prefer_ceil" => (position + 0.5).floor(),
        other => return Err(format!("expected a known nearest_mode, got {other}")),
    };
    Ok((pixel.max(0.0) as usize).min(input - 1))
}

fn linear(position: f64, input: usize) -> (usize, Vec<f64>) {
    let position = position.clamp(0.0, (input - 1) as f64);
    let first = position as usize;
    let fraction = position.fract();
    if first + 1 < input { (first, vec![1.0 - fraction, fraction]) } else { (first, vec![1.0]) }
}

/// Whether two outputs are computed from the same elements; each is given as the first element and the weights.
fn equal(a: (usize, &[f64]), b: (usize, &[f64])) -> bool {
    let weight = |(first, weights): (usize, &[f64]), element: usize| {
        element.checked_sub(first).and_then(|at| weights.get(at)).copied().unwrap_or(0.0)
    };
    let elements = a.0.min(b.0)..(a.0 + a.1.len()).max(b.0 + b.1.len());
    // Comparisons with NaN are false.
    (elements.len() <= 4) && elements.clone().all(|i| (weight(a, i) - weight(b, i)).abs() <= TOLERANCE)
}
