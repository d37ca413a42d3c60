//! Chooses the algorithms of a convolution and its gradients, from the geometry, the mask and the cost model
//! alone.

use super::algorithm::{Algorithm, Choice};
use super::{columns, winograd, winograd_fused};
use crate::compiler::options::{GradientStrategy, Settings, Winograd};
use crate::graph::Conv2d;
use crate::kernels::{GemmFamily, MAX_TERMS, Tiles};
use crate::mask::Mask;
use crate::shape::WindowGeometry;

/// Forward pass, input gradient or kernel gradient of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Forward,
    GradInput,
    GradKernel,
}

/// Maximum number of pixel sets (stride_h * stride_w) for [`Algorithm::StridedGradInput`]: it runs one GEMM
/// per set, and many small GEMMs are slow.
const MAX_PIXEL_SETS: usize = 4;

/// Returns the cheapest algorithm of one pass under the cost model. Pass the mask of the kernel as `mask` if
/// only the gradients of its trainable elements are needed, `None` for the dense gradient.
pub(crate) fn choose(conv: &Conv2d, pass: Pass, mask: Option<&Mask>, settings: &Settings) -> Choice {
    if let Some(mask) = mask.filter(|_| pass == Pass::GradKernel)
        && let Some(choice) = partial(conv, mask, settings)
    {
        return choice;
    }
    let pointwise = is_pointwise(conv);
    let depth = match pass {
        Pass::GradInput => conv.window.taps() * conv.c_out_per_group(),
        Pass::Forward | Pass::GradKernel => conv.depth(),
    };
    // With a multiple of 4 channels, the forward and the input gradient kernels loop over kernel rows, kernel
    // columns and channels.
    let loops = match pass {
        Pass::Forward if !conv.c_in_per_group().is_multiple_of(4) => 0,
        Pass::Forward | Pass::GradInput => nested_loops(&conv.window),
        Pass::GradKernel => 0,
    };
    let implicit = !settings.explicit_columns && !pointwise && fits_loops(depth, loops, settings);
    let [down, across] = conv.window.stride;
    let algorithm = match pass {
        _ if is_depthwise(conv) && !settings.explicit_columns => Algorithm::Depthwise,
        _ if uses_winograd(conv, settings) => Algorithm::Winograd,
        Pass::Forward | Pass::GradInput
            if settings.winograd == Winograd::Fused && winograd_fused::is_applicable(conv, settings) =>
        {
            Algorithm::WinogradFused
        }
        Pass::Forward | Pass::GradKernel if pads_channels(conv, settings) => Algorithm::PaddedChannels,
        Pass::GradInput if implicit && conv.c_out_per_group().is_multiple_of(4) => match down * across {
            1 => Algorithm::ImplicitGemm,
            2..=MAX_PIXEL_SETS => Algorithm::StridedGradInput,
            _ => Algorithm::Im2col,
        },
        Pass::Forward | Pass::GradKernel if implicit => Algorithm::ImplicitGemm,
        _ if pointwise => Algorithm::Pointwise,
        _ => Algorithm::Im2col,
    };
    Choice { algorithm, trainable: Vec::new() }
}

/// Whether the forward algorithm can fuse a max-pool into its epilogue.
pub(crate) fn fuses_pool(conv: &Conv2d, settings: &Settings) -> bool {
    let algorithm = choose(conv, Pass::Forward, None, settings).algorithm;
    matches!(
        algorithm,
        Algorithm::Winograd | Algorithm::WinogradFused | Algorithm::PaddedChannels | Algorithm::ImplicitGemm
    )
}

/// Whether the algorithm of the input gradient supports a fused epilogue (bias, ReLU, ReLU gradient).
pub(crate) fn grad_input_has_epilogue(conv: &Conv2d, settings: &Settings) -> bool {
    let algorithm = choose(conv, Pass::GradInput, None, settings).algorithm;
    !matches!(algorithm, Algorithm::Depthwise | Algorithm::Im2col)
}

/// Returns the partial algorithm of a weight gradient: the requested one, or the cheapest one if it is
/// cheaper than the dense gradient; `None` for the dense gradient.
fn partial(conv: &Conv2d, mask: &Mask, settings: &Settings) -> Option<Choice> {
    let width = conv.c_out;
    let mut trainable_rows = vec![false; conv.depth()];
    let mut trainable_columns = vec![false; width];
    let mut elements = Vec::new();
    for index in (0..mask.len()).filter(|&i| !mask.is_frozen(i)) {
        trainable_rows[index / width] = true;
        trainable_columns[index % width] = true;
        elements.push(index);
    }
    let set = |flags: &[bool]| (0..flags.len()).filter(|&i| flags[i]).collect::<Vec<_>>();
    let (rows, columns) = (set(&trainable_rows), set(&trainable_columns));
    let columns = || Choice { algorithm: Algorithm::Columns, trainable: columns.clone() };
    let rows = || Choice { algorithm: Algorithm::Rows, trainable: rows.clone() };
    let elements = || Choice { algorithm: Algorithm::Elements, trainable: elements.clone() };
    let one_group = conv.groups == 1;
    match settings.gradient_strategy {
        GradientStrategy::Dense => None,
        GradientStrategy::Columns => one_group.then(columns),
        GradientStrategy::Rows => one_group.then(rows),
        GradientStrategy::Elements => Some(elements()),
        GradientStrategy::Auto => {
            let mut best = (most_expensive_partial(conv, settings), None);
            for choice in [columns(), rows(), elements()] {
                match partial_cost(conv, choice.algorithm, choice.trainable.len(), settings) {
                    Some(cost) if cost < best.0 => best = (cost, Some(choice)),
                    _ => {}
                }
            }
            best.1
        }
    }
}

/// Returns the cost that a partial weight gradient must be below: it must be at least 10 % cheaper than the dense
/// one, because the estimates are rough.
fn most_expensive_partial(conv: &Conv2d, settings: &Settings) -> usize {
    let dense = dense_grad_kernel_cost(conv, settings);
    dense - dense / 10
}

/// Returns the cost of a partial weight gradient of `count` columns, rows or elements; `None` if the algorithm does
/// not apply.
fn partial_cost(conv: &Conv2d, algorithm: Algorithm, count: usize, settings: &Settings) -> Option<usize> {
    let cost = &settings.cost;
    let pixels = settings.batch * conv.window.outputs();
    // With several groups, one row of the kernel matrix is multiplied with a different input channel in each
    // group, so one GEMM cannot compute its gradient.
    let one_group = conv.groups == 1;
    let width = count.next_multiple_of(4);
    let gathered = cost.gathered.saturating_mul(width).saturating_mul(pixels);
    let work = match algorithm {
        Algorithm::Columns if one_group => columns::cost(conv, count, settings).saturating_add(gathered),
        Algorithm::Rows if one_group => {
            cost.gemm([width, conv.c_out, pixels], 1, settings.family).saturating_add(gathered)
        }
        Algorithm::Elements => cost.element_term.saturating_mul(count).saturating_mul(pixels),
        _ => return None,
    };
    Some(work.saturating_add(cost.dispatches))
}

/// Returns the largest number of columns, rows or elements up to which each partial weight gradient is cheaper than
/// the dense one, by algorithm; `None` if it never is.
pub(crate) fn largest_partial(conv: &Conv2d, algorithm: Algorithm, settings: &Settings) -> Option<usize> {
    let limit = most_expensive_partial(conv, settings);
    let all = match algorithm {
        Algorithm::Columns => conv.c_out,
        Algorithm::Rows => conv.depth(),
        _ => conv.depth() * conv.c_out,
    };
    let is_cheaper =
        |&count: &usize| partial_cost(conv, algorithm, count, settings).is_some_and(|cost| cost < limit);
    (1..=all).take_while(is_cheaper).last()
}

/// Returns the cost of a dense weight gradient.
fn dense_grad_kernel_cost(conv: &Conv2d, settings: &Settings) -> usize {
    let cost = &settings.cost;
    let pixels = settings.batch * conv.window.outputs();
    if is_depthwise(conv) {
        let elements = conv.depth() * conv.c_out;
        return cost.depthwise_term.saturating_mul(elements).saturating_mul(pixels);
    }
    let direct = cost.gemm([conv.depth(), conv.c_out_per_group(), pixels], conv.groups, settings.family);
    direct / cost.winograd.filter(|_| uses_winograd(conv, settings)).map_or(1, |winograd| winograd.gain)
}

/// Whether all three passes (forward, input gradient, kernel gradient) use Winograd's algorithm.
fn uses_winograd(conv: &Conv2d, settings: &Settings) -> bool {
    let tiles = Tiles { window: conv.window, first: 0, images: settings.batch };
    let is_faster = settings.cost.winograd.is_some_and(|cost| {
        conv.c_in.min(conv.c_out) >= cost.channels
            && tiles.count() >= cost.tiles
            && !settings.explicit_columns
    });
    // Cooperative matrices round their operands to f16. Winograd's transforms produce sums of elements, and
    // rounding these sums loses more accuracy than rounding the elements themselves.
    let f32_operands = !matches!(settings.family, GemmFamily::Cooperative { .. });
    let requested = match settings.winograd {
        Winograd::Never | Winograd::Fused => false,
        Winograd::Auto => is_faster,
        Winograd::Always => true,
    };
    requested && f32_operands && winograd::is_applicable(conv, settings.max_binding)
}

/// Loop iterations of a GEMM over kernel rows and kernel columns, without those over channels.
fn nested_loops(window: &WindowGeometry) -> usize {
    window.taps() + window.kernel[0]
}

/// Whether one dispatch of a GEMM can sum `depth` products, with `loops` iterations of nested loops.
fn fits_loops(depth: usize, loops: usize, settings: &Settings) -> bool {
    depth <= MAX_TERMS && depth.div_ceil(4) + loops + 16 <= settings.max_iterations
}

/// Whether to use [`Algorithm::PaddedChannels`], which adds a channel of zeros to the images.
fn pads_channels(conv: &Conv2d, settings: &Settings) -> bool {
    settings.cost.pads_channels
        && matches!(settings.family, GemmFamily::Subgroup { .. })
        && !settings.explicit_columns
        && conv.groups == 1
        && conv.c_in % 4 == 3
        && conv.c_out.is_multiple_of(4)
        && conv.window.taps() > 1
        && fits_loops(conv.window.taps() * (conv.c_in + 1), nested_loops(&conv.window), settings)
}

/// Whether the convolution is depthwise: one filter per channel.
fn is_depthwise(conv: &Conv2d) -> bool {
    conv.groups > 1 && conv.groups == conv.c_in && conv.c_out == conv.c_in
}

/// Whether the kernel is 1x1 with stride 1 and without padding or groups, so that the column matrix is the
/// input itself.
fn is_pointwise(conv: &Conv2d) -> bool {
    let w = &conv.window;
    conv.groups == 1 && w.taps() == 1 && w.stride == [1, 1] && w.pad_begin == [0, 0] && w.input == w.output
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compiler::cost::{CostModel, WinogradCost};
    use crate::shape::{Padding, Window};

    fn conv(c_in: usize, c_out: usize, kernel: usize, stride: usize, groups: usize) -> Conv2d {
        let window = Window { padding: Padding::Same, stride: [stride; 2], ..Window::new([kernel; 2]) };
        Conv2d::new([32, 32, c_in], c_out, window, groups, "conv").unwrap()
    }

    fn with_cost(cost: CostModel) -> Settings {
        Settings { cost, ..Settings::SOFTWARE }
    }

    #[test]
    fn each_algorithm_is_chosen_for_its_convolutions() {
        use Algorithm::*;
        let algorithms = |conv: Conv2d| {
            [Pass::Forward, Pass::GradInput, Pass::GradKernel]
                .map(|pass| choose(&conv, pass, None, &Settings::SOFTWARE).algorithm)
        };
        assert_eq!(algorithms(conv(64, 64, 3, 1, 1)), [Winograd; 3]);
        assert_eq!(algorithms(conv(3, 32, 3, 1, 1)), [PaddedChannels, ImplicitGemm, PaddedChannels]);
        assert_eq!(algorithms(conv(16, 32, 3, 1, 1)), [ImplicitGemm; 3]);
        assert_eq!(algorithms(conv(64, 64, 3, 2, 1)), [ImplicitGemm, StridedGradInput, ImplicitGemm]);
        assert_eq!(algorithms(conv(64, 64, 3, 3, 1)), [ImplicitGemm, Im2col, ImplicitGemm]);
        assert_eq!(algorithms(conv(64, 64, 1, 1, 1)), [Pointwise; 3]);
        assert_eq!(algorithms(conv(64, 64, 3, 1, 64)), [Depthwise; 3]);
        assert_eq!(algorithms(conv(16, 30, 3, 1, 1)), [ImplicitGemm, Im2col, ImplicitGemm]);
        let explicit = Settings { explicit_columns: true, ..Settings::SOFTWARE };
        assert_eq!(choose(&conv(64, 64, 3, 1, 1), Pass::Forward, None, &explicit).algorithm, Im2col);
    }

    /// On request, the fused kernel computes the forward pass and the input gradient of the convolutions that it
    /// supports, on adapters that support it.
    #[test]
    fn fused_winograd_is_chosen_on_request() {
        use Algorithm::*;
        let of = |conv: Conv2d, settings: &Settings| {
            [Pass::Forward, Pass::GradInput, Pass::GradKernel]
                .map(|pass| choose(&conv, pass, None, settings).algorithm)
        };
        let fused = Settings { winograd: super::Winograd::Fused, ..Settings::SOFTWARE };
        assert_eq!(of(conv(64, 64, 3, 1, 1), &fused), [WinogradFused, WinogradFused, ImplicitGemm]);
        assert_eq!(of(conv(4, 12, 3, 1, 1), &fused), [WinogradFused, WinogradFused, ImplicitGemm]);
        for other in
            [conv(64, 64, 5, 1, 1), conv(64, 64, 3, 2, 1), conv(6, 64, 3, 1, 1), conv(64, 64, 3, 1, 2)]
        {
            assert!(!of(other, &fused).contains(&WinogradFused), "{other:?}");
        }
        let small = Settings { winograd_fused: false, ..fused };
        assert_eq!(of(conv(64, 64, 3, 1, 1), &small), [ImplicitGemm; 3]);
    }

    #[test]
    fn cost_model_changes_the_forward_algorithm() {
        let layer = conv(64, 64, 3, 1, 1);
        let forward = |cost| choose(&layer, Pass::Forward, None, &with_cost(cost)).algorithm;
        assert_eq!(forward(CostModel::SOFTWARE), Algorithm::Winograd);
        assert_eq!(forward(CostModel::DISCRETE), Algorithm::ImplicitGemm);
        let wide = WinogradCost { channels: 128, tiles: 1, gain: 2 };
        assert_eq!(
            forward(CostModel { winograd: Some(wide), ..CostModel::SOFTWARE }),
            Algorithm::ImplicitGemm
        );
        let first = conv(3, 32, 3, 1, 1);
        let padded = |cost| choose(&first, Pass::Forward, None, &with_cost(cost)).algorithm;
        assert_eq!(padded(CostModel::SOFTWARE), Algorithm::PaddedChannels);
        assert_eq!(padded(CostModel::INTEGRATED), Algorithm::ImplicitGemm);
    }

    fn grad_kernel(conv: &Conv2d, settings: &Settings, frozen: &dyn Fn(usize) -> bool) -> Choice {
        let mask = Mask::from_frozen((0..conv.depth() * conv.c_out).map(frozen));
        choose(conv, Pass::GradKernel, Some(&mask), settings)
    }

    #[test]
    fn mask_shape_decides_the_weight_gradient_algorithm() {
        let layer = conv(64, 64, 3, 1, 1);
        let of = |frozen: &dyn Fn(usize) -> bool| grad_kernel(&layer, &Settings::SOFTWARE, frozen);
        let scattered = of(&|i| (i as u32).wrapping_mul(2_654_435_761) >> 16 & 1 == 0);
        assert_eq!(scattered.algorithm, Algorithm::Winograd, "expected the dense gradient");
        assert_eq!(
            of(&|i| i % 64 >= 6),
            Choice { algorithm: Algorithm::Columns, trainable: (0..6).collect() }
        );
        assert_eq!(
            of(&|i| i / 64 >= 32),
            Choice { algorithm: Algorithm::Rows, trainable: (0..32).collect() }
        );
        let few = (0..9 * 64 * 64).step_by(1000).collect();
        assert_eq!(of(&|i| i % 1000 != 0), Choice { algorithm: Algorithm::Elements, trainable: few });

        // Three input channels: GEMMs of at most 16 columns do not compute 32.
        let first = Settings { batch: 64, ..Settings::SOFTWARE };
        let of = |trainable| grad_kernel(&conv(3, 32, 3, 1, 1), &first, &|i| i % 32 >= trainable).algorithm;
        assert_eq!([3, 4].map(of), [Algorithm::Columns; 2]);
        assert_eq!(of(5), Algorithm::PaddedChannels, "expected the dense gradient");

        let depthwise = conv(64, 64, 3, 1, 64);
        let of = |frozen: &dyn Fn(usize) -> bool| grad_kernel(&depthwise, &Settings::SOFTWARE, frozen);
        assert_eq!(of(&|i| i % 2 == 0).algorithm, Algorithm::Depthwise);
        let trainable = (0..9 * 64).step_by(10).collect();
        assert_eq!(of(&|i| i % 10 != 0), Choice { algorithm: Algorithm::Elements, trainable });

        let window = Window { padding: Padding::Same, ..Window::new([3, 3]) };
        let small = Conv2d::new([8, 8, 4], 4, window, 1, "conv").unwrap();
        let few_examples = Settings { batch: 4, ..Settings::SOFTWARE };
        let choice = grad_kernel(&small, &few_examples, &|i| i > 0);
        assert!(!choice.algorithm.is_partial(), "the additional dispatches cost more than they save");
    }

    #[test]
    fn cost_model_changes_the_weight_gradient_algorithm() {
        let window = Window { padding: Padding::Same, ..Window::new([3, 3]) };
        let conv = Conv2d::new([8, 8, 16], 16, window, 1, "conv").unwrap();
        let of = |cost| grad_kernel(&conv, &with_cost(cost), &|i| i % 1000 != 0).algorithm;
        assert_eq!(of(CostModel::SOFTWARE), Algorithm::Elements);
        assert!(
            !of(CostModel::DISCRETE).is_partial(),
            "additional dispatches cost more than the dense gradient"
        );
    }
}
