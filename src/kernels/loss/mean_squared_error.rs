use crate::kernels::{Launch, files, grid, to_u32};
use crate::wgsl::params;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        rows: u32,
        per_example: u32,
        splits: u32,
        per_split: u32,
        factor: f32,
    }
}

/// Sum of the squared differences of each row times `factor`, for each of `splits` splits of its elements: the
/// mean for one split and a factor of 1 / elements. If `with_gradient`, also the gradient of the mean. Buffers: y,
/// targets, sums `[rows, splits]`; then dy.
pub fn mean_squared_error(
    [rows, per_example]: [usize; 2],
    splits: usize,
    factor: f64,
    with_gradient: bool,
) -> Launch {
    let per_split = per_example.div_ceil(splits);
    let params = Params {
        rows: to_u32(rows),
        per_example: to_u32(per_example),
        splits: to_u32(splits),
        per_split: to_u32(per_split),
        factor: factor as f32,
    };
    let results = 1 + usize::from(with_gradient);
    let mut launch = Launch::new(&files::MEAN_SQUARED_ERROR, &params, WORKGROUP, grid(rows * splits, 1))
        .flops((3 * results * rows * per_example) as u64)
        .iterations(per_split.div_ceil(WORKGROUP as usize) + WORKGROUP as usize);
    launch.snippets.push(if with_gradient {
        &files::SQUARED_ERROR_GRAD_STORED
    } else {
        &files::SQUARED_ERROR_GRAD_UNUSED
    });
    launch
}
