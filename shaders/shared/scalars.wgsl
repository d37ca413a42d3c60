// The numbers that change from step to step; twin of graph::StepScalars.
// uses: StepScalars

@group(0) @binding(1) var<uniform> scalars: StepScalars;

// How many of `total` elements (or matrix rows) belong to examples in use, for a part of the batch that begins at
// example `first_row`; `per_row` of them belong to one example, 0 if they do not depend on the batch.
fn live(total: u32, per_row: u32, first_row: u32) -> u32 {
    let rows = max(scalars.rows, first_row) - first_row;
    // One return: DX12's FXC takes what bounds a loop around a barrier as varying otherwise.
    return select(min(total, rows * per_row), total, per_row == 0u);
}
