//! GEMM families, and the choice of one for an adapter: a pure function of the adapter's report.

use super::gemm_cooperative;
use super::tile::{TILES, TileSet};
use crate::error::{Error, Result};
use crate::gpu::{AdapterReport, DeviceKind};
use std::str::FromStr;

/// A GEMM implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GemmFamily {
    /// Each invocation computes a tile in registers; nothing is shared. Works on every adapter.
    Register,
    /// Lanes of a subgroup share their loads by broadcast.
    Subgroup {
        /// Number of lanes that share: 4 or 8, at most the size of the smallest subgroup.
        lanes: u32,
    },
    /// A workgroup shares tiles in workgroup memory. GEMMs that are too narrow for tiles use
    /// [`GemmFamily::Register`].
    Tiled {
        /// Tiles to choose from.
        tiles: TileSet,
    },
    /// Cooperative matrices (tensor cores, WMMA): operands rounded to f16 (11 bits of precision), sums in
    /// f32. Never chosen by default; requires a device opened with [`crate::GpuOptions::cooperative_matrix`].
    ///
    /// Finite operands beyond 65,504 are clamped. Gradients of a loss are multiplied by 1024 before they are
    /// rounded and the results divided by it, so gradients are clamped at 63.97. GEMMs that are too narrow
    /// for tiles use [`GemmFamily::Register`], in f32.
    Cooperative {
        /// Rows and columns of a cooperative matrix: 8 or 16.
        side: u32,
        /// Size of the largest subgroup.
        lanes: u32,
        /// Whether a dispatch of its own rounds each operand, and stores it in f16 for all GEMMs that read it.
        /// Otherwise each GEMM rounds the operands that it loads. The results are equal bit for bit.
        stored: bool,
    },
}

impl GemmFamily {
    /// Chooses the family for an adapter.
    pub fn choose(report: &AdapterReport) -> Self {
        if report.software {
            // On a software adapter a subgroup is a SIMD vector: broadcasts replace scalar loads, and
            // barriers are slow.
            return Self::subgroup(report).unwrap_or(GemmFamily::Register);
        }
        let tiles = match report.kind {
            DeviceKind::Discrete if TileSet::Large.fits(report) => TileSet::Large,
            DeviceKind::Discrete | DeviceKind::Integrated if TileSet::Small.fits(report) => TileSet::Small,
            _ => return GemmFamily::Register,
        };
        GemmFamily::Tiled { tiles }
    }

    /// The subgroup family; `None` if the adapter has no subgroups of at least four lanes.
    pub fn subgroup(report: &AdapterReport) -> Option<Self> {
        let [smallest, _] = report.subgroup?;
        (smallest >= 4).then_some(GemmFamily::Subgroup { lanes: if smallest >= 8 { 8 } else { 4 } })
    }

    /// The cooperative-matrix family; `None` if the device was opened without cooperative matrices, or its
    /// limits are too low.
    pub fn cooperative(report: &AdapterReport) -> Option<Self> {
        let (side, [smallest, lanes]) = (report.cooperative_matrix?, report.subgroup?);
        let usable = matches!(side, 8 | 16) && (4..=lanes).contains(&smallest) && lanes <= 64;
        let fits = gemm_cooperative::workgroup(lanes as usize) <= report.max_invocations as usize
            && gemm_cooperative::workgroup_memory(lanes as usize) <= report.max_workgroup_memory
            && TileSet::Large.fits(report);
        (usable && fits).then_some(GemmFamily::Cooperative { side, lanes, stored: false })
    }

    /// The same family, with operands that are stored in f16 if it has cooperative matrices.
    pub fn with_stored_operands(self) -> Self {
        match self {
            GemmFamily::Cooperative { side, lanes, .. } => {
                GemmFamily::Cooperative { side, lanes, stored: true }
            }
            other => other,
        }
    }

    /// Whether the family works on this adapter.
    pub fn is_supported(self, report: &AdapterReport) -> bool {
        match self {
            GemmFamily::Register => true,
            GemmFamily::Subgroup { lanes } => {
                matches!(lanes, 4 | 8) && report.subgroup.is_some_and(|[smallest, _]| lanes <= smallest)
            }
            GemmFamily::Tiled { tiles } => tiles.fits(report),
            GemmFamily::Cooperative { .. } => Self::cooperative(report)
                .is_some_and(|family| self == family || self == family.with_stored_operands()),
        }
    }

    /// Every family that works on this adapter and multiplies in f32: all but [`GemmFamily::Cooperative`].
    pub fn supported(report: &AdapterReport) -> Vec<Self> {
        let tiled = [TileSet::Small, TileSet::Large].map(|tiles| GemmFamily::Tiled { tiles });
        let all = std::iter::once(GemmFamily::Register).chain(Self::subgroup(report)).chain(tiled);
        all.filter(|family| family.is_supported(report)).collect()
    }
}

/// Parses `register`, `subgroup4`, `subgroup8`, `tiled-small`, `tiled-large`, or `cooperativeSxL` with the
/// side S of the cooperative matrices and the L lanes of the largest subgroup, such as `cooperative16x32`, or
/// `cooperative16x32-f16` with operands stored in f16.
impl FromStr for GemmFamily {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "register" => Ok(GemmFamily::Register),
            "subgroup4" => Ok(GemmFamily::Subgroup { lanes: 4 }),
            "subgroup8" => Ok(GemmFamily::Subgroup { lanes: 8 }),
            _ => parse_tiled(text).or_else(|| parse_cooperative(text)).ok_or_else(|| {
                let expected = "register, subgroup4, subgroup8, tiled-small, tiled-large, tiled-128x32 (one tile only) or, as \
                                `frazil devices` names it, cooperative16x32, or cooperative16x32-f16 with operands stored in f16";
                Error::argument("gemm family", expected, text)
            }),
        }
    }
}

fn parse_tiled(text: &str) -> Option<GemmFamily> {
    let tiles = match text.strip_prefix("tiled-")? {
        "small" => TileSet::Small,
        "large" => TileSet::Large,
        name => TileSet::Only(*TILES.iter().find(|tile| tile.to_string() == name)?),
    };
    Some(GemmFamily::Tiled { tiles })
}

fn parse_cooperative(text: &str) -> Option<GemmFamily> {
    let sizes = text.strip_prefix("cooperative")?;
    let (sizes, stored) = sizes.strip_suffix("-f16").map_or((sizes, false), |sizes| (sizes, true));
    let (side, lanes) = sizes.split_once('x')?;
    let [side, lanes] = [side.parse().ok()?, lanes.parse().ok()?];
    Some(GemmFamily::Cooperative { side, lanes, stored })
}

impl std::fmt::Display for GemmFamily {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GemmFamily::Register => f.write_str("register"),
            GemmFamily::Subgroup { lanes } => write!(f, "subgroup{lanes}"),
            GemmFamily::Tiled { tiles: TileSet::Small } => f.write_str("tiled-small"),
            GemmFamily::Tiled { tiles: TileSet::Large } => f.write_str("tiled-large"),
            GemmFamily::Tiled { tiles: TileSet::Only(tile) } => write!(f, "tiled-{tile}"),
            GemmFamily::Cooperative { side, lanes, stored } => {
                write!(f, "cooperative{side}x{lanes}{}", if *stored { "-f16" } else { "" })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{Backend, DeviceKind, ShaderCompiler};

    fn report(software: bool, subgroup: Option<[u32; 2]>) -> AdapterReport {
        AdapterReport {
            name: "test".into(),
            driver: String::new(),
            backend: Backend::Vulkan,
            shader_compiler: ShaderCompiler::SpirV,
            kind: if software { DeviceKind::Cpu } else { DeviceKind::Discrete },
            software,
            subgroup,
            cooperative_matrix: None,
            timestamps: false,
            max_buffer: 1 << 30,
            max_binding: 1 << 27,
            max_storage_buffers: 8,
            max_workgroup_memory: 16_384,
            max_invocations: 256,
        }
    }

    const SMALL: GemmFamily = GemmFamily::Tiled { tiles: TileSet::Small };
    const LARGE: GemmFamily = GemmFamily::Tiled { tiles: TileSet::Large };

    #[test]
    fn parse_inverts_display() {
        let [four, eight] = [4, 8].map(|lanes| GemmFamily::Subgroup { lanes });
        let cooperative = GemmFamily::Cooperative { side: 16, lanes: 32, stored: false };
        let stored = cooperative.with_stored_operands();
        assert_eq!(stored.to_string(), "cooperative16x32-f16");
        for family in [GemmFamily::Register, four, eight, SMALL, LARGE, cooperative, stored] {
            assert_eq!(family.to_string().parse::<GemmFamily>().unwrap(), family);
        }
        for wrong in [
            "cooperative16x32-f32",
            "register-f16",
            "subgroup16",
            "tiled",
            "tiled-huge",
            "cooperative",
            "cooperative16",
            "cooperative16x",
        ] {
            assert!(matches!(wrong.parse::<GemmFamily>(), Err(Error::InvalidArgument { .. })));
        }
    }

    #[test]
    fn software_adapters_use_subgroups_if_they_have_four_lanes() {
        assert_eq!(GemmFamily::choose(&report(true, Some([8, 8]))), GemmFamily::Subgroup { lanes: 8 });
        assert_eq!(GemmFamily::choose(&report(true, Some([4, 4]))), GemmFamily::Subgroup { lanes: 4 });
        assert_eq!(GemmFamily::choose(&report(true, None)), GemmFamily::Register);
        assert_eq!(GemmFamily::choose(&report(true, Some([1, 1]))), GemmFamily::Register);
        assert_eq!(GemmFamily::supported(&report(false, Some([16, 64]))).len(), 4);
        assert_eq!(GemmFamily::supported(&report(true, None)), [GemmFamily::Register, SMALL, LARGE]);
    }

    #[test]
    fn cooperative_family_is_never_the_default_and_respects_limits() {
        let with =
            |cooperative_matrix, subgroup| AdapterReport { cooperative_matrix, ..report(false, subgroup) };
        let of = |cooperative_matrix, subgroup| GemmFamily::cooperative(&with(cooperative_matrix, subgroup));
        let wave = with(Some(16), Some([32, 64]));
        assert_eq!(
            GemmFamily::cooperative(&wave),
            Some(GemmFamily::Cooperative { side: 16, lanes: 64, stored: false })
        );
        assert_eq!(
            of(Some(8), Some([8, 8])),
            Some(GemmFamily::Cooperative { side: 8, lanes: 8, stored: false })
        );
        assert_eq!(of(None, Some([32, 32])), None);
        assert_eq!(of(Some(16), None), None);
        assert_eq!(of(Some(16), Some([128, 128])), None);
        assert_eq!(
            GemmFamily::cooperative(&AdapterReport { max_workgroup_memory: 8192, ..wave.clone() }),
            None
        );
        let family = GemmFamily::Cooperative { side: 16, lanes: 64, stored: false };
        assert!(family.with_stored_operands().is_supported(&wave));
        assert!(family.is_supported(&wave) && !family.is_supported(&with(Some(16), Some([32, 32]))));
        assert!(!GemmFamily::supported(&wave).contains(&family) && GemmFamily::choose(&wave) != family);
    }

    #[test]
    fn hardware_uses_the_largest_tile_within_its_limits() {
        let of = |kind: DeviceKind, max_workgroup_memory: u32, max_invocations: u32| {
            let base = report(false, Some([32, 32]));
            let report = AdapterReport { kind, max_workgroup_memory, max_invocations, ..base };
            assert!(GemmFamily::supported(&report).contains(&GemmFamily::choose(&report)));
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
