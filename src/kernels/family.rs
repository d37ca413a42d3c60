//! Which way of multiplying matrices suits an adapter: a pure function of its report.

use crate::error::{Error, Result};
use crate::gpu::{AdapterReport, DeviceKind};

/// A way of multiplying matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GemmFamily {
    /// Tiles in registers, nothing shared: right on every adapter.
    Register,
    /// Lanes of a subgroup share what they load.
    Subgroup {
        /// Lanes that share: 4 or 8, no more than the smallest subgroup.
        lanes: u32,
    },
    /// A workgroup shares tiles in workgroup memory. Products that are too narrow for tiles go by registers.
    Tiled {
        /// The largest tiles; small products have small ones.
        largest: TileSize,
    },
}

/// The tile of results of one workgroup of the tiled family, 8 x 8 an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TileSize {
    /// 64 x 64 results, 64 invocations, 8 KiB of workgroup memory.
    Small,
    /// 128 x 128 results, 256 invocations, 16 KiB of workgroup memory.
    Large,
}

impl TileSize {
    /// Terms of the sum in workgroup memory at a time.
    pub(super) const K_STEP: usize = 16;

    /// Rows and columns.
    pub(super) fn side(self) -> usize {
        match self {
            TileSize::Small => 64,
            TileSize::Large => 128,
        }
    }

    pub(super) fn invocations(self) -> u32 {
        match self {
            TileSize::Small => 64,
            TileSize::Large => 256,
        }
    }

    /// Bytes: both operands.
    fn workgroup_memory(self) -> u32 {
        (2 * 4 * Self::K_STEP * self.side()) as u32
    }

    fn fits(self, report: &AdapterReport) -> bool {
        self.invocations() <= report.max_invocations && self.workgroup_memory() <= report.max_workgroup_memory
    }
}

impl GemmFamily {
    /// The family for an adapter.
    pub fn choose(report: &AdapterReport) -> Self {
        if report.software {
            // On processors the vector unit is the subgroup, and sharing saves its scalar loads; barriers are slow.
            return Self::subgroup(report).unwrap_or(GemmFamily::Register);
        }
        let largest = match report.kind {
            DeviceKind::Discrete if TileSize::Large.fits(report) => TileSize::Large,
            DeviceKind::Discrete | DeviceKind::Integrated if TileSize::Small.fits(report) => TileSize::Small,
            _ => return GemmFamily::Register,
        };
        GemmFamily::Tiled { largest }
    }

    /// Reads `register`, `subgroup4`, `subgroup8`, `tiled-small` or `tiled-large`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "register" => Ok(GemmFamily::Register),
            "subgroup4" => Ok(GemmFamily::Subgroup { lanes: 4 }),
            "subgroup8" => Ok(GemmFamily::Subgroup { lanes: 8 }),
            "tiled-small" => Ok(GemmFamily::Tiled { largest: TileSize::Small }),
            "tiled-large" => Ok(GemmFamily::Tiled { largest: TileSize::Large }),
            _ => {
                let expected = "register, subgroup4, subgroup8, tiled-small or tiled-large";
                Err(Error::argument("gemm family", expected, text))
            }
        }
    }

    /// The subgroup family, where the adapter has subgroups of at least four lanes.
    pub fn subgroup(report: &AdapterReport) -> Option<Self> {
        let [smallest, _] = report.subgroup?;
        (smallest >= 4).then_some(GemmFamily::Subgroup { lanes: if smallest >= 8 { 8 } else { 4 } })
    }

    /// Whether the family is right on this adapter.
    pub fn is_legal(self, report: &AdapterReport) -> bool {
        match self {
            GemmFamily::Register => true,
            GemmFamily::Subgroup { lanes } => {
                matches!(lanes, 4 | 8) && report.subgroup.is_some_and(|[smallest, _]| lanes <= smallest)
            }
            GemmFamily::Tiled { largest } => largest.fits(report),
        }
    }

    /// Every family that is right on this adapter.
    pub fn legal(report: &AdapterReport) -> Vec<Self> {
        let tiled = [TileSize::Small, TileSize::Large].map(|largest| GemmFamily::Tiled { largest });
        let all = std::iter::once(GemmFamily::Register).chain(Self::subgroup(report)).chain(tiled);
        all.filter(|family| family.is_legal(report)).collect()
    }
}

impl std::fmt::Display for GemmFamily {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GemmFamily::Register => f.write_str("register"),
            GemmFamily::Subgroup { lanes } => write!(f, "subgroup{lanes}"),
            GemmFamily::Tiled { largest: TileSize::Small } => f.write_str("tiled-small"),
            GemmFamily::Tiled { largest: TileSize::Large } => f.write_str("tiled-large"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Backend, DeviceKind};

    fn report(software: bool, subgroup: Option<[u32; 2]>) -> AdapterReport {
        AdapterReport {
            name: "test".into(),
            driver: String::new(),
            backend: Backend::Vulkan,
            kind: if software { DeviceKind::Cpu } else { DeviceKind::Discrete },
            software,
            subgroup,
            timestamps: false,
            max_buffer: 1 << 30,
            max_binding: 1 << 27,
            max_storage_buffers: 8,
            max_workgroup_memory: 16_384,
            max_invocations: 256,
        }
    }

    const SMALL: GemmFamily = GemmFamily::Tiled { largest: TileSize::Small };
    const LARGE: GemmFamily = GemmFamily::Tiled { largest: TileSize::Large };

    #[test]
    fn a_family_is_read_as_it_is_written() {
        let [four, eight] = [4, 8].map(|lanes| GemmFamily::Subgroup { lanes });
        for family in [GemmFamily::Register, four, eight, SMALL, LARGE] {
            assert_eq!(GemmFamily::parse(&family.to_string()).unwrap(), family);
        }
        for wrong in ["subgroup16", "tiled", "tiled-huge"] {
            assert!(matches!(GemmFamily::parse(wrong), Err(Error::InvalidArgument { .. })));
        }
    }

    #[test]
    fn families_follow_the_report() {
        assert_eq!(GemmFamily::choose(&report(true, Some([8, 8]))), GemmFamily::Subgroup { lanes: 8 });
        assert_eq!(GemmFamily::choose(&report(true, Some([4, 4]))), GemmFamily::Subgroup { lanes: 4 });
        assert_eq!(GemmFamily::choose(&report(true, None)), GemmFamily::Register);
        assert_eq!(GemmFamily::choose(&report(true, Some([1, 1]))), GemmFamily::Register);
        assert_eq!(GemmFamily::legal(&report(false, Some([16, 64]))).len(), 4);
        assert_eq!(GemmFamily::legal(&report(true, None)), [GemmFamily::Register, SMALL, LARGE]);
    }

    #[test]
    fn hardware_gets_tiles_within_its_limits() {
        let of = |kind: DeviceKind, max_workgroup_memory: u32, max_invocations: u32| {
            let base = report(false, Some([32, 32]));
            let report = AdapterReport { kind, max_workgroup_memory, max_invocations, ..base };
            assert!(GemmFamily::legal(&report).contains(&GemmFamily::choose(&report)));
            GemmFamily::choose(&report)
        };
        assert_eq!(of(DeviceKind::Discrete, 16_384, 256), LARGE);
        assert_eq!(of(DeviceKind::Discrete, 16_383, 256), SMALL);
        assert_eq!(of(DeviceKind::Discrete, 16_384, 255), SMALL);
        assert_eq!(of(DeviceKind::Integrated, 65_536, 1024), SMALL);
        assert_eq!(of(DeviceKind::Integrated, 8_191, 256), GemmFamily::Register);
        for kind in [DeviceKind::Other, DeviceKind::Virtual] {
            assert_eq!(of(kind, 65_536, 1024), GemmFamily::Register);
        }
    }
}
