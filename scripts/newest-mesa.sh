#!/bin/sh
# Runs a program on the newest Mesa of Debian (unstable) without installing it: the driver and all of its dependencies,
# including the C library, are unpacked below DIR, and the program is started with the dynamic loader from there.
#
#   scripts/newest-mesa.sh DIR PROGRAM [ARGUMENT...]
#
# The exit code is that of the program; 127 if PROGRAM does not exist; 77 if the driver is not available: no Debian, no
# network, or an architecture with another loader.
set -eu

if [ $# -lt 2 ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
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
    apt_below "$dir" 150 -qq -y --download-only install mesa-vulkan-drivers libvulkan1 >&2 ||
        unavailable "the driver cannot be fetched"
    for package in "$dir"/cache/archives/*.deb; do
        dpkg-deb --extract "$package" "$dir/root" || unavailable "$package cannot be unpacked"
    done
    rm -rf "$dir/cache" "$dir/state"
    touch "$dir/unpacked"
}

[ -e "$dir/unpacked" ] || unpack

driver=$(find "$dir/root/usr/share/vulkan/icd.d" -name 'lvp_icd*.json' | head -n 1)
folder=$(dirname "$(find "$dir/root/usr/lib" -name libvulkan_lvp.so | head -n 1)")
loader=$(find "$dir/root/usr/lib" -name 'ld-linux-*.so.*' | head -n 1)
[ -n "$driver" ] && [ -n "$loader" ] || unavailable "no software driver or no loader in $dir/root"
if ! program=$(command -v "$1"); then
    printf 'newest-mesa: no program %s\n' "$1" >&2
    exit 127
fi
shift
VK_DRIVER_FILES=$driver exec "$loader" --library-path "$folder" "$program" "$@"
