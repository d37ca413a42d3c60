// dy = 2*(y - targets) / (number of valid elements). One invocation per element.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read> targets: array<f32>;
@group(0) @binding(4) var<storage, read_write> dy: array<f32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = invocation_index(group, local);
    let elements = valid_count(p.rows * p.per_example, p.per_example, 0u);
    if (index >= elements) {
        return;
    }
    dy[index] = 2.0 * (y[index] - targets[index]) / f32(elements);
}
