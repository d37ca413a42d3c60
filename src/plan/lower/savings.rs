//! What frozen elements save: a pure function of the graph and the masks. Operations whose results nobody needs are left out,
//! and a weight gradient of which little is needed is computed in part.

use super::algorithm::{Conditions, by_winograd, is_depthwise};
use crate::graph::{Clip, Conv2d, Graph, Node, Op, ParameterId};
use crate::mask::Mask;
use crate::plan::alias::roots;
use crate::shape::{Padding, Window, WindowGeometry};

/// How the gradient of a partly frozen kernel is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientStrategy {
    /// As is cheapest by a count of operations.
    Auto,
    /// Whole; the frozen part is not used.
    Dense,
    /// Only the columns (output channels) that have trainable elements.
    Columns,
    /// Only the rows (kernel row, kernel column, input channel) that have trainable elements.
    Rows,
    /// Each trainable element by itself.
    Elements,
}

/// How one weight gradient is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Way {
    Dense,
    /// These columns, from their part of `dy`; `swapped`: with `dy` in the place of the patches.
    Columns {
        live: Vec<usize>,
        swapped: bool,
    },
    Rows(Vec<usize>),
    Elements(Vec<usize>),
}

/// What is computed, by node of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::plan) struct Savings {
    pub needed: Vec<bool>,
    pub ways: Vec<Way>,
    /// By parameter: whether nothing at all is to be done for it.
    pub whole: Vec<bool>,
}

/// `masks` by parameter, or none at all.
pub(in crate::plan) fn savings(
    graph: &Graph,
    masks: &[Mask],
    how: GradientStrategy,
    when: &Conditions,
) -> Savings {
    let nodes = graph.nodes();
    let mut savings = Savings {
        needed: vec![true; nodes.len()],
        ways: vec![Way::Dense; nodes.len()],
        whole: vec![false; graph.parameters().len()],
    };
    // A norm over all elements reads frozen ones' gradients.
    let over_all = |node: &Node| matches!(node.op, Op::Clip(Clip::Norm { over_all: true, .. }, _));
    if masks.is_empty() || nodes.iter().any(over_all) {
        return savings;
    }
    for (whole, mask) in savings.whole.iter_mut().zip(masks) {
        *whole = mask.frozen_count() == mask.len();
    }
    let roots = roots(graph);
    let mut wanted: Vec<bool> = vec![false; roots.len()];
    for (value, root) in graph.values().iter().zip(&roots) {
        wanted[root.0] |= value.output;
    }
    // Beside the update, nobody reads these; and this is the parameter.
    let mut gradient_of: Vec<Option<ParameterId>> = vec![None; roots.len()];
    for (index, node) in nodes.iter().enumerate().rev() {
        if let Some(targets) = targets(&node.op) {
            for (gradient, target) in node.inputs.iter().zip(targets) {
                let root = roots[gradient.0].0;
                if !wanted[root] {
                    gradient_of[root] = Some(target);
                }
                if gradient_of[root].is_none() || !savings.whole[target.0] {
                    wanted[root] = true;
                }
            }
            continue;
        }
        let effect = matches!(node.op, Op::Metrics | Op::UpdateStatistics(..));
        savings.needed[index] = effect || node.outputs.iter().any(|o| wanted[roots[o.0].0]);
        if savings.needed[index] && !matches!(node.op, Op::Reshape(_)) {
            for input in &node.inputs {
                let root = roots[input.0].0;
                wanted[root] = true;
                gradient_of[root] = None;
            }
        }
    }
    for (index, node) in nodes.iter().enumerate().filter(|(i, _)| savings.needed[*i]) {
        let Some(conv) = weight_gradient(graph, node) else { continue };
        let target = gradient_of[roots[node.outputs[0].0].0].and_then(|id| masks.get(id.0));
        if let Some(mask) = target.filter(|mask| mask.frozen_count() > 0) {
            savings.ways[index] = choose(&conv, mask, how, when);
        }
    }
    savings
}

/// What the update and all that is done before it read gradients for.
fn targets(op: &Op) -> Option<Vec<ParameterId>> {
    match op {
        Op::Update(_, targets) => Some(targets.iter().map(|t| t.parameter).collect()),
        Op::Accumulate(targets) | Op::Clip(_, targets) => Some(targets.clone()),
        _ => None,
    }
}

/// The convolution whose kernel's gradient a node computes: a dense layer is one of a single pixel.
pub(super) fn weight_gradient(graph: &Graph, node: &Node) -> Option<Conv2d> {
    match node.op {
        Op::Conv2dGradKernel(conv) => Some(conv),
        Op::MatMul { transpose_a: true, transpose_b: false } => {
            let [x, dy] = [0, 1].map(|i| node.inputs.get(i).map(|&id| graph.at(id)));
            let (x, dy) = (x?, dy?);
            let window = Window { padding: Padding::Valid, ..Window::new([1, 1]) };
            let both = x.batched && dy.batched && x.shape.rank() == 2 && dy.shape.rank() == 2;
            let conv = Conv2d::new([1, 1, x.shape.last()], dy.shape.last(), window, 1, &node.label);
            conv.ok().filter(|_| both)
        }
        _ => None,
    }
}

fn choose(conv: &Conv2d, mask: &Mask, how: GradientStrategy, when: &Conditions) -> Way {
    let (batch, cost) = (when.batch, &when.cost);
    let (depth, columns) = (conv.depth(), conv.c_out);
    let mut live_rows = vec![false; depth];
    let mut live_columns = vec![false; columns];
    let mut live = Vec::new();
    for index in (0..mask.len()).filter(|&i| !mask.is_frozen(i)) {
        live_rows[index / columns] = true;
        live_columns[index % columns] = true;
        live.push(index);
    }
    let which = |flags: &[bool]| (0..flags.len()).filter(|&i| flags[i]).collect::<Vec<_>>();
    let (rows, columns) = (which(&live_rows), which(&live_columns));
    let pixels = batch * conv.window.outputs();
    let inputs = batch * conv.window.input[0] * conv.window.input[1];
    let tiles =
        |m: usize, n: usize| m.next_multiple_of(cost.tile).saturating_mul(n.next_multiple_of(cost.tile));
    let fours = |n: usize| n.next_multiple_of(4);
    let straight = tiles(conv.depth(), fours(columns.len())).saturating_mul(pixels);
    let swapped = tiles(conv.window.taps() * fours(columns.len()), conv.c_in).saturating_mul(inputs);
    let can_swap = flipped(conv).is_some();
    let gathered = |n: usize| cost.gathered.saturating_mul(fours(n)).saturating_mul(pixels) + cost.dispatches;
    let dense = if is_depthwise(conv) {
        cost.depthwise_term.saturating_mul(mask.len()).saturating_mul(pixels)
    } else {
        let direct = tiles(conv.depth(), conv.c_out_per_group()).saturating_mul(conv.groups * pixels);
        let gain = cost.winograd.filter(|_| by_winograd(conv, when)).map_or(1, |winograd| winograd.gain);
        direct / gain
    };

    let by_columns = Way::Columns { live: columns, swapped: can_swap && swapped < straight };
    let Way::Columns { live: columns, .. } = &by_columns else { return Way::Dense };
    let column_cost = if can_swap { straight.min(swapped) } else { straight } + gathered(columns.len());
    let row_cost = tiles(fours(rows.len()), conv.c_out).saturating_mul(pixels) + gathered(rows.len());
    let element_cost = cost.element_term.saturating_mul(live.len()).saturating_mul(pixels) + cost.dispatches;
    // Groups have columns of their own for each row.
    let whole = conv.groups == 1;
    match how {
        GradientStrategy::Dense => Way::Dense,
        GradientStrategy::Columns if whole => by_columns,
        GradientStrategy::Rows if whole => Way::Rows(rows),
        GradientStrategy::Elements => Way::Elements(live),
        GradientStrategy::Columns | GradientStrategy::Rows => Way::Dense,
        GradientStrategy::Auto => {
            let mut best = (dense - dense / 10, Way::Dense);
            if whole && column_cost < best.0 {
                best = (column_cost, by_columns);
            }
            if whole && row_cost < best.0 {
                best = (row_cost, Way::Rows(rows));
            }
            if element_cost < best.0 {
                best = (element_cost, Way::Elements(live));
            }
            best.1
        }
    }
}

/// The window under which each input pixel sees the output pixels that it goes into, its last tap first: at stride 1, unless
/// the padding is wider than the kernel.
pub(super) fn flipped(conv: &Conv2d) -> Option<WindowGeometry> {
    let w = &conv.window;
    let reach = [0, 1].map(|axis| (w.kernel[axis] - 1) * w.dilation[axis]);
    if w.stride != [1, 1] || conv.groups != 1 || w.pad_begin[0] > reach[0] || w.pad_begin[1] > reach[1] {
        return None;
    }
    Some(WindowGeometry {
        pad_begin: [reach[0] - w.pad_begin[0], reach[1] - w.pad_begin[1]],
        input: w.output,
        output: w.input,
        ..*w
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{DType, UpdateRule};
    use crate::kernels::GemmFamily;
    use crate::plan::Winograd;
    use crate::plan::cost::CostModel;
    use crate::shape::Shape;

    const SOFTWARE: Conditions = Conditions {
        batch: 64,
        family: GemmFamily::Subgroup { lanes: 8 },
        explicit: false,
        winograd: Winograd::Auto,
        max_binding: 128 << 20,
        cost: CostModel::SOFTWARE,
    };
    const SGD: UpdateRule = UpdateRule::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0 };

    /// Two dense layers, their backward operations and the update.
    fn two_layers(marked: bool, clip: Option<Clip>) -> (Graph, Vec<Mask>) {
        let mut g = Graph::new(4).unwrap();
        let x = g.batch_input("x", &[64], DType::F32).unwrap();
        let dy = g.batch_input("dy", &[32], DType::F32).unwrap();
        let w1 = g.parameter("w1", Shape::new([64, 64]).unwrap()).unwrap();
        let w2 = g.parameter("w2", Shape::new([64, 32]).unwrap()).unwrap();
        let forward = Op::MatMul { transpose_a: false, transpose_b: false };
        let outer = Op::MatMul { transpose_a: true, transpose_b: false };
        let back = Op::MatMul { transpose_a: false, transpose_b: true };
        let h = g.push_one(forward.clone(), &[x, w1], "h").unwrap();
        let y = g.push_one(forward, &[h, w2], "y").unwrap();
        g.mark_output(y).unwrap();
        let dw2 = g.push_one(outer.clone(), &[h, dy], "dw2").unwrap();
        let dh = g.push_one(back, &[dy, w2], "dh").unwrap();
        let dw1 = g.push_one(outer, &[x, dh], "dw1").unwrap();
        if marked {
            g.mark_output(dw1).unwrap();
        }
        if let Some(clip) = clip {
            g.push(Op::Clip(clip, vec![ParameterId(1)]), &[dw2], "clip").unwrap();
        }
        let both = vec![ParameterId(0).into(), ParameterId(1).into()];
        g.push(Op::Update(SGD, both), &[dw1, dw2], "update").unwrap();
        (g, vec![Mask::none(64 * 64), Mask::none(64 * 32)])
    }

    fn needed(graph: &Graph, masks: &[Mask]) -> Vec<bool> {
        savings(graph, masks, GradientStrategy::Auto, &SOFTWARE).needed
    }

    #[test]
    fn below_the_lowest_trainable_layer_nothing_goes_back() {
        let (graph, mut masks) = two_layers(false, None);
        let whole = vec![true; 6];
        assert_eq!(needed(&graph, &[]), whole);
        assert_eq!(needed(&graph, &masks), whole);
        masks[1] = Mask::all(64 * 32);
        assert_eq!(needed(&graph, &masks), [true, true, false, true, true, true], "the upper layer alone");
        masks[0] = Mask::all(64 * 64);
        assert_eq!(needed(&graph, &masks), [true, true, false, false, false, true], "both");
        masks[1] = Mask::none(64 * 32);
        assert_eq!(needed(&graph, &masks), [true, true, true, false, false, true], "the lower layer alone");
        let (graph, _) = two_layers(true, None);
        assert_eq!(needed(&graph, &masks), whole, "a gradient that the caller reads");
    }

    #[test]
    fn the_cheapest_way_follows_the_shape_of_the_mask() {
        let window = Window { padding: Padding::Same, ..Window::new([3, 3]) };
        let conv = Conv2d::new([32, 32, 64], 64, window, 1, "conv").unwrap();
        let elements = 9 * 64 * 64;
        let way = |f: &dyn Fn(usize) -> bool| {
            let mask = Mask::from_frozen((0..elements).map(f));
            choose(&conv, &mask, GradientStrategy::Auto, &SOFTWARE)
        };
        assert_eq!(way(&|i| (i as u32).wrapping_mul(2_654_435_761) >> 16 & 1 == 0), Way::Dense);
        assert_eq!(way(&|i| i % 64 >= 6), Way::Columns { live: (0..6).collect(), swapped: true });
        assert_eq!(way(&|i| i / 64 >= 32), Way::Rows((0..32).collect()));
        let few = Way::Elements((0..elements).step_by(1000).collect());
        assert_eq!(way(&|i| i % 1000 != 0), few);
        let depthwise = Conv2d::new([32, 32, 64], 64, window, 64, "conv").unwrap();
        let half = Mask::from_frozen((0..9 * 64).map(|i| i % 2 == 0));
        assert_eq!(
            choose(&depthwise, &half, GradientStrategy::Auto, &SOFTWARE),
            Way::Dense,
            "its own kernel"
        );
        let tenth = Mask::from_frozen((0..9 * 64).map(|i| i % 10 != 0));
        let live = Way::Elements((0..9 * 64).step_by(10).collect());
        assert_eq!(choose(&depthwise, &tenth, GradientStrategy::Auto, &SOFTWARE), live);
        let small = Conv2d::new([8, 8, 4], 4, window, 1, "conv").unwrap();
        let mask = Mask::from_frozen((0..144).map(|i| i > 0));
        assert_eq!(
            choose(&small, &mask, GradientStrategy::Auto, &Conditions { batch: 4, ..SOFTWARE }),
            Way::Dense,
            "not worth dispatches"
        );
    }

    #[test]
    fn another_cost_model_chooses_otherwise() {
        let window = Window { padding: Padding::Same, ..Window::new([3, 3]) };
        let conv = Conv2d::new([8, 8, 16], 16, window, 1, "conv").unwrap();
        let mask = Mask::from_frozen((0..9 * 16 * 16).map(|i| i % 1000 != 0));
        let way = |cost| choose(&conv, &mask, GradientStrategy::Auto, &Conditions { cost, ..SOFTWARE });
        assert!(matches!(way(CostModel::SOFTWARE), Way::Elements(_)));
        assert_eq!(way(CostModel::DISCRETE), Way::Dense, "its dispatches take longer than all of it");
    }

    #[test]
    fn a_norm_over_all_needs_every_gradient() {
        for over_all in [false, true] {
            let (graph, _) = two_layers(false, Some(Clip::Norm { max: 1.0, over_all }));
            let frozen = [Mask::all(64 * 64), Mask::all(64 * 32)];
            assert_ne!(needed(&graph, &frozen).contains(&false), over_all);
        }
    }
}
