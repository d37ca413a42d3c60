#!/bin/sh
# Makes sure that a Vulkan driver can be found. On a Linux machine without one it installs Mesa's software driver,
# which needs no GPU. Other systems come with Metal or DX12 and are left as they are.
#
# ENSURE_VULKAN_ROOT=DIR looks below DIR in place of /, without asking ldconfig or LD_LIBRARY_PATH (for the script's
# own test).
set -eu

root=${ENSURE_VULKAN_ROOT:-}

say() {
    printf 'ensure-vulkan: %s\n' "$*" >&2
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# The variable by which the user names drivers; the loader then looks nowhere else.
named_drivers=${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}

# True if one of the colon-separated paths exists.
any_exists() (
    set -f
    IFS=:
    for path in $1; do
        if [ -e "$path" ]; then exit 0; fi
    done
    exit 1
)

have_driver() {
    if [ -n "$named_drivers" ]; then
        any_exists "$named_drivers"
        return
    fi
    for folder in "$root/usr/share" "$root/etc" "$root/usr/local/share" "${HOME:-/nonexistent}/.local/share"; do
        for file in "$folder"/vulkan/icd.d/*.json; do
            if [ -e "$file" ]; then return 0; fi
        done
    done
    return 1
}

have_loader() {
    if [ -z "$root" ]; then
        # An ordinary user's PATH often lacks /sbin, where ldconfig is.
        for ldconfig in ldconfig /sbin/ldconfig; do
            if have "$ldconfig" && "$ldconfig" -p 2>/dev/null | grep -q 'libvulkan\.so\.1'; then return 0; fi
        done
        old_ifs=$IFS
        IFS=:
        for folder in ${LD_LIBRARY_PATH:-}; do
            if [ -e "$folder/libvulkan.so.1" ]; then IFS=$old_ifs; return 0; fi
        done
        IFS=$old_ifs
    fi
    for folder in "$root"/usr/lib "$root"/usr/lib64 "$root"/lib "$root"/lib64 "$root"/usr/local/lib \
        "$root"/usr/local/lib64 "$root"/usr/lib/*-linux-* "$root"/lib/*-linux-*; do
        if [ -e "$folder/libvulkan.so.1" ]; then return 0; fi
    done
    return 1
}

# Runs a command as root.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif ! have sudo; then
        say "installing needs root, and there is no sudo; run as root: $*"
        exit 1
    elif [ -t 0 ]; then
        sudo "$@"
    else
        # Nobody is there to type a password: fail rather than wait.
        sudo -n "$@"
    fi
}

announce() {
    say "installing with $1: $2 (the Vulkan loader and Mesa's software driver, so that GPU code runs without a GPU)"
}

if [ "$(uname -s)" != Linux ]; then exit 0; fi

missing=
have_loader || missing="the loader libvulkan.so.1"
have_driver || missing="${missing:+$missing and }a driver (vulkan/icd.d/*.json)"
if [ -z "$missing" ]; then exit 0; fi

if [ -n "$named_drivers" ] && ! have_driver; then
    say "VK_DRIVER_FILES or VK_ICD_FILENAMES names $named_drivers, which does not exist; unset it or correct it"
    exit 1
fi

say "no usable Vulkan here; missing: $missing"
if have apt-get; then
    announce apt-get "libvulkan1 mesa-vulkan-drivers"
    # One broken source among many fails the update; the lists of the others may do.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update || say "apt-get update failed; going on"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        libvulkan1 mesa-vulkan-drivers
elif have dnf; then
    announce dnf "vulkan-loader mesa-vulkan-drivers"
    as_root dnf install -y vulkan-loader mesa-vulkan-drivers
elif have pacman; then
    announce pacman "vulkan-icd-loader vulkan-swrast"
    as_root pacman -Sy --needed --noconfirm vulkan-icd-loader vulkan-swrast
elif have zypper; then
    announce zypper "libvulkan1 libvulkan_lvp"
    as_root zypper --non-interactive install libvulkan1 libvulkan_lvp
elif have apk; then
    announce apk "vulkan-loader mesa-vulkan-swrast"
    as_root apk add vulkan-loader mesa-vulkan-swrast
else
    say "no apt-get, dnf, pacman, zypper or apk here; please install the Vulkan loader and a driver by hand"
    say "(Mesa's software driver is called lavapipe, or swrast)"
    exit 1
fi

if ! have_loader || ! have_driver; then
    say "installed, but the loader or the driver still cannot be found; run 'vulkaninfo' to see why"
    exit 1
fi
say "done"
