// mean[0] = the batch's mean loss, of weighted examples the sum of their losses over that of their labels' weights. Adds to
// the running sums: loss, correct answers (first maximum = label; COUNTED, if there are labels), examples, weights.
// The first NaN or infinite mean raises a flag that stays. One workgroup; the order of the sum is fixed.
// uses: scalars, bits, class_weight, Sums

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> loss: array<f32>;
@group(0) @binding(3) var<storage, read> logits: array<f32>;
@group(0) @binding(4) var<storage, read> labels: array<u32>;
@group(0) @binding(5) var<storage, read> class_weights: array<f32>;
@group(0) @binding(6) var<storage, read_write> mean: array<f32>;
@group(0) @binding(7) var<storage, read_write> sums: Sums;

var<workgroup> loss_part: array<f32, WORKGROUP>;
var<workgroup> correct_part: array<u32, WORKGROUP>;
var<workgroup> weight_part: array<f32, WORKGROUP>;

fn answer(row: u32) -> u32 {
    var best = 0u;
    for (var c = 1u; c < p.classes; c++) {
        if (logits[row * p.classes + c] > logits[row * p.classes + best]) {
            best = c;
        }
    }
    return best;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) local: u32) {
    let rows = live(p.rows, 1u, 0u);
    var loss_sum = 0.0;
    var correct = 0u;
    var weight = 0.0;
    for (var row = local; row < rows; row += WORKGROUP) {
        loss_sum += loss[row];
        if (COUNTED) {
            correct += select(0u, 1u, answer(row) == labels[row]);
        }
        if (WEIGHTED) {
            weight += class_weight(labels[row]);
        }
    }
    loss_part[local] = loss_sum;
    correct_part[local] = correct;
    weight_part[local] = weight;
    workgroupBarrier();
    if (local != 0u) {
        return;
    }
    for (var i = 1u; i < WORKGROUP; i++) {
        loss_sum += loss_part[i];
        correct += correct_part[i];
        weight += weight_part[i];
    }
    let batch_mean = loss_sum / select(f32(rows), weight, WEIGHTED);
    mean[0] = batch_mean;
    // A mean that is not finite is kept out of the sums, so that they still tell of the good steps.
    if (is_finite(batch_mean)) {
        sums.loss += loss_sum;
        sums.correct += correct;
        sums.examples += rows;
        sums.weight += weight;
    } else if (sums.non_finite == 0u) {
        sums.non_finite = 1u;
        sums.non_finite_step = scalars.step;
    }
}
