// Operands of the one-dimensional transforms, four channels each: four outputs, the taps of a kernel row, and
// the values at POINTS interpolation points.
alias Outputs = array<vec4<f32>, 4>;
alias Taps = array<vec4<f32>, TAPS>;
alias Points = array<vec4<f32>, POINTS>;
