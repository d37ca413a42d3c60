// Adds the splits of batch_norm_grad_sums_parallel.
// uses: row_tiles

@group(0) @binding(6) var<storage, read> sums: array<Element>;

struct NormSums {
    scale: Element,
    shift: Element,
}

// Returns the sums of the invocation's column. The lanes of a column share the splits.
fn merge_sums(at: RowLane, local: u32) -> NormSums {
    let channels = matrix_columns();
    let splits = select(0u, p.splits, at.used);
    var scale_sum = Element(0.0);
    var shift_sum = Element(0.0);
    for (var s = at.lane; s < splits; s += lanes()) {
        scale_sum += sums[2u * s * channels + at.column];
        shift_sum += sums[(2u * s + 1u) * channels + at.column];
    }
    let scale_total = sum_of_lanes(local, scale_sum);
    return NormSums(scale_total, sum_of_lanes(local, shift_sum));
}
