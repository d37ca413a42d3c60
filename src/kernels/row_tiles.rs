//! Division of sums over the rows of a matrix among workgroups, for the parallel variants of the kernels.

use super::{Launch, WgslFile, grid, to_u32, vector_width};
use crate::wgsl::params;

const WORKGROUP: usize = 256;

/// Maximum number of columns of a tile: 32 lanes that read 512 contiguous bytes.
const MAX_COLUMNS: usize = 32;

/// Rows that a lane adds. A lane waits for the memory about twice (four loads are in flight at a time), and
/// 65,536 rows of 16 channels occupy 128 workgroups.
const ROWS_PER_LANE: usize = 8;

/// Rows per lane up to which one split is faster than a second dispatch.
const ROWS_PER_LANE_OF_ONE_SPLIT: usize = 16;

/// Number of tiles that occupies a large GPU several times; more rows make the tiles larger.
const MAX_TILES: usize = 1_024;

/// Maximum number of rows that a lane adds, far below [`super::MAX_ITERATIONS`].
const MAX_ROWS_PER_LANE: usize = 4_096;

params! {
    struct Params {
        rows: u32,
        rows_per_example: u32,
        channels: u32,
        splits: u32,
        rows_per_split: u32,
        columns: u32,
    }
}

/// Division of the rows and columns of `[rows, channels]` into tiles, each summed by one workgroup. A column
/// is one channel, or four if the number of channels is a multiple of 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowTiles {
    rows: usize,
    /// Rows of one example; 0 if the rows do not depend on the batch.
    rows_per_example: usize,
    channels: usize,
    rows_per_split: usize,
}

impl RowTiles {
    /// Divides the rows of a full batch into splits: a pure function of the shape. The number of lanes of a
    /// tile depends on the number of channels.
    pub fn new(rows: usize, rows_per_example: usize, channels: usize) -> Self {
        let whole = Self::whole(rows, rows_per_example, channels);
        let lanes = whole.lanes();
        if rows <= ROWS_PER_LANE_OF_ONE_SPLIT * lanes {
            return whole;
        }
        let most = (MAX_TILES / whole.column_groups()).max(1);
        let splits =
            rows.div_ceil(ROWS_PER_LANE * lanes).min(most).max(rows.div_ceil(MAX_ROWS_PER_LANE * lanes));
        RowTiles { rows_per_split: rows.div_ceil(splits), ..whole }
    }

    /// One split with all rows.
    pub fn whole(rows: usize, rows_per_example: usize, channels: usize) -> Self {
        RowTiles { rows, rows_per_example, channels, rows_per_split: rows }
    }

    /// One split for each example.
    pub fn examples(examples: usize, rows_per_example: usize, channels: usize) -> Self {
        let rows = examples * rows_per_example;
        RowTiles { rows, rows_per_example, channels, rows_per_split: rows_per_example }
    }

    /// Number of splits of the rows; each has at least one row.
    pub fn splits(&self) -> usize {
        self.rows.div_ceil(self.rows_per_split)
    }

    fn columns(&self) -> usize {
        self.channels / vector_width(self.channels)
    }

    /// Columns of a tile, a power of 2.
    fn tile_columns(&self) -> usize {
        self.columns().next_power_of_two().min(MAX_COLUMNS)
    }

    /// Number of tiles side by side.
    fn column_groups(&self) -> usize {
        self.columns().div_ceil(self.tile_columns())
    }

    fn lanes(&self) -> usize {
        WORKGROUP / self.tile_columns()
    }

    /// Launches a kernel with one workgroup per tile, which does `flops` operations per element and reads
    /// each row in `loops` loops.
    pub(super) fn launch(&self, kernel: &'static WgslFile, flops: usize, loops: usize) -> Launch {
        self.launch_tiles(kernel, self.splits() * self.column_groups())
            .flops((flops * self.rows * self.channels) as u64)
            .iterations(loops * self.rows_per_split.div_ceil(self.lanes()))
    }

    /// Launches a kernel that merges the results of all splits, with one workgroup per group of columns.
    pub(super) fn launch_merge(&self, kernel: &'static WgslFile, flops: usize, loops: usize) -> Launch {
        self.launch_tiles(kernel, self.column_groups())
            .flops((flops * self.splits() * self.channels) as u64)
            .iterations(loops * self.splits().div_ceil(self.lanes()))
    }

    /// Launches a kernel with one workgroup per tile, each of which merges the results of all splits of its columns
    /// in `merges` loops before it processes its rows with `flops` operations per element.
    pub(super) fn launch_merged(&self, kernel: &'static WgslFile, flops: usize, merges: usize) -> Launch {
        let launch = self.launch(kernel, flops, 1);
        let iterations = launch.iterations + merges * self.splits().div_ceil(self.lanes());
        launch.iterations(iterations)
    }

    fn launch_tiles(&self, kernel: &'static WgslFile, tiles: usize) -> Launch {
        let params = Params {
            rows: to_u32(self.rows),
            rows_per_example: to_u32(self.rows_per_example),
            channels: to_u32(self.channels),
            splits: to_u32(self.splits()),
            rows_per_split: to_u32(self.rows_per_split),
            columns: to_u32(self.tile_columns()),
        };
        Launch::new(kernel, &params, to_u32(WORKGROUP), grid(tiles, 1))
            .channel_vectors(vector_width(self.channels) == 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_cover_the_rows_and_occupy_a_gpu() {
        for (rows, channels, splits) in [
            (1, 1, 1),
            (64, 10, 1),
            (256, 64, 1),
            (65_536, 16, 128),
            (16_384, 32, 64),
            (4_096, 64, 32),
            (4_096, 512, 64),
            (1 << 24, 16, 1_024),
            (1 << 30, 3, 4_096),
        ] {
            let tiles = RowTiles::new(rows, 1, channels);
            assert_eq!(tiles.splits(), splits, "{rows} rows of {channels} channels");
            assert!((tiles.splits() - 1) * tiles.rows_per_split < rows);
            assert!(tiles.rows_per_split <= MAX_ROWS_PER_LANE * tiles.lanes());
        }
    }
}
