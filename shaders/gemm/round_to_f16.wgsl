// uses: half, scalars, grid

enable f16;

// Rounds the operand of cooperative GEMMs to f16, SCALE times its elements, as the GEMM would.

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<Element>;
@group(0) @binding(3) var<storage, read_write> y: array<Half>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    if (index < p.count) {
        y[index] = rounded(SCALE * x[index]);
    }
}
