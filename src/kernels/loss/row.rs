//! How the invocations of a softmax kernel share the rows.

use crate::kernels::{Launch, WgslFile, files, grid, grid_of};
use crate::wgsl::WgslStruct;

/// Invocations per workgroup with one row each: the rows of a batch are few.
const WORKGROUP: u32 = 64;

/// Invocations per workgroup that share a row. The more share it, the more classes it may have.
const LANES: u32 = 256;

/// Launches a kernel that loops `passes` times over `classes` classes for each of `rows` rows. One invocation computes
/// a row, or one workgroup if that would exceed `max_iterations` loop iterations.
pub(super) fn launch_rows<P: WgslStruct>(
    kernel: &'static WgslFile,
    params: &P,
    [rows, classes]: [usize; 2],
    passes: usize,
    max_iterations: usize,
) -> Launch {
    let iterations = passes * classes;
    let by_workgroup = iterations > max_iterations;
    let mut launch = if by_workgroup {
        let lanes = LANES as usize;
        // The lanes combine their values at most `passes + 1` times.
        Launch::new(kernel, params, LANES, grid(rows, 1))
            .iterations(passes * classes.div_ceil(lanes) + (passes + 1) * lanes)
    } else {
        Launch::new(kernel, params, WORKGROUP, grid_of(rows, WORKGROUP)).iterations(iterations)
    };
    let rows = if by_workgroup { &files::ROW_OF_WORKGROUP } else { &files::ROW_OF_INVOCATION };
    launch.snippets.push(rows);
    launch
}
