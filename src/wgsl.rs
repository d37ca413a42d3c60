//! Structs that Rust and WGSL share, declared once.

/// A member of a shared struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, in both languages.
    pub name: &'static str,
    /// Its type in WGSL.
    pub ty: &'static str,
    /// Bytes from the beginning of the struct.
    pub offset: usize,
}

/// A type whose bytes are the same in WGSL's uniform and storage buffers.
pub(crate) trait WgslType {
    const NAME: &'static str;
}

impl WgslType for u32 {
    const NAME: &'static str = "u32";
}

impl WgslType for f32 {
    const NAME: &'static str = "f32";
}

impl WgslType for [u32; 2] {
    const NAME: &'static str = "vec2<u32>";
}

/// A struct that [`params!`] declares.
pub(crate) trait WgslStruct: bytemuck::Pod {
    /// Its members, in order.
    const FIELDS: &'static [Field];
}

/// Declares a struct of numbers with C's layout, and its members for [`declaration`].
macro_rules! params {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            $($(#[$member_attribute:meta])* $member_visibility:vis $member:ident: $ty:ty,)*
        }
    ) => {
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
        $(#[$attribute])*
        $visibility struct $name {
            $($(#[$member_attribute])* $member_visibility $member: $ty,)*
        }

        impl $crate::wgsl::WgslStruct for $name {
            const FIELDS: &'static [$crate::wgsl::Field] = &[$($crate::wgsl::Field {
                name: stringify!($member),
                ty: <$ty as $crate::wgsl::WgslType>::NAME,
                offset: std::mem::offset_of!($name, $member),
            }),*];
        }
    };
}
pub(crate) use params;

/// The struct in WGSL.
pub(crate) fn declaration(name: &str, fields: &[Field]) -> String {
    let members: String = fields.iter().map(|f| format!("    {}: {},\n", f.name, f.ty)).collect();
    format!("struct {name} {{\n{members}}}\n")
}
