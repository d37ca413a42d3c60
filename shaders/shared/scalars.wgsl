// Parameters that change from step to step; declared in graph::StepScalars.
// uses: StepScalars

@group(0) @binding(1) var<uniform> scalars: StepScalars;

// Number of `total` elements (or matrix rows) that belong to valid examples, for a part of the batch that
// begins at example `first_example`. `per_example` elements belong to one example; 0 if they do not depend on
// the batch.
fn valid_count(total: u32, per_example: u32, first_example: u32) -> u32 {
    let rows = max(scalars.rows, first_example) - first_example;
    // A single return: otherwise DX12's FXC treats a loop bound around a barrier as varying.
    return select(min(total, rows * per_example), total, per_example == 0u);
}
