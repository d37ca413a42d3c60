//! Nodes of an ONNX file whose results are constants, mostly shapes.

use super::attributes::int;
use super::proto::{Attribute, Node, Read, Tensor};

/// The extent of the batch in the result of `Shape`.
pub(super) const BATCH: i64 = i64::MIN;

/// Prints a shape, with n for [`BATCH`].
pub(super) fn shape_text(shape: &[i64]) -> String {
    let text = |&extent: &i64| if extent == BATCH { "n".to_owned() } else { extent.to_string() };
    format!("[{}]", shape.iter().map(text).collect::<Vec<_>>().join(", "))
}

/// What is known of an operand without computing the network.
pub(super) enum Known<'t, 'a> {
    Constant(&'t Tensor<'a>),
    /// The shape of one example of a computed value, in ONNX's layout.
    Shape(Vec<usize>),
    /// The operand is left out or not defined.
    Nothing,
}

impl<'a> Known<'_, 'a> {
    /// The elements of a constant with integers; none if it is left out.
    fn integers(&self) -> Read<Vec<i64>> {
        match self {
            Known::Constant(tensor) => tensor.to_integers(),
            Known::Shape(_) => Err("expected constant operands, got a computed value".to_owned()),
            Known::Nothing => Ok(Vec::new()),
        }
    }
}

/// Computes a node whose result is a constant; `None` if it depends on the input.
pub(super) fn fold<'t, 'a: 't>(
    node: &Node<'a>,
    operand: impl Fn(usize) -> Known<'t, 'a>,
) -> Read<Option<Tensor<'a>>> {
    Ok(match (node.op, operand(0)) {
        ("Constant", _) => Some(match node.attributes.iter().next() {
            Some((_, Attribute::Tensor(tensor))) => tensor.clone(),
            Some((_, Attribute::Int(value))) => Tensor::of_integers(Vec::new(), vec![*value]),
            Some((_, Attribute::Ints(values))) => Tensor::of_integers(vec![values.len()], values.clone()),
            Some((_, Attribute::Float(value))) => Tensor::of_floats(Vec::new(), vec![*value]),
            Some((_, Attribute::Floats(values))) => Tensor::of_floats(vec![values.len()], values.clone()),
            _ => return Err("expected a tensor or numbers".to_owned()),
        }),
        ("ConstantOfShape", Known::Constant(shape)) => {
            let extent = |&extent: &i64| {
                usize::try_from(extent).map_err(|_| format!("expected extents of 0 or more, got {extent}"))
            };
            let dims = shape.to_integers()?.iter().map(extent).collect::<Read<Vec<_>>>()?;
            match node.attributes.get("value") {
                None => Some(Tensor::filled(dims, 0.0)),
                Some(Attribute::Tensor(value)) if value.is_float() => match *value.to_floats()? {
                    [value] => Some(Tensor::filled(dims, value)),
                    ref values => return Err(format!("expected one value, got {}", values.len())),
                },
                Some(_) => return Err("expected a floating-point value, got another".to_owned()),
            }
        }
        ("Unsqueeze" | "Squeeze", Known::Constant(tensor)) if tensor.is_float() => {
            let axes = match (node.attributes.get("axes"), operand(1)) {
                (Some(Attribute::Ints(axes)), _) => axes.clone(),
                (_, axes) => axes.integers()?,
            };
            let inserts = node.op == "Unsqueeze";
            let rank = tensor.dims.len() + if inserts { axes.len() } else { 0 };
            let position = |&axis: &i64| {
                let at = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
                usize::try_from(at).ok().filter(|&at| at < rank)
            };
            let wrong = || format!("expected axes of {:?}, got {axes:?}", tensor.dims);
            let mut positions: Vec<_> = axes.iter().map(position).collect::<Option<_>>().ok_or_else(wrong)?;
            positions.sort_unstable();
            let mut dims = tensor.dims.clone();
            if inserts {
                positions.iter().for_each(|&at| dims.insert(at.min(dims.len()), 1));
            } else {
                let all = positions.is_empty();
                if positions.iter().any(|&at| dims[at] != 1) {
                    return Err(wrong());
                }
                let mut at = 0;
                dims.retain(|&extent| {
                    let keeps = if all { extent != 1 } else { !positions.contains(&at) };
                    at += 1;
                    keeps
                });
            }
            Some(tensor.reshaped(dims))
        }
        ("Reshape", Known::Constant(tensor)) if tensor.is_float() => {
            let wanted = match node.attributes.get("shape") {
                Some(Attribute::Ints(shape)) => shape.clone(),
                _ => operand(1).integers()?,
            };
            let wrong = || format!("expected a shape with the elements of {:?}, got {wanted:?}", tensor.dims);
            // An extent of 0 is that of the operand, and one of -1 what remains.
            let extent = |(at, &extent): (usize, &i64)| match extent {
                0 => tensor.dims.get(at).copied(),
                -1 => Some(1),
                extent => usize::try_from(extent).ok(),
            };
            let dims: Option<Vec<_>> = wanted.iter().enumerate().map(extent).collect();
            let mut dims = dims.ok_or_else(wrong)?;
            let product = |dims: &[usize]| dims.iter().try_fold(1usize, |product, &e| product.checked_mul(e));
            let all = product(&tensor.dims).ok_or_else(wrong)?;
            if let Some(open) = wanted.iter().position(|&extent| extent == -1) {
                let known = product(&dims).ok_or_else(wrong)?;
                dims[open] = all.checked_div(known).ok_or_else(wrong)?;
            }
            if product(&dims) != Some(all) || wanted.iter().filter(|&&extent| extent == -1).count() > 1 {
                return Err(wrong());
            }
            Some(tensor.reshaped(dims))
        }
        ("Shape", Known::Shape(example)) => {
            let shape: Vec<_> = [BATCH].into_iter().chain(example.iter().map(|&e| e as i64)).collect();
            let bound = |at: i64| {
                (if at < 0 { at + shape.len() as i64 } else { at }).clamp(0, shape.len() as i64) as usize
            };
            let (start, end) = (bound(int(node, "start", 0)?), bound(int(node, "end", i64::MAX)?));
            let part = shape.get(start..end).unwrap_or(&[]).to_vec();
            Some(Tensor::of_integers(vec![part.len()], part))
        }
        ("Identity", Known::Constant(tensor)) => Some(tensor.clone()),
        ("Cast", Known::Constant(tensor)) if !tensor.is_float() => Some(tensor.clone()),
        ("Unsqueeze" | "Squeeze", Known::Constant(tensor)) if !tensor.is_float() => {
            let all = tensor.to_integers()?;
            let scalar = node.op == "Squeeze" && all.len() == 1;
            Some(Tensor::of_integers(if scalar { Vec::new() } else { vec![all.len()] }, all))
        }
        ("Gather", Known::Constant(tensor)) if !tensor.is_float() && int(node, "axis", 0)? == 0 => {
            let (all, indices) = (tensor.to_integers()?, operand(1));
            let scalar = matches!(&indices, Known::Constant(indices) if indices.dims.is_empty());
            let element = |&at: &i64| {
                let at = if at < 0 { at + all.len() as i64 } else { at };
                usize::try_from(at).ok().and_then(|at| all.get(at).copied())
            };
            let found: Option<Vec<_>> = indices.integers()?.iter().map(element).collect();
            let found = found.ok_or("expected indices inside the shape, got others")?;
            Some(Tensor::of_integers(if scalar { Vec::new() } else { vec![found.len()] }, found))
        }
        ("Slice", Known::Constant(tensor)) if !tensor.is_float() => {
            let all = tensor.to_integers()?;
            let bounds = |name: &str, index: usize| match node.attributes.get(name) {
                Some(Attribute::Ints(values)) => Ok(values.clone()),
                _ => operand(index).integers(),
            };
            let (starts, ends) = (bounds("starts", 1)?, bounds("ends", 2)?);
            let (axes, steps) = (bounds("axes", 3)?, operand(4).integers()?);
            let (&[start], &[end], [] | [0], [] | [1]) =
                (starts.as_slice(), ends.as_slice(), axes.as_slice(), steps.as_slice())
            else {
                return Err("expected a range of a shape with step 1, got another slice".to_owned());
            };
            let bound = |at: i64| {
                let at = if at < 0 { at.saturating_add(all.len() as i64) } else { at };
                at.clamp(0, all.len() as i64) as usize
            };
            let part = all.get(bound(start)..bound(end)).unwrap_or(&[]).to_vec();
            Some(Tensor::of_integers(vec![part.len()], part))
        }
        ("Concat", Known::Constant(tensor)) if !tensor.is_float() => {
            let all: Read<Vec<_>> = (0..node.inputs.len()).map(|index| operand(index).integers()).collect();
            let all = all?.concat();
            Some(Tensor::of_integers(vec![all.len()], all))
        }
        _ => None,
    })
}
