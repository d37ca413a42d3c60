#!/bin/sh
# Tests newest-mesa.sh without its prerequisites, and with an existing driver folder. Nothing is fetched.
set -eu

script=$(cd "$(dirname "$0")" && pwd)/newest-mesa.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# expect WHAT CODE TEXT COMMAND...: checks the exit code, and that the output matches TEXT.
expect() {
    what=$1 want=$2 text=$3
    shift 3
    code=0
    "$@" >"$work/output" 2>&1 </dev/null || code=$?
    if [ "$code" = "$want" ] && grep -q -e "$text" "$work/output"; then
        echo "ok    $what"
        return
    fi
    failures=$((failures + 1))
    echo "FAIL  $what: exit $code, expected $want and '$text'; output:"
    cat "$work/output"
}

expect "usage without a program" 2 "DIR PROGRAM" sh "$script" "$work/none"

mkdir "$work/bin"
for tool in sh mkdir dirname find head sed printf; do ln -s "$(command -v $tool)" "$work/bin/$tool"; done
expect "no driver without apt-get" 77 "no apt-get" env PATH="$work/bin" sh "$script" "$work/none" true

# A driver, and a loader that prints its arguments.
root=$work/there/root
mkdir -p "$root/usr/share/vulkan/icd.d" "$root/usr/lib/some-linux"
: >"$work/there/unpacked"
: >"$root/usr/share/vulkan/icd.d/lvp_icd.json"
expect "an incomplete driver" 77 "no driver lvp" sh "$script" "$work/there" true
: >"$root/usr/lib/some-linux/libvulkan_lvp.so"
printf '#!/bin/sh\necho "$VK_DRIVER_FILES" "$@"\nexit 3\n' >"$root/usr/lib/some-linux/ld-linux-some.so.1"
chmod +x "$root/usr/lib/some-linux/ld-linux-some.so.1"
expect "the exit code is that of the program" 3 "lvp_icd.json --library-path $root/usr/lib/some-linux .*true one two" \
    sh "$script" "$work/there" true one two
expect "a program that does not exist" 127 "no program" sh "$script" "$work/there" no-such-program

# A driver of a GPU that does not exist.
fake=$work/fake/root
mkdir -p "$work/fake"
cp -R "$work/there/." "$work/fake"
: >"$fake/usr/lib/some-linux/libamdgpu_noop_drm_shim.so"
expect "a fake GPU without a driver" 77 "no driver radeon" env FAKE_GPU=navi31 sh "$script" "$work/fake" true
: >"$fake/usr/share/vulkan/icd.d/radeon_icd.json"
: >"$fake/usr/lib/some-linux/libvulkan_radeon.so"
expect "a fake GPU" 3 "radeon_icd.json --preload .*/libamdgpu_noop_drm_shim.so --library-path .*true one" \
    env FAKE_GPU=navi31 sh "$script" "$work/fake" true one
expect "the software driver without drm-shim" 3 "lvp_icd.json --library-path .*true one" sh "$script" "$work/fake" true one
expect "an unknown fake GPU" 2 "got voodoo2" env FAKE_GPU=voodoo2 sh "$script" "$work/fake" true
: >"$fake/usr/share/vulkan/icd.d/asahi_icd.json"
: >"$fake/usr/lib/some-linux/libvulkan_asahi.so"
expect "a fake GPU without its drm-shim" 77 "no .*libasahi_noop_drm_shim.so" env FAKE_GPU=m1 sh "$script" "$work/fake" true
expect "an earlier folder without drm-shim is fetched again" 77 "no apt-get" \
    env PATH="$work/bin" FAKE_GPU=navi31 sh "$script" "$work/there" true

exit $((failures > 0))
