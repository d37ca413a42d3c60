#!/bin/sh
# Runs a program on the newest Mesa of Debian (unstable) without installing it: the driver and all of its dependencies,
# including the C library, are unpacked below DIR, and the program is started with the dynamic loader from there.
#
#   scripts/newest-mesa.sh DIR PROGRAM [ARGUMENT...]
#   FAKE_GPU=navi31 scripts/newest-mesa.sh DIR PROGRAM [ARGUMENT...]
#
# The driver is the software driver, or with FAKE_GPU that of a GPU which need not exist: Mesa's drm-shim stands in for its
# kernel driver. Shaders are compiled for it, but nothing runs. FAKE_GPU is navi31 or navi21 (AMD), nvk (NVIDIA), m1 (Apple) or
# a740 (Qualcomm).
#
# The exit code is that of the program; 127 if PROGRAM does not exist; 77 if the driver is not available: no Debian, no
# network, or an architecture with another loader.
set -eu

if [ $# -lt 2 ]; then
    sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
scripts=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift

unavailable() {
    printf 'newest-mesa: %s\n' "$*" >&2
    exit 77
}

# shellcheck source=scripts/debian.sh
. "$scripts/debian.sh"

unpack() {
    lists_below "$dir" unstable
    rm -rf "$dir/root"
    mkdir -p "$dir/root"
    apt_below "$dir" 150 -qq -y --download-only install mesa-vulkan-drivers libvulkan1 mesa-drm-shim >&2 ||
        unavailable "the driver cannot be fetched"
    for package in "$dir"/cache/archives/*.deb; do
        dpkg-deb --extract "$package" "$dir/root" || unavailable "$package cannot be unpacked"
    done
    rm -rf "$dir/cache" "$dir/state"
    touch "$dir/unpacked"
}

# Folders of earlier versions lack drm-shim.
[ -e "$dir/unpacked" ] && { [ -z "${FAKE_GPU:-}" ] || [ -n "$(find "$dir/root/usr/lib" -name '*_drm_shim.so')" ]; } || unpack

case ${FAKE_GPU:-} in
'') name=lvp shim= ;;
navi*) name=radeon shim=amdgpu AMDGPU_GPU_ID=$FAKE_GPU && export AMDGPU_GPU_ID ;;
nvk) name=nouveau shim=nouveau NOUVEAU_CHIPSET=194 && export NOUVEAU_CHIPSET ;;
m1) name=asahi shim=asahi ;;
a740) name=freedreno shim=freedreno FD_GPU_ID=740 && export FD_GPU_ID ;;
*)
    printf 'newest-mesa: expected FAKE_GPU=navi31, navi21, nvk, m1 or a740, got %s\n' "$FAKE_GPU" >&2
    exit 2
    ;;
esac
driver=$(find "$dir/root/usr/share/vulkan/icd.d" -name "${name}_icd*.json" | head -n 1)
loader=$(find "$dir/root/usr/lib" -name 'ld-linux-*.so.*' | head -n 1)
folder=$(dirname "$(find "$dir/root/usr/lib" -name "libvulkan_$name.so" | head -n 1)")
[ -n "$driver" ] && [ -n "$loader" ] || unavailable "no driver $name or no loader in $dir/root"
preload=
if [ -n "$shim" ]; then
    preload=$folder/lib${shim}_noop_drm_shim.so
    [ -e "$preload" ] || unavailable "no $preload"
fi
if ! program=$(command -v "$1"); then
    printf 'newest-mesa: no program %s\n' "$1" >&2
    exit 127
fi
shift
VK_DRIVER_FILES=$driver exec "$loader" ${preload:+--preload "$preload"} --library-path "$folder" "$program" "$@"
