//! Structs that are shared by Rust and WGSL: declared in Rust, from which the WGSL declaration is generated.

/// Member of a shared struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name in both languages.
    pub name: &'static str,
    /// WGSL type.
    pub ty: &'static str,
    /// Offset in bytes from the beginning of the struct.
    pub offset: usize,
}

/// A type with the same bytes in Rust and in WGSL uniform and storage buffers.
pub(crate) trait WgslType {
    const NAME: &'static str;
}

impl WgslType for u32 {
    const NAME: &'static str = "u32";
}

impl WgslType for f32 {
    const NAME: &'static str = "f32";
}

/// A `u32` that shaders access atomically.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
pub(crate) struct AtomicWord(u32);

impl WgslType for AtomicWord {
    const NAME: &'static str = "atomic<u32>";
}

impl WgslType for [u32; 2] {
    const NAME: &'static str = "vec2<u32>";
}

impl WgslType for [[u32; 4]; 256] {
    const NAME: &'static str = "array<vec4<u32>, 256>";
}

impl WgslType for [[f32; 4]; 12] {
    const NAME: &'static str = "array<vec4<f32>, 12>";
}

/// A struct declared by [`params!`].
pub(crate) trait WgslStruct: bytemuck::Pod {
    /// Members in order.
    const FIELDS: &'static [Field];
}

/// Declares a `#[repr(C)]` struct of numbers, and the list of its members for [`declaration`].
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

/// WGSL declaration of a struct.
pub(crate) fn declaration(name: &str, fields: &[Field]) -> String {
    let members: String = fields.iter().map(|f| format!("    {}: {},\n", f.name, f.ty)).collect();
    format!("struct {name} {{\n{members}}}\n")
}
