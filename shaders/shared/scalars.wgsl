// The numbers that change from step to step; twin of graph::StepScalars.
struct StepScalars {
    learning_rate: f32,
    correction1: f32,
    correction2: f32,
    rows: u32,
    step: u32,
    on_non_finite_continue: u32,
    seed_low: u32,
    seed_high: u32,
    draw: u32,
    share: f32,
    first: u32,
    last: u32,
}
@group(0) @binding(1) var<uniform> scalars: StepScalars;

// How many of `total` elements (or matrix rows) belong to examples in use, for a part of the batch that begins at
// example `first_row`; `per_row` of them belong to one example, 0 if they do not depend on the batch.
fn live(total: u32, per_row: u32, first_row: u32) -> u32 {
    let rows = max(scalars.rows, first_row) - first_row;
    // One return: DX12's FXC takes what bounds a loop around a barrier as varying otherwise.
    return select(min(total, rows * per_row), total, per_row == 0u);
}
