#!/bin/sh
# Runs the Windows build of frazil, and with it wgpu's DX12 backend, on Linux: cross-compiled, under the newest Wine of
# Debian, whose Direct3D 12 runs on a software Vulkan driver. Nothing is installed: all files are in target/dx12, about 2 GB.
#
#   scripts/check-dx12.sh [COMMAND [ARGUMENT...]]    arguments of frazil, for example: check --family register
#
# The default command is `check`; the default of `--backend` is dx12 for commands that use a device.
#
# The user must provide Microsoft's shader compiler FXC: a 64-bit d3dcompiler_47.dll of Windows 10 or later, given by
# D3DCOMPILER, in target/dx12, or on a Windows partition below /mnt or /media. Every Windows has it in System32. This
# script does not download it: its licence permits redistribution with programs built with the Windows SDK only. The
# replacement in Wine lacks features that the shaders need.
#
# The exit code is that of the program; 77 if a prerequisite is not available: FXC, Debian or the network.
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
    [ -z "${D3DCOMPILER:-}" ] || [ -f "$D3DCOMPILER" ] || unavailable "D3DCOMPILER=$D3DCOMPILER does not exist"
    for file in "${D3DCOMPILER:-}" "$dir/d3dcompiler_47.dll" /mnt/Windows/System32/d3dcompiler_47.dll \
        /mnt/*/Windows/System32/d3dcompiler_47.dll /media/*/*/Windows/System32/d3dcompiler_47.dll; do
        [ -f "$file" ] || continue
        say "FXC is $file"
        compiler=$file
        return
    done
    unavailable "no d3dcompiler_47.dll of Microsoft: set D3DCOMPILER=FILE, or copy it to $dir"
}

# The linker for Windows, from the Debian release of this machine, as it uses the libraries of this machine.
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
    [ -x "$linker" ] || unavailable "the Debian packages have no $linker"
    touch "$dir/mingw/unpacked"
}

# unpack FOLDER: unpacks all packages fetched for FOLDER, without documentation and translations.
unpack() {
    say "unpacking $1"
    for package in "$dir/$1"/cache/archives/*.deb; do
        # /bin and /lib are links in Debian and must remain links.
        dpkg-deb --fsys-tarfile "$package" |
            tar -x -C "$dir/$1" --keep-directory-symlink --exclude='*/i386-windows*' --exclude='./usr/share/doc/*' \
                --exclude='./usr/share/locale/*' --exclude='./usr/share/man/*' ||
            unavailable "$package cannot be unpacked"
    done
    rm -rf "$dir/$1/cache" "$dir/$1/state"
}

build() {
    library=$(rustc --print target-libdir --target x86_64-pc-windows-gnu 2>/dev/null) || unavailable "rustc not found"
    if [ ! -d "$library" ]; then
        say "adding the Rust standard library for Windows"
        command -v rustup >/dev/null && rustup target add x86_64-pc-windows-gnu >&2 ||
            unavailable "no Rust standard library for x86_64-pc-windows-gnu, and rustup cannot add it"
    fi
    find_linker
    say "building"
    PATH="${tools:+$tools:}$PATH" CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=$linker \
        cargo build --release --quiet --target x86_64-pc-windows-gnu --bin frazil >&2
    program=$target/x86_64-pc-windows-gnu/release/frazil.exe
    # Windows searches the folder of the program first.
    copy=$(dirname "$program")/d3dcompiler_47.dll
    cmp -s "$compiler" "$copy" || cp "$compiler" "$copy"
}

# Wine loads a built-in library only with its marker in the file. For zlib1.dll, Debian adds the marker at installation.
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

# Runs a command with a separate home folder, so that Wine writes nothing to that of the user.
in_wine() {
    export HOME="$dir/home" WINEPREFIX="$dir/home/wine" XDG_RUNTIME_DIR="$dir/home" WINEDEBUG="${WINEDEBUG:--all}"
    export WINEDLLOVERRIDES='d3dcompiler_47=n;mscoree,mshtml,winemenubuilder.exe='
    export VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.json
    unset WAYLAND_DISPLAY LD_LIBRARY_PATH LD_PRELOAD VK_ICD_FILENAMES
    exec sh "$scripts/in-root.sh" "$dir/wine" "$@"
}

# Starts a virtual X server: without a display Wine has no Vulkan.
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
            unavailable "no display for Wine: $(tail -n 1 "$work/screen")"
        fi
        sleep 0.5
    done
    DISPLAY=:$(cat "$work/display")
    export DISPLAY
}

# Runs the program and keeps its output. Wine passes its exit code on, but also exits with 0 if its server is killed or a
# missing function is called. For exit code 0 the last line must therefore be the one that the program ends with.
run() {
    : >"$work/code"
    { (in_wine "$wine" "$program" "$@") || echo $? >"$work/code"; } | tee "$work/output"
    [ ! -s "$work/code" ] || return "$(cat "$work/code")"
    case $1 in
    check | train)
        # Lines may end with a carriage return.
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

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || unavailable "Wine is available for Linux on x86_64 only"
find_compiler
sh "$scripts/in-root.sh" / true || unavailable "no mount namespaces, see above"
build
find_wine
open_screen
wine=/usr/lib/x86_64-linux-gnu/wine/wine
if [ ! -e "$dir/home/made" ]; then
    say "creating the Wine prefix"
    (in_wine "$wine" wineboot --init) >&2 || unavailable "Wine does not start"
    touch "$dir/home/made"
fi
run "$@"
