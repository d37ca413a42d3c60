// Parameters that change from one training step to the next; declared in graph::StepScalars.
// uses: StepScalars

@group(0) @binding(1) var<uniform> scalars: StepScalars;

// Returns how many of `total` elements (or matrix rows) belong to valid examples: a run may use fewer
// examples (scalars.rows) than the full batch. The elements begin at example `first_example`. `per_example`
// elements belong to one example; 0 if the elements do not depend on the batch.
fn valid_count(total: u32, per_example: u32, first_example: u32) -> u32 {
    let rows = max(scalars.rows, first_example) - first_example;
    // A single return: otherwise DX12's FXC treats a loop bound around a barrier as varying.
    return select(min(total, rows * per_example), total, per_example == 0u);
}
