// Merges the moments of all splits of batch_moments_parallel. The merged mean m is the mean of the splits' means
// m_s, weighted with their rows n_s and computed from differences to the first of them; the sum of squared
// deviations from m is the sum of all squares_s + n_s*(m_s - m)^2.
// uses: row_tiles

@group(0) @binding(2) var<storage, read> moments: array<Element>;

struct Moments {
    mean: Element,
    // The biased variance.
    variance: Element,
}

// Valid rows of a split.
fn rows_of(split: u32) -> f32 {
    return f32(split_end(split) - split * p.rows_per_split);
}

// Returns the moments of the invocation's column over all valid rows. The lanes of a column share the splits.
fn merge_moments(at: RowLane, local: u32) -> Moments {
    let channels = matrix_columns();
    let step = lanes();
    let rows = valid_rows();
    // Splits with valid rows.
    let splits = select(0u, (rows + p.rows_per_split - 1u) / p.rows_per_split, at.used);
    let origin = moments[at.column];
    var sum = Element(0.0);
    for (var s = at.lane; s < splits; s += step) {
        sum += (moments[2u * s * channels + at.column] - origin) * rows_of(s);
    }
    let mean = origin + sum_of_lanes(local, sum) / f32(rows);
    var squares = Element(0.0);
    for (var s = at.lane; s < splits; s += step) {
        let deviation = moments[2u * s * channels + at.column] - mean;
        squares += moments[(2u * s + 1u) * channels + at.column] + deviation * deviation * rows_of(s);
    }
    return Moments(mean, sum_of_lanes(local, squares) / f32(rows));
}
