//! Kernels that work on four channels at a time where channels come in fours, and on one otherwise.

use crate::kernels::Launch;

impl Launch {
    /// Adds the declarations for four channels at a time, or for one: `Element`, `Words`, `Flags` and `WIDTH`.
    pub(super) fn element(mut self, vec4: bool) -> Self {
        self.declarations.extend(element(vec4));
        self
    }
}

/// Channels at a time.
pub(super) fn width(channels: usize) -> usize {
    if channels.is_multiple_of(4) { 4 } else { 1 }
}

/// The declarations for four channels at a time, or for one.
pub(super) fn element(vec4: bool) -> Vec<String> {
    let declare = |of: &dyn Fn(&str) -> String, width: u32| {
        vec![
            format!("alias Element = {};", of("f32")),
            format!("alias Words = {};", of("u32")),
            format!("alias Flags = {};", of("bool")),
            format!("const WIDTH: u32 = {width}u;"),
        ]
    };
    if vec4 { declare(&|scalar| format!("vec4<{scalar}>"), 4) } else { declare(&str::to_owned, 1) }
}
