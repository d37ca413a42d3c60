// Gradients of scale and shift of a batch normalization: adds the splits of batch_norm_grad_sums_parallel. One
// workgroup per tile of columns.
// uses: grid, row_tiles, merged_norm_sums

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(7) var<storage, read_write> dscale: array<Element>;
@group(0) @binding(8) var<storage, read_write> dshift: array<Element>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let at = row_lane(workgroup_index(group), local);
    let merged = merge_sums(at, local);
    if (at.used && at.lane == 0u) {
        dscale[at.column] = merged.scale;
        dshift[at.column] = merged.shift;
    }
}
