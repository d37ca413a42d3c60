#!/bin/sh
# Runs a program on the newest Mesa that Debian has (its unstable branch), without installing anything: the driver and all
# that it needs, from the C library on, are unpacked below DIR, and the program is started with that loader.
#
#   scripts/newest-mesa.sh DIR PROGRAM [ARGUMENT...]
#
# The exit code is the program's; 127 if there is none of that name; 77 if there is no such driver here: no Debian, no
# network, an architecture without a known loader.
set -eu

if [ $# -lt 2 ]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
mkdir -p "$1"
dir=$(cd "$1" && pwd)
shift

unavailable() {
    printf 'newest-mesa: %s\n' "$*" >&2
    exit 77
}

# apt-get with all that it reads and writes below $dir, as if nothing were installed.
apt() {
    timeout 150 apt-get -qq -o Dir::State="$dir/state" -o Dir::State::status="$dir/status" -o Dir::Cache="$dir/cache" \
        -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o APT::Install-Recommends=false -o APT::Sandbox::User=root -o Acquire::Languages=none \
        -o Debug::NoLocking=true "$@"
}

unpack() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || unavailable "no apt-get or no dpkg-deb here"
    # The mirror that this machine uses, whose unstable branch has the same keys.
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN)' | sed -n 's/^\([^ ]*debian\/\) Debian$/\1/p' | head -n 1)
    [ -n "$mirror" ] || unavailable "apt names no mirror of Debian"
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -e "$keys" ] || unavailable "no keys of Debian's archive in $keys"
    rm -rf "$dir/root" "$dir/cache" "$dir/state"
    mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial" "$dir/root"
    : >"$dir/status"
    printf 'deb [signed-by=%s] %s unstable main\n' "$keys" "$mirror" >"$dir/sources.list"
    apt update >&2 || unavailable "the lists of packages cannot be fetched"
    apt -y --download-only install mesa-vulkan-drivers libvulkan1 >&2 || unavailable "the driver cannot be fetched"
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
