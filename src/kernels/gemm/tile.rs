//! Tiles of the tiled GEMM family.

use crate::gpu::AdapterReport;

/// Length of one step of k: the part of both operands that is in workgroup memory at a time.
pub(super) const K_STEP: usize = 16;

/// Tile that one workgroup computes, and the part of it that one invocation computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows of the tile.
    pub rows: usize,
    /// Columns of the tile.
    pub columns: usize,
    /// Rows per invocation: 4 or 8.
    pub invocation_rows: usize,
    /// Columns per invocation: 4 or 8.
    pub invocation_columns: usize,
}

const fn tile(rows: usize, columns: usize, invocation_rows: usize, invocation_columns: usize) -> Tile {
    Tile { rows, columns, invocation_rows, invocation_columns }
}

/// All tiles. `cargo bench --bench tiles` measures them.
pub const TILES: [Tile; 9] = [
    tile(128, 128, 8, 8),
    tile(64, 64, 8, 4),
    tile(128, 32, 8, 4),
    tile(64, 32, 4, 4),
    tile(32, 64, 4, 4),
    tile(32, 32, 4, 4),
    tile(128, 16, 4, 4),
    tile(64, 16, 4, 4),
    tile(128, 8, 4, 4),
];

impl Tile {
    /// Invocations per workgroup.
    pub(super) fn invocations(self) -> usize {
        self.rows / self.invocation_rows * (self.columns / self.invocation_columns)
    }

    /// Bytes of workgroup memory: one step of k of both operands.
    fn workgroup_memory(self) -> usize {
        4 * K_STEP * (self.rows + self.columns)
    }

    fn fits(self, report: &AdapterReport) -> bool {
        self.invocations() <= report.max_invocations as usize
            && self.workgroup_memory() <= report.max_workgroup_memory as usize
    }

    /// Number of tiles of an `[m, n]` result.
    pub(super) fn count(self, m: usize, n: usize) -> usize {
        m.div_ceil(self.rows) * n.div_ceil(self.columns)
    }

    /// Number of elements of an `[m, n]` result, those in the empty rows and columns of its tiles included.
    pub(super) fn results(self, m: usize, n: usize) -> usize {
        self.count(m, n) * self.rows * self.columns
    }

    /// Share of a core's peak that the inner loop reaches when the core is fully occupied, in percent: the
    /// more results an invocation computes, the fewer loads each multiply-add needs. Fitted with [`Tile::time`]; the
    /// shares of issue slots by Mesa's compiler for NVIDIA (76, 60, 45 and 34 %) have similar ratios.
    pub(super) fn efficiency(self) -> usize {
        match (self.invocation_rows, self.invocation_columns) {
            (8, 8) => 54,
            (8, 4) => 46,
            // The few columns share the loads of A.
            _ if self.columns < 16 => 25,
            _ => 33,
        }
    }

    /// Estimated time of `count` workgroups that each multiply over `k`, in multiply-adds that a core computes
    /// at its peak in this time. Fitted to measurements on an NVIDIA H200 (`docs/benchmarks.md`).
    pub(super) fn time(self, count: usize, k: usize, cores: usize) -> usize {
        /// Invocations that occupy a core.
        const SATURATION: usize = 320;
        let per_core = count.div_ceil(cores);
        let occupied = (per_core * self.invocations()).min(SATURATION);
        // The first and the last step of k do not overlap with others.
        let work = (per_core * self.rows * self.columns).saturating_mul(k + K_STEP);
        work.saturating_mul(100 * SATURATION) / (self.efficiency() * occupied)
    }
}

/// Rows and columns, such as `128x32`.
impl std::fmt::Display for Tile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.rows, self.columns)
    }
}

/// Tiles among which the tiled family chooses for each GEMM, by the class of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TileSet {
    /// Tiles of at most 64 x 64 results, on a device with few cores: an integrated GPU.
    Small,
    /// All tiles, on a device with many cores: a discrete GPU.
    Large,
    /// One tile, for tests and measurements; cores as for `Large`.
    Only(Tile),
}

impl TileSet {
    /// The tiles of the set.
    pub fn tiles(self) -> impl Iterator<Item = Tile> {
        TILES.into_iter().filter(move |&tile| match self {
            TileSet::Small => tile.columns <= 64 && (tile.rows <= 64 || tile.columns < 16),
            TileSet::Large => true,
            TileSet::Only(only) => tile == only,
        })
    }

    /// Cores of a typical device of the class. The numbers of real devices (8 to 40, 60 to 170) change the
    /// choice little.
    pub(super) fn cores(self) -> usize {
        match self {
            TileSet::Small => 16,
            TileSet::Large | TileSet::Only(_) => 128,
        }
    }

    pub(super) fn fits(self, report: &AdapterReport) -> bool {
        self.tiles().all(|tile| tile.fits(report))
    }
}
