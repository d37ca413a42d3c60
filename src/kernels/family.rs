//! Which way of multiplying matrices suits an adapter: a pure function of its report.

use crate::error::{Error, Result};
use crate::gpu::AdapterReport;

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
}

impl GemmFamily {
    /// The family for an adapter.
    pub fn choose(report: &AdapterReport) -> Self {
        match Self::subgroup(report) {
            // On processors the vector unit is the subgroup, and sharing saves its scalar loads.
            Some(family) if report.software => family,
            _ => GemmFamily::Register,
        }
    }

    /// Reads `register`, `subgroup4` or `subgroup8`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "register" => Ok(GemmFamily::Register),
            "subgroup4" => Ok(GemmFamily::Subgroup { lanes: 4 }),
            "subgroup8" => Ok(GemmFamily::Subgroup { lanes: 8 }),
            _ => Err(Error::argument("gemm family", "register, subgroup4 or subgroup8", text)),
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
        }
    }

    /// Every family that is worth running on this adapter.
    pub fn legal(report: &AdapterReport) -> Vec<Self> {
        std::iter::once(GemmFamily::Register).chain(Self::subgroup(report)).collect()
    }
}

impl std::fmt::Display for GemmFamily {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GemmFamily::Register => f.write_str("register"),
            GemmFamily::Subgroup { lanes } => write!(f, "subgroup{lanes}"),
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

    #[test]
    fn a_family_is_read_as_it_is_written() {
        for family in
            [GemmFamily::Register, GemmFamily::Subgroup { lanes: 4 }, GemmFamily::Subgroup { lanes: 8 }]
        {
            assert_eq!(GemmFamily::parse(&family.to_string()).unwrap(), family);
        }
        assert!(matches!(GemmFamily::parse("subgroup16"), Err(Error::InvalidArgument { .. })));
    }

    #[test]
    fn families_follow_the_report() {
        assert_eq!(GemmFamily::choose(&report(true, Some([8, 8]))), GemmFamily::Subgroup { lanes: 8 });
        assert_eq!(GemmFamily::choose(&report(true, Some([4, 4]))), GemmFamily::Subgroup { lanes: 4 });
        assert_eq!(GemmFamily::choose(&report(true, None)), GemmFamily::Register);
        assert_eq!(GemmFamily::choose(&report(true, Some([1, 1]))), GemmFamily::Register);
        assert_eq!(GemmFamily::choose(&report(false, Some([32, 32]))), GemmFamily::Register);
        assert_eq!(GemmFamily::legal(&report(false, Some([16, 64]))).len(), 2);
    }
}
