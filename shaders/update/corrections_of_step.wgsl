// Adam's bias corrections where no element missed a step: those of the step.
// uses: scalars

struct Corrections {
    first: f32,
    second: f32,
}

fn corrections(index: u32) -> Corrections {
    return Corrections(scalars.correction1, scalars.correction2);
}
