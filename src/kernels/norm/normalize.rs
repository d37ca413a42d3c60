use crate::kernels::{Launch, WgslFile, files, grid, grid_of, to_u32};
use crate::wgsl::params;

/// Invocations per workgroup, with one set each or one for all.
const WORKGROUP: u32 = 64;

/// Invocations per workgroup of sets with more than [`MANY`] elements.
const LARGE_WORKGROUP: u32 = 256;

const MANY: usize = 2_048;

/// Number of elements above which a workgroup processes a set: for software adapters, where barriers are expensive, and
/// for GPUs, where invocations that read distant elements are.
const LONG: [usize; 2] = [512, 32];

/// Sets of elements of a batch that are normalized together.
#[derive(Clone, Copy, Debug)]
pub struct ElementSets {
    /// Examples of the batch.
    pub examples: usize,
    /// Positions of an example.
    pub positions: usize,
    /// Channels of a position.
    pub channels: usize,
    /// Groups of channels.
    pub groups: usize,
    /// Whether the positions are normalized separately.
    pub each_position: bool,
}

params! {
    struct Params {
        sets: u32,
        sets_per_example: u32,
        /// Elements of a set.
        length: u32,
        /// Positions of a set.
        positions: u32,
        channels: u32,
        groups: u32,
        group_channels: u32,
        epsilon: f32,
    }
}

/// Normalizes each set of elements to mean 0 and variance 1. Buffers: x, normalized, inverse standard deviations
/// (one for each set).
pub fn normalize(sets: ElementSets, epsilon: f64, parallel: bool) -> Launch {
    launch(&files::NORMALIZE, sets, epsilon, 3, parallel)
}

/// Gradient of [`normalize`]. Buffers: normalized, inverse standard deviations, dy, dx.
pub fn normalize_grad(sets: ElementSets, parallel: bool) -> Launch {
    launch(&files::NORMALIZE_GRAD, sets, 0.0, 2, parallel)
}

/// Launches a kernel with `loops` loops over the elements of each set.
fn launch(kernel: &'static WgslFile, of: ElementSets, epsilon: f64, loops: usize, parallel: bool) -> Launch {
    let group_channels = of.channels / of.groups;
    let positions = if of.each_position { 1 } else { of.positions };
    let (length, per_example) = (positions * group_channels, of.positions / positions * of.groups);
    let sets = of.examples * per_example;
    let params = Params {
        sets: to_u32(sets),
        sets_per_example: to_u32(per_example),
        length: to_u32(length),
        positions: to_u32(positions),
        channels: to_u32(of.channels),
        groups: to_u32(of.groups),
        group_channels: to_u32(group_channels),
        epsilon: epsilon as f32,
    };
    let mut launch = if length > LONG[usize::from(parallel)] {
        let lanes = if length > MANY { LARGE_WORKGROUP } else { WORKGROUP };
        Launch::new(kernel, &params, lanes, grid(sets, 1))
            .iterations(loops * length.div_ceil(lanes as usize) + 32)
    } else {
        Launch::new(kernel, &params, WORKGROUP, grid_of(sets, WORKGROUP)).iterations(loops * length)
    };
    let by_workgroup = length > LONG[usize::from(parallel)];
    launch.snippets.push(if by_workgroup { &files::SET_OF_WORKGROUP } else { &files::SET_OF_INVOCATION });
    launch.flops((3 * loops * sets * length) as u64)
}
