// Sums over the rows of a matrix of Elements by whole workgroups. A workgroup has p.columns columns (a power
// of 2) and WORKGROUP / p.columns lanes for each: lane l adds the rows l, l + lanes, .. of a split in ascending
// order, and then the lanes are added in a tree. Neither order depends on the number of valid rows.
// uses: scalars, lane_sums

struct RowLane {
    split: u32,
    // Column in the matrix; the last column for an invocation without one.
    column: u32,
    lane: u32,
    // Whether the invocation has a column and a split.
    used: bool,
}

// Columns of the matrix.
fn matrix_columns() -> u32 {
    return p.channels / WIDTH;
}

fn row_lane(tile: u32, local: u32) -> RowLane {
    let columns = matrix_columns();
    let groups = (columns + p.columns - 1u) / p.columns;
    let split = tile / groups;
    let column = tile % groups * p.columns + local % p.columns;
    let used = (column < columns) & (split < p.splits);
    return RowLane(split, min(column, columns - 1u), local / p.columns, used);
}

// Rows that belong to valid examples.
fn valid_rows() -> u32 {
    return valid_count(p.rows, p.rows_per_example, 0u);
}

// End of the rows of a split. Splits are fractions of the full batch, so a row's split does not depend on the
// number of valid rows.
fn split_end(split: u32) -> u32 {
    return min((split + 1u) * p.rows_per_split, valid_rows());
}

// End of the rows that the invocation adds, from row split * p.rows_per_split + lane; 0 if it adds none.
fn lane_end(at: RowLane) -> u32 {
    return select(0u, split_end(at.split), at.used);
}
