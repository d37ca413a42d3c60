use crate::kernels::{Launch, WgslFile, files, grid, grid_of, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        rows: u32,
        per_example: u32,
        splits: u32,
        per_split: u32,
        factor: f32,
        threshold: f32,
        slope: f32,
        curvature: f32,
        positive_weight: f32,
    }
}

/// The loss of one element of an output and its target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Criterion {
    /// Squared difference.
    Squared,
    /// A parabola up to a difference of `threshold`, then a line of this slope.
    Huber { threshold: f64, slope: f64 },
    /// Binary cross-entropy of a logit.
    BinaryCrossEntropy { positive_weight: f64 },
}

impl Criterion {
    fn file(self) -> &'static WgslFile {
        match self {
            Criterion::Squared => &files::SQUARED_ERROR,
            Criterion::Huber { .. } => &files::HUBER_ERROR,
            Criterion::BinaryCrossEntropy { .. } => &files::BINARY_CROSS_ENTROPY,
        }
    }

    fn params(self, [rows, per_example]: [usize; 2], splits: usize, factor: f64) -> Params {
        let (threshold, slope, positive_weight) = match self {
            Criterion::Squared => (0.0, 0.0, 0.0),
            Criterion::Huber { threshold, slope } => (threshold, slope, 0.0),
            Criterion::BinaryCrossEntropy { positive_weight } => (0.0, 0.0, positive_weight),
        };
        Params {
            rows: to_u32(rows),
            per_example: to_u32(per_example),
            splits: to_u32(splits),
            per_split: to_u32(per_example.div_ceil(splits)),
            factor: factor as f32,
            threshold: threshold as f32,
            slope: slope as f32,
            curvature: if threshold > 0.0 { (slope / threshold) as f32 } else { 0.0 },
            positive_weight: positive_weight as f32,
        }
    }
}

/// Sum of the losses of the elements of each row times `factor`, for each of `splits` splits of its elements: the
/// mean for one split and a factor of 1 / elements. If `with_gradient`, also the gradient of the mean. Buffers: y,
/// targets, sums `[rows, splits]`; then dy.
pub fn element_loss(
    criterion: Criterion,
    sizes: [usize; 2],
    splits: usize,
    factor: f64,
    with_gradient: bool,
) -> Launch {
    let [rows, per_example] = sizes;
    let params = criterion.params(sizes, splits, factor);
    let results = 1 + usize::from(with_gradient);
    let mut launch = Launch::new(&files::ELEMENT_LOSS, &params, WORKGROUP, grid(rows * splits, 1))
        .flops((3 * results * rows * per_example) as u64)
        .iterations(per_example.div_ceil(splits).div_ceil(WORKGROUP as usize) + WORKGROUP as usize);
    launch.snippets.push(criterion.file());
    launch.snippets.push(if with_gradient {
        &files::ELEMENT_LOSS_GRAD_STORED
    } else {
        &files::ELEMENT_LOSS_GRAD_UNUSED
    });
    launch
}

/// Gradient of the mean loss of all valid elements, alone. Buffers: y, targets, dy.
pub fn element_loss_grad(criterion: Criterion, sizes: [usize; 2]) -> Launch {
    let elements = sizes[0] * sizes[1];
    let params = criterion.params(sizes, 1, 1.0);
    let mut launch = Launch::new(&files::ELEMENT_LOSS_GRAD, &params, WORKGROUP, grid_of(elements, WORKGROUP))
        .flops(3 * elements as u64);
    launch.snippets.push(criterion.file());
    launch
}
