use crate::graph::Resample2d;
use crate::kernels::{Launch, files, grid_of, to_u32, vector_width};
use crate::wgsl::params;
use std::ops::Range;

const WORKGROUP: u32 = 64;

params! {
    struct Params {
        images: u32,
        channels: u32,
        /// Size of the operand.
        height: u32,
        width: u32,
        out_height: u32,
        out_width: u32,
        /// Index of the first column in the table.
        columns: u32,
        /// Range of the rows and columns of each rectangle.
        first_row: u32,
        end_row: u32,
        first_column: u32,
        end_column: u32,
    }
}

/// The rectangles of a resampling and their weights, as the kernel reads them.
pub struct ResampleTable {
    /// The table: for each output row, and one more, the first row of its rectangle and the index of its weights;
    /// the weights; then the same for columns.
    pub words: Vec<u32>,
    /// Index of the first column.
    columns: usize,
    /// Rows and columns of the largest rectangle.
    taps: [usize; 2],
}

impl ResampleTable {
    /// The table of these rows and columns: of each, the index of the first element and the weights.
    pub fn new(rows: &[(usize, Vec<f64>)], columns: &[(usize, Vec<f64>)]) -> Self {
        let mut words = Vec::new();
        append(&mut words, rows);
        let begin = words.len();
        append(&mut words, columns);
        let longest = |axis: &[(usize, Vec<f64>)]| axis.iter().map(|(_, w)| w.len()).max().unwrap_or(0);
        ResampleTable { words, columns: begin, taps: [longest(rows), longest(columns)] }
    }

    /// Divides the rows and columns of the rectangles into ranges, one of each for a dispatch, so that the loops of
    /// an invocation have at most `max_iterations` iterations.
    pub fn parts(&self, max_iterations: usize) -> Vec<[Range<usize>; 2]> {
        let [rows, columns] = self.taps.map(|taps| taps.max(1));
        let wide = columns.min(max_iterations.saturating_sub(1).max(1));
        let high = rows.min((max_iterations / (1 + wide)).max(1));
        let ranges = |taps: usize, each: usize| {
            (0..taps).step_by(each).map(move |first| first..(first + each).min(taps))
        };
        ranges(rows, high)
            .flat_map(|row| ranges(columns, wide).map(move |column| [row.clone(), column]))
            .collect()
    }
}

fn append(words: &mut Vec<u32>, axis: &[(usize, Vec<f64>)]) {
    let mut next = words.len() + 2 * (axis.len() + 1);
    for (first, weights) in axis {
        words.extend([to_u32(*first), to_u32(next)]);
        next += weights.len();
    }
    words.extend([0, to_u32(next)]);
    words.extend(axis.iter().flat_map(|(_, weights)| weights).map(|&weight| (weight as f32).to_bits()));
}

/// Linear resampling, for a range of the rows and columns of each rectangle. Buffers: x, table, y.
pub fn resample2d(
    images: usize,
    resample: &Resample2d,
    table: &ResampleTable,
    [rows, columns]: &[Range<usize>; 2],
) -> Launch {
    let ([height, width], [out_height, out_width]) = (resample.from(), resample.to());
    let params = Params {
        images: to_u32(images),
        channels: to_u32(resample.channels),
        height: to_u32(height),
        width: to_u32(width),
        out_height: to_u32(out_height),
        out_width: to_u32(out_width),
        columns: to_u32(table.columns),
        first_row: to_u32(rows.start),
        end_row: to_u32(rows.end),
        first_column: to_u32(columns.start),
        end_column: to_u32(columns.end),
    };
    let elements = images * out_height * out_width * resample.channels;
    let channels = vector_width(resample.channels);
    Launch::new(&files::RESAMPLE2D, &params, WORKGROUP, grid_of(elements / channels, WORKGROUP))
        .flops((2 * elements as u64).saturating_mul((rows.len() * (1 + columns.len())) as u64))
        .iterations(rows.len() * (1 + columns.len()))
        .channel_vectors(channels == 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_each_row_and_column_once_within_the_limit() {
        for (taps, limit) in
            [([1, 1], 16), ([0, 3], 16), ([5, 70], 16), ([300, 2], 16), ([2, 65_535], 65_535)]
        {
            let axis = |taps: usize| vec![(0, vec![1.0; taps])];
            let table = ResampleTable::new(&axis(taps[0]), &axis(taps[1]));
            let mut covered = 0;
            for [rows, columns] in table.parts(limit) {
                assert!(rows.len() * (1 + columns.len()) <= limit, "{taps:?}");
                covered += rows.len() * columns.len();
            }
            assert_eq!(covered, taps[0].max(1) * taps[1].max(1));
        }
    }
}
