#!/bin/sh
# Ensures that a Vulkan driver is available. On a Linux machine without one, installs Mesa's software driver, which needs no
# GPU. Does nothing on other systems, which have Metal or DX12.
#
# ENSURE_VULKAN_ROOT=DIR searches below DIR instead of /, without ldconfig and LD_LIBRARY_PATH (for the test of this script).
set -eu

root=${ENSURE_VULKAN_ROOT:-}

say() {
    printf 'ensure-vulkan: %s\n' "$*" >&2
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# Drivers that the user has set; the loader then uses no others.
named_drivers=${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}

# Whether one of the colon-separated paths exists.
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
        # ldconfig is in /sbin, which is often not in the PATH.
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
        say "installation requires root, and sudo is not available; run as root: $*"
        exit 1
    elif [ -t 0 ]; then
        sudo "$@"
    else
        # Not interactive: fail instead of waiting for a password.
        sudo -n "$@"
    fi
}

announce() {
    say "installing with $1: $2 (the Vulkan loader and Mesa's software driver, to run without a GPU)"
}

if [ "$(uname -s)" != Linux ]; then exit 0; fi

missing=
have_loader || missing="the loader libvulkan.so.1"
have_driver || missing="${missing:+$missing and }a driver (vulkan/icd.d/*.json)"
if [ -z "$missing" ]; then exit 0; fi

if [ -n "$named_drivers" ] && ! have_driver; then
    say "VK_DRIVER_FILES or VK_ICD_FILENAMES is $named_drivers, which does not exist; unset or correct it"
    exit 1
fi

say "no usable Vulkan; missing: $missing"
if have apt-get; then
    announce apt-get "libvulkan1 mesa-vulkan-drivers"
    # A single broken source fails the update; the lists of the others may suffice.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update || say "apt-get update failed; continuing"
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
    say "no apt-get, dnf, pacman, zypper or apk; please install the Vulkan loader and a driver by hand"
    say "(Mesa's software driver is called lavapipe, or swrast)"
    exit 1
fi

if ! have_loader || ! have_driver; then
    say "installed, but the loader or the driver still cannot be found; see the output of 'vulkaninfo'"
    exit 1
fi
say "done"
