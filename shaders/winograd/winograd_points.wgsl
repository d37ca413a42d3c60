// Transforms in one dimension, of four channels: results by fours, taps of a kernel, and their values at POINTS points.
alias Four = array<vec4<f32>, 4>;
alias Taps = array<vec4<f32>, TAPS>;
alias Points = array<vec4<f32>, POINTS>;
