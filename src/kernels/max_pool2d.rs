use super::window::{Images, WINDOW, WINDOW_FIELDS, WINDOW_PARAMS, WindowParams};
use super::{BITS, GRID, Kernel, Launch, SCALARS, grid_of, index, width};
use crate::gpu::Access;

pub(super) static KERNEL: Kernel = Kernel {
    name: "max_pool2d",
    body: include_str!("../../shaders/max_pool2d.wgsl"),
    snippets: &[&WINDOW_PARAMS, &WINDOW, &SCALARS, &GRID, &BITS],
    bindings: &[(2, Access::Read), (3, Access::ReadWrite), (4, Access::ReadWrite)],
    params: WINDOW_FIELDS,
    params_bytes: size_of::<WindowParams>(),
};

const WORKGROUP: u32 = 64;

/// Pixels of a row in one invocation.
pub(super) const RUN: usize = 4;

/// Maxima and the positions of the first of each. Buffers: x, y, position.
pub fn max_pool2d(images: &Images) -> Launch {
    let w = &images.window;
    let elements = images.count * w.outputs() * images.channels;
    let width = width(images.channels);
    let runs = images.count * w.output[0] * w.output[1].div_ceil(RUN);
    let groups = grid_of(runs * images.channels / width, WORKGROUP);
    let mut launch = Launch::new(&KERNEL, &WindowParams::new(images), WORKGROUP, groups)
        .flops((elements * w.taps()) as u64)
        .rounds(RUN * (1 + w.taps()))
        .element(width == 4);
    launch.taps(images);
    launch
}

impl Launch {
    /// The window and the run as constants: drivers write short loops out.
    pub(super) fn taps(&mut self, images: &Images) {
        let [height, width] = images.window.kernel.map(index);
        let taps = index(images.window.taps());
        self.constants.extend([
            ("RUN", index(RUN)),
            ("KERNEL_H", height),
            ("KERNEL_W", width),
            ("TAPS", taps),
        ]);
    }
}
