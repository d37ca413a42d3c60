//! By which algorithm a convolution and its gradients are computed: one pure function.

use super::winograd::can_transform;
use crate::graph::Conv2d;
use crate::kernels::{GemmFamily, MAX_TERMS, Tiles};
use crate::plan::cost::CostModel;
use crate::plan::lower::Winograd;
use std::fmt;

/// Which of a convolution's three computations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Pass {
    Forward,
    GradInput,
    GradKernel,
}

/// A way to compute a convolution or one of its gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// A kernel for convolutions with one filter per channel.
    Depthwise,
    /// Winograd's F(4x4, 3x3) or F(4x4, 5x5): transforms, and a GEMM for each of their components.
    Winograd,
    /// A GEMM over images with one more channel, of zeros, whose patches are then gathered four channels at a time.
    PaddedChannels,
    /// A GEMM of the images as they are: kernels of 1x1 at stride 1.
    Pointwise,
    /// A GEMM that gathers patches where it reads them.
    ImplicitGemm,
    /// A GEMM for each set of input pixels that the same kernel elements reach, of a gradient through a stride.
    StridedGradInput,
    /// A GEMM of columns in memory (im2col, col2im), in parts of the batch.
    Im2col,
    /// A weight gradient of some output channels.
    Columns,
    /// A weight gradient of some rows of the kernel as a matrix.
    Rows,
    /// A weight gradient of single elements.
    Elements,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Algorithm::Depthwise => "depthwise",
            Algorithm::Winograd => "winograd",
            Algorithm::PaddedChannels => "padded channels",
            Algorithm::Pointwise => "pointwise",
            Algorithm::ImplicitGemm => "implicit gemm",
            Algorithm::StridedGradInput => "strided",
            Algorithm::Im2col => "im2col",
            Algorithm::Columns => "columns",
            Algorithm::Rows => "rows",
            Algorithm::Elements => "elements",
        })
    }
}

/// What a choice depends on besides the convolution.
#[derive(Clone, Copy, Debug)]
pub(in crate::plan) struct Conditions {
    pub batch: usize,
    pub family: GemmFamily,
    /// Whether columns in memory are asked for, as the check of all else.
    pub explicit: bool,
    pub winograd: Winograd,
    pub max_binding: u64,
    pub cost: CostModel,
}

/// Sets of input pixels with a GEMM each: with more, they would be small, and many.
const MAX_PIXEL_SETS: usize = 4;

/// The algorithm of one pass. Every one that is chosen is right; which is fastest is up to the cost model.
pub(in crate::plan) fn choose(conv: &Conv2d, pass: Pass, when: &Conditions) -> Algorithm {
    let pointwise = is_pointwise(conv);
    let depth = match pass {
        Pass::GradInput => conv.window.taps() * conv.c_out_per_group(),
        Pass::Forward | Pass::GradKernel => conv.depth(),
    };
    let implicit = !when.explicit && !pointwise && depth <= MAX_TERMS;
    let [down, across] = conv.window.stride;
    match pass {
        _ if is_depthwise(conv) && !when.explicit => Algorithm::Depthwise,
        _ if by_winograd(conv, when) => Algorithm::Winograd,
        Pass::Forward | Pass::GradKernel if pads_channels(conv, when) => Algorithm::PaddedChannels,
        Pass::GradInput if implicit && conv.c_out_per_group().is_multiple_of(4) => match down * across {
            1 => Algorithm::ImplicitGemm,
            2..=MAX_PIXEL_SETS => Algorithm::StridedGradInput,
            _ => Algorithm::Im2col,
        },
        Pass::Forward | Pass::GradKernel if implicit => Algorithm::ImplicitGemm,
        _ if pointwise => Algorithm::Pointwise,
        _ => Algorithm::Im2col,
    }
}

/// Whether Winograd's transforms compute it, forward and back.
pub(in crate::plan) fn by_winograd(conv: &Conv2d, when: &Conditions) -> bool {
    let tiles = Tiles { window: conv.window, first: 0, images: when.batch };
    let pays = when.cost.winograd.is_some_and(|cost| {
        conv.c_in.min(conv.c_out) >= cost.channels && tiles.count() >= cost.tiles && !when.explicit
    });
    // Components are sums of elements: in f16 they would lose more than GEMMs of the elements do.
    let exact = !matches!(when.family, GemmFamily::Cooperative { .. });
    let wanted = match when.winograd {
        Winograd::Never => false,
        Winograd::Auto => pays,
        Winograd::Always => true,
    };
    wanted && exact && can_transform(conv, when.max_binding)
}

/// Whether images get one more channel, of zeros.
fn pads_channels(conv: &Conv2d, when: &Conditions) -> bool {
    when.cost.pads_channels
        && matches!(when.family, GemmFamily::Subgroup { .. })
        && !when.explicit
        && conv.groups == 1
        && conv.c_in % 4 == 3
        && conv.c_out.is_multiple_of(4)
        && conv.window.taps() > 1
        && conv.window.taps() * (conv.c_in + 1) <= MAX_TERMS
}

/// Whether each channel has a filter of its own.
pub(in crate::plan) fn is_depthwise(conv: &Conv2d) -> bool {
    conv.groups > 1 && conv.groups == conv.c_in && conv.c_out == conv.c_in
}

/// Whether every patch is one pixel of the input, in order: the column matrix is the input itself.
pub(in crate::plan) fn is_pointwise(conv: &Conv2d) -> bool {
    let w = &conv.window;
    conv.groups == 1 && w.taps() == 1 && w.stride == [1, 1] && w.pad_begin == [0, 0] && w.input == w.output
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::cost::WinogradCost;
    use crate::shape::{Padding, Window};

    const SUBGROUP: GemmFamily = GemmFamily::Subgroup { lanes: 8 };

    fn conditions(cost: CostModel) -> Conditions {
        Conditions {
            batch: 64,
            family: SUBGROUP,
            explicit: false,
            winograd: Winograd::Auto,
            max_binding: 128 << 20,
            cost,
        }
    }

    fn conv(c_in: usize, c_out: usize, kernel: usize, stride: usize, groups: usize) -> Conv2d {
        let window = Window { padding: Padding::Same, stride: [stride; 2], ..Window::new([kernel; 2]) };
        Conv2d::new([32, 32, c_in], c_out, window, groups, "conv").unwrap()
    }

    #[test]
    fn each_algorithm_has_its_convolutions() {
        use Algorithm::*;
        let software = conditions(CostModel::SOFTWARE);
        let of = |conv: Conv2d| {
            [Pass::Forward, Pass::GradInput, Pass::GradKernel].map(|pass| choose(&conv, pass, &software))
        };
        assert_eq!(of(conv(64, 64, 3, 1, 1)), [Winograd; 3]);
        assert_eq!(of(conv(3, 32, 3, 1, 1)), [PaddedChannels, ImplicitGemm, PaddedChannels]);
        assert_eq!(of(conv(16, 32, 3, 1, 1)), [ImplicitGemm; 3]);
        assert_eq!(of(conv(64, 64, 3, 2, 1)), [ImplicitGemm, StridedGradInput, ImplicitGemm]);
        assert_eq!(of(conv(64, 64, 3, 3, 1)), [ImplicitGemm, Im2col, ImplicitGemm]);
        assert_eq!(of(conv(64, 64, 1, 1, 1)), [Pointwise; 3]);
        assert_eq!(of(conv(64, 64, 3, 1, 64)), [Depthwise; 3]);
        assert_eq!(of(conv(16, 30, 3, 1, 1)), [ImplicitGemm, Im2col, ImplicitGemm]);
        let explicit = Conditions { explicit: true, ..software };
        assert_eq!(choose(&conv(64, 64, 3, 1, 1), Pass::Forward, &explicit), Im2col);
    }

    #[test]
    fn another_cost_model_chooses_otherwise() {
        let layer = conv(64, 64, 3, 1, 1);
        let forward = |cost| choose(&layer, Pass::Forward, &conditions(cost));
        assert_eq!(forward(CostModel::SOFTWARE), Algorithm::Winograd);
        assert_eq!(forward(CostModel::DISCRETE), Algorithm::ImplicitGemm);
        let wide = WinogradCost { channels: 128, tiles: 1, gain: 2 };
        assert_eq!(
            forward(CostModel { winograd: Some(wide), ..CostModel::SOFTWARE }),
            Algorithm::ImplicitGemm
        );
        let first = conv(3, 32, 3, 1, 1);
        let padded = |cost| choose(&first, Pass::Forward, &conditions(cost));
        assert_eq!(padded(CostModel::SOFTWARE), Algorithm::PaddedChannels);
        assert_eq!(padded(CostModel::INTEGRATED), Algorithm::ImplicitGemm);
    }
}
