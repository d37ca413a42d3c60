// loss[n, s] = the sum over the elements of split s of row n of their losses, times p.factor: the mean with
// one split, and 1 / elements as the factor. One workgroup per row and split: each invocation sums every
// WORKGROUP-th element and the first invocation adds the partial sums, so that the order is fixed. The same dispatch
// may also compute the gradient: the files element_loss_grad_*.wgsl define store_gradient. The files *_error.wgsl and
// binary_cross_entropy.wgsl define the loss of an element and its slope.
// uses: scalars, grid

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> y: array<f32>;
@group(0) @binding(3) var<storage, read> targets: array<f32>;
@group(0) @binding(4) var<storage, read_write> loss: array<f32>;

var<workgroup> partial: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
    let index = workgroup_index(group);
    let row = index / p.splits;
    let split = index % p.splits;
    // No early return: all invocations of a workgroup must reach the barrier.
    let elements = select(0u, p.per_example, row < valid_count(p.rows, 1u, 0u));
    let end = min((split + 1u) * p.per_split, elements);
    var sum = 0.0;
    for (var i = split * p.per_split + local; i < end; i += WORKGROUP) {
        let at = row * p.per_example + i;
        sum += element_loss(y[at], targets[at]);
        store_gradient(at, y[at], targets[at]);
    }
    partial[local] = sum;
    workgroupBarrier();
    if (local != 0u || elements == 0u) {
        return;
    }
    for (var i = 1u; i < WORKGROUP; i++) {
        sum += partial[i];
    }
    loss[index] = sum * p.factor;
}
