//! Conversions between ONNX's layouts (images NCHW, kernels OIHW, one or two spatial axes) and those of this
//! crate (NHWC, HWIO, two spatial axes), and access to a case's inputs and attributes.

use super::{OutOfScope, out_of_scope};
use crate::support::executor::Operand;
use crate::support::onnx::{Attribute, Case, Tensor};

/// Returns a tensor of ONNX type `float`.
pub fn tensor(shape: &[usize], data: Vec<f64>) -> Tensor {
    Tensor { shape: shape.to_vec(), data, dtype: "float" }
}

/// Permutes the axes like NumPy's `transpose`.
pub fn permute(t: &Tensor, axes: &[usize]) -> Tensor {
    let shape: Vec<_> = axes.iter().map(|&axis| t.shape[axis]).collect();
    let stride = |axis: usize| t.shape[axis + 1..].iter().product::<usize>();
    let strides: Vec<_> = axes.iter().map(|&axis| stride(axis)).collect();
    let source = |mut index: usize| {
        let mut offset = 0;
        for (extent, stride) in shape.iter().zip(&strides).rev() {
            offset += index % extent * stride;
            index /= extent;
        }
        t.data[offset]
    };
    let data = (0..t.data.len()).map(source).collect();
    Tensor { shape, data, dtype: t.dtype }
}

/// Returns an image batch or a kernel with two spatial axes. A tensor with a single spatial axis becomes an
/// image of one row.
pub fn planar(t: &Tensor) -> Result<Tensor, OutOfScope> {
    let mut t = t.clone();
    match t.shape.len() {
        3 => t.shape.insert(2, 1),
        4 => {}
        rank => return out_of_scope(format!("{} spatial axes", rank as i64 - 2)),
    }
    Ok(t)
}

/// Converts NCHW to NHWC.
pub fn channels_last(t: &Tensor) -> Tensor {
    permute(t, &[0, 2, 3, 1])
}

/// Converts NHWC to NCHW, or to NCW if `like` has a single spatial axis.
pub fn channels_first(shape: [usize; 4], data: Vec<f64>, like: &Tensor) -> Tensor {
    let mut t = permute(&tensor(&shape, data), &[0, 3, 1, 2]);
    if like.shape.len() == 3 {
        t.shape.remove(2);
    }
    t
}

/// Returns the tensor as an operand whose first axis is the batch axis.
pub fn batch(t: &Tensor) -> Operand {
    Operand::batch(&t.shape, t.data.clone())
}

/// Returns the tensor as an operand without a batch axis.
pub fn fixed(t: &Tensor) -> Operand {
    Operand::fixed(&t.shape, t.data.clone())
}

/// Returns a required input of a case.
pub fn input(case: &Case, number: usize) -> &Tensor {
    case.inputs[number].as_ref().expect("an input of a supported type")
}

/// Returns an optional input of a case, or `None` if it is absent.
pub fn optional(case: &Case, number: usize) -> Option<&Tensor> {
    case.inputs.get(number).and_then(Option::as_ref)
}

/// Returns a float attribute, or `default` if it is absent.
pub fn float(case: &Case, name: &str, default: f64) -> f64 {
    match case.attributes.get(name) {
        None => default,
        Some(Attribute::Float(value)) => f64::from(*value),
        Some(other) => panic!("{}: unexpected value of {name}: {other:?}", case.name),
    }
}

/// Returns an integer attribute, or `default` if it is absent.
pub fn int(case: &Case, name: &str, default: i64) -> i64 {
    match case.attributes.get(name) {
        None => default,
        Some(Attribute::Int(value)) => *value,
        Some(other) => panic!("{}: unexpected value of {name}: {other:?}", case.name),
    }
}

/// Returns a string attribute, or `default` if it is absent.
pub fn text<'a>(case: &'a Case, name: &str, default: &'a str) -> &'a str {
    match case.attributes.get(name) {
        None => default,
        Some(Attribute::Text(value)) => value,
        Some(other) => panic!("{}: unexpected value of {name}: {other:?}", case.name),
    }
}

/// Returns an attribute that is a list of sizes, or `None` if it is absent.
pub fn ints(case: &Case, name: &str) -> Option<Vec<usize>> {
    match case.attributes.get(name) {
        None => None,
        Some(Attribute::Ints(all)) => {
            Some(all.iter().map(|&n| usize::try_from(n).expect("a size")).collect())
        }
        Some(other) => panic!("{}: unexpected value of {name}: {other:?}", case.name),
    }
}

/// Returns an attribute that has one size per spatial axis as `[rows, columns]`. `default` replaces an absent
/// attribute, and the size of the rows if the case has a single spatial axis.
pub fn pair(case: &Case, name: &str, default: usize) -> [usize; 2] {
    match ints(case, name).as_deref() {
        None => [default; 2],
        Some(&[columns]) => [default, columns],
        Some(&[rows, columns]) => [rows, columns],
        Some(other) => panic!("{}: unexpected value of {name}: {other:?}", case.name),
    }
}

/// Returns the attribute `pads` as `[top, left, bottom, right]`; all are 0 if it is absent.
pub fn pads(case: &Case) -> [usize; 4] {
    match ints(case, "pads").as_deref() {
        None => [0; 4],
        Some(&[left, right]) => [0, left, 0, right],
        Some(&[top, left, bottom, right]) => [top, left, bottom, right],
        Some(other) => panic!("{}: unexpected value of pads: {other:?}", case.name),
    }
}

#[test]
fn permute_inverts_its_inverse() {
    let t = tensor(&[2, 3, 1, 4], (0..24).map(f64::from).collect());
    let moved = permute(&t, &[0, 2, 3, 1]);
    assert_eq!(
        (moved.shape.as_slice(), &moved.data[..5]),
        ([2, 1, 4, 3].as_slice(), [0., 4., 8., 1., 5.].as_slice())
    );
    assert_eq!(permute(&moved, &[0, 3, 1, 2]), t);
}
