// weight_sum[0] = the sum of the class weights of the labels of all valid rows. Runs in one workgroup, so that the
// order of summation is fixed.
// uses: scalars

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read> class_weights: array<f32>;
@group(0) @binding(4) var<storage, read_write> weight_sum: array<f32>;

var<workgroup> partial: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) local: u32) {
    let rows = valid_count(p.rows, 1u, 0u);
    var sum = 0.0;
    for (var row = local; row < rows; row += WORKGROUP) {
        sum += class_weights[labels[row]];
    }
    partial[local] = sum;
    workgroupBarrier();
    if (local != 0u) {
        return;
    }
    for (var i = 1u; i < WORKGROUP; i++) {
        sum += partial[i];
    }
    weight_sum[0] = sum;
}
