#!/bin/sh
# Runs the frazil program for Windows, and so wgpu's DX12, on Linux: a cross-built program under Debian's newest Wine, whose
# Direct3D 12 runs on a software driver for Vulkan. Nothing is installed: all is below target/dx12, some 2 GB.
#
#   scripts/check-dx12.sh [COMMAND [ARGUMENT...]]    frazil's, for example: check --family register
#
# Without a command it is `check`; without `--backend` that is dx12 where the command has a device.
#
# What Windows compiles shaders with, Microsoft's FXC, must be brought: a file d3dcompiler_47.dll (64 bits, of Windows 10 or
# later) that D3DCOMPILER names, or in target/dx12, or on a Windows partition below /mnt or /media. It is on every
# Windows, in System32. This script does not download it: Microsoft lets it be passed on with programs that are built with
# the Windows SDK, and not by itself. Wine's own stand-in lacks what the shaders need.
#
# The exit code is the program's; 77 if something cannot be had here: no such file, no Debian, no network.
set -eu

scripts=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${CARGO_TARGET_DIR:-target}"
target=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)
dir=$target/dx12
mkdir -p "$dir"

say() {
    printf 'check-dx12: %s\n' "$*" >&2
}

unavailable() {
    printf 'SKIPPED: %s\n' "$*" >&2
    exit 77
}

# shellcheck source=scripts/debian.sh
. "$scripts/debian.sh"

find_compiler() {
    [ -z "${D3DCOMPILER:-}" ] || [ -f "$D3DCOMPILER" ] || unavailable "there is no file D3DCOMPILER=$D3DCOMPILER"
    for file in "${D3DCOMPILER:-}" "$dir/d3dcompiler_47.dll" /mnt/Windows/System32/d3dcompiler_47.dll \
        /mnt/*/Windows/System32/d3dcompiler_47.dll /media/*/*/Windows/System32/d3dcompiler_47.dll; do
        [ -f "$file" ] || continue
        say "FXC is $file"
        compiler=$file
        return
    done
    unavailable "no d3dcompiler_47.dll of Microsoft's: name one with D3DCOMPILER=FILE, or copy it into $dir"
}

# The linker for Windows, from the branch of Debian that this machine has, since it runs with this machine's libraries.
find_linker() {
    linker=$(command -v x86_64-w64-mingw32-gcc) && return
    linker=$dir/mingw/usr/bin/x86_64-w64-mingw32-gcc-win32
    tools=$dir/mingw/usr/bin
    [ -e "$dir/mingw/unpacked" ] && return
    branch=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    say "fetching a linker for Windows (56 MB)"
    lists_below "$dir/mingw" "${branch:-unstable}"
    (
        cd "$dir/mingw/cache/archives"
        apt_below "$dir/mingw" 900 download gcc-mingw-w64-x86-64-win32 gcc-mingw-w64-x86-64-win32-runtime \
            gcc-mingw-w64-base binutils-mingw-w64-x86-64 mingw-w64-x86-64-dev mingw-w64-common >&2
    ) || unavailable "the linker cannot be fetched"
    unpack mingw
    [ -x "$linker" ] || unavailable "no $linker in Debian's packages"
    touch "$dir/mingw/unpacked"
}

# unpack FOLDER: all packages that were fetched for it, without what no program reads.
unpack() {
    say "unpacking $1"
    for package in "$dir/$1"/cache/archives/*.deb; do
        # Debian's folders /bin and /lib are links, and must stay such.
        dpkg-deb --fsys-tarfile "$package" |
            tar -x -C "$dir/$1" --keep-directory-symlink --exclude='*/i386-windows*' --exclude='./usr/share/doc/*' \
                --exclude='./usr/share/locale/*' --exclude='./usr/share/man/*' ||
            unavailable "$package cannot be unpacked"
    done
    rm -rf "$dir/$1/cache" "$dir/$1/state"
}

build() {
    library=$(rustc --print target-libdir --target x86_64-pc-windows-gnu 2>/dev/null) || unavailable "no Rust here"
    if [ ! -d "$library" ]; then
        say "adding Rust's standard library for Windows"
        command -v rustup >/dev/null && rustup target add x86_64-pc-windows-gnu >&2 ||
            unavailable "no Rust standard library for x86_64-pc-windows-gnu, and rustup does not bring it"
    fi
    find_linker
    say "building"
    PATH="${tools:+$tools:}$PATH" CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=$linker \
        cargo build --release --quiet --target x86_64-pc-windows-gnu --bin frazil >&2
    program=$target/x86_64-pc-windows-gnu/release/frazil.exe
    # Beside the program Windows, too, looks first.
    beside=$(dirname "$program")/d3dcompiler_47.dll
    cmp -s "$compiler" "$beside" || cp "$compiler" "$beside"
}

# Wine marks its own libraries, and loads no other in their place. Debian marks this one when it is installed.
mark_zlib() {
    library=$dir/wine/usr/x86_64-w64-mingw32/lib/zlib1.dll
    {
        head -c 64 "$library"
        printf 'Wine builtin DLL'
        head -c 16 /dev/zero
        tail -c +97 "$library"
    } >"$dir/wine/usr/lib/x86_64-linux-gnu/wine/x86_64-windows/zlib1.dll"
}

find_wine() {
    [ ! -e "$dir/wine/unpacked" ] || return 0
    say "fetching Wine and a driver (360 MB)"
    mkdir -p "$dir/wine/usr/bin" "$dir/wine/usr/lib" "$dir/wine/usr/lib64" "$dir/wine/usr/sbin"
    for folder in bin lib lib64 sbin; do ln -sfn usr/$folder "$dir/wine/$folder"; done
    lists_below "$dir/wine" unstable
    apt_below "$dir/wine" 1800 -y --download-only install wine64 mesa-vulkan-drivers libvulkan1 xvfb dash >&2 ||
        unavailable "Wine cannot be fetched"
    unpack wine
    mark_zlib
    touch "$dir/wine/unpacked"
}

# Wine's and Windows's files are in a home of their own, and so nothing is left in the user's.
in_wine() {
    export HOME="$dir/home" WINEPREFIX="$dir/home/wine" XDG_RUNTIME_DIR="$dir/home" WINEDEBUG="${WINEDEBUG:--all}"
    export WINEDLLOVERRIDES='d3dcompiler_47=n;mscoree,mshtml,winemenubuilder.exe='
    export VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json
    unset WAYLAND_DISPLAY LD_LIBRARY_PATH LD_PRELOAD VK_ICD_FILENAMES
    exec sh "$scripts/in-root.sh" "$dir/wine" "$@"
}

# A screen that nobody sees: without one Wine has no Vulkan.
open_screen() {
    mkdir -p "$dir/home"
    work=$(mktemp -d)
    screen=
    trap '[ -z "$screen" ] || { kill "$screen" 2>/dev/null; wait "$screen" 2>/dev/null || true; }; rm -rf "$work"' EXIT
    trap 'exit 1' INT TERM
    : >"$work/display"
    in_wine /usr/bin/Xvfb -displayfd 3 -nolisten tcp 3>"$work/display" >"$work/screen" 2>&1 &
    screen=$!
    tries=60
    while [ ! -s "$work/display" ]; do
        tries=$((tries - 1))
        if [ $tries = 0 ] || ! kill -0 $screen 2>/dev/null; then
            unavailable "no screen for Wine: $(tail -n 1 "$work/screen")"
        fi
        sleep 0.5
    done
    DISPLAY=:$(cat "$work/display")
    export DISPLAY
}

# The program, with its output kept. Its exit code is Wine's, but for 0: that is Wine's, too, when its server is killed, or when a
# function that Wine lacks is called. So the last line must be one with which the program ends its work.
run() {
    : >"$work/code"
    { (in_wine "$wine" "$program" "$@") || echo $? >"$work/code"; } | tee "$work/output"
    [ ! -s "$work/code" ] || return "$(cat "$work/code")"
    case $1 in
    check | train)
        # In Windows lines end with a carriage return, too.
        if ! tail -n 1 "$work/output" | grep -q -e '^every kernel agrees' -e '^wrote ' -e '"done":true'; then
            say "the program ended without its last line"
            return 1
        fi
        ;;
    esac
}

[ $# -gt 0 ] || set -- check
case " $* " in
*" --backend "* | *" --backend="* | " devices "* | " inspect "*) ;;
*) set -- "$@" --backend dx12 ;;
esac

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || unavailable "Wine is fetched for Linux on x86_64 alone"
find_compiler
sh "$scripts/in-root.sh" / true || unavailable "no namespaces of mounts, see above"
build
find_wine
open_screen
wine=/usr/lib/x86_64-linux-gnu/wine/wine
if [ ! -e "$dir/home/made" ]; then
    say "making Wine's files"
    (in_wine "$wine" wineboot --init) >&2 || unavailable "Wine does not start"
    touch "$dir/home/made"
fi
run "$@"
