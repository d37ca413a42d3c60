// mean[0] = the mean loss of the batch; with class weights, the sum of the losses divided by the sum of the
// labels' weights. Adds loss, correct predictions (the first maximum is at the label; only if COUNTED),
// examples and weights to the running sums. The first mean that is NaN or infinite sets a flag that is never
// cleared, and so does the first batch after an update with a result that is not finite. Runs in one workgroup,
// so that the order of summation is fixed. Binding 3, which the predicted class is read from, is in
// prediction_of_logits.wgsl or prediction_stored.wgsl.
// uses: scalars, bits, class_weight, Sums

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> loss: array<f32>;
@group(0) @binding(4) var<storage, read> labels: array<u32>;
@group(0) @binding(5) var<storage, read> class_weights: array<f32>;
@group(0) @binding(6) var<storage, read_write> mean: array<f32>;
@group(0) @binding(7) var<storage, read_write> sums: Sums;

var<workgroup> loss_partial: array<f32, WORKGROUP>;
var<workgroup> correct_partial: array<u32, WORKGROUP>;
var<workgroup> weight_partial: array<f32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) local: u32) {
    let rows = valid_count(p.rows, 1u, 0u);
    var loss_sum = 0.0;
    var correct = 0u;
    var weight = 0.0;
    for (var row = local; row < rows; row += WORKGROUP) {
        loss_sum += loss[row];
        if (COUNTED) {
            correct += select(0u, 1u, predicted_class(row) == labels[row]);
        }
        if (WEIGHTED) {
            weight += class_weight(labels[row]);
        }
    }
    loss_partial[local] = loss_sum;
    correct_partial[local] = correct;
    weight_partial[local] = weight;
    workgroupBarrier();
    if (local != 0u) {
        return;
    }
    for (var i = 1u; i < WORKGROUP; i++) {
        loss_sum += loss_partial[i];
        correct += correct_partial[i];
        weight += weight_partial[i];
    }
    // Where the weights of all labels are 0, the mean is over the rows.
    let batch_mean = loss_sum / select(f32(rows), weight, weight > 0.0);
    mean[0] = batch_mean;
    // A batch without an update is not added, so that the sums remain valid for the other steps.
    if (is_finite(batch_mean) && atomicLoad(&sums.rejected) == 0u) {
        sums.loss += loss_sum;
        sums.correct += correct;
        sums.examples += rows;
        sums.weight += weight;
    } else if (sums.non_finite == 0u) {
        sums.non_finite = 1u;
        sums.non_finite_step = scalars.step;
    }
}
