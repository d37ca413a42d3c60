use crate::kernels::window::{Images, WindowParams};
use crate::kernels::{Launch, files, grid_of, index, width};

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
    let mut launch = Launch::new(&files::MAX_POOL2D, &WindowParams::new(images), WORKGROUP, groups)
        .flops((elements * w.taps()) as u64)
        .iterations(RUN * (1 + w.taps()))
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
