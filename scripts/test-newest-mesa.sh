#!/bin/sh
# Tests newest-mesa.sh where it can do nothing, and with a driver folder that is there already. Nothing is fetched.
set -eu

script=$(cd "$(dirname "$0")" && pwd)/newest-mesa.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# expect WHAT CODE TEXT COMMAND...: the exit code, and a text in the output.
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

expect "without a program it says how it is called" 2 "DIR PROGRAM" sh "$script" "$work/none"

mkdir "$work/bin"
for tool in sh mkdir dirname find head sed printf; do ln -s "$(command -v $tool)" "$work/bin/$tool"; done
expect "without apt-get there is no driver" 77 "no apt-get" env PATH="$work/bin" sh "$script" "$work/none" true

# A driver, and a loader that says what it was told.
root=$work/there/root
mkdir -p "$root/usr/share/vulkan/icd.d" "$root/usr/lib/some-linux"
: >"$work/there/unpacked"
: >"$root/usr/share/vulkan/icd.d/lvp_icd.json"
expect "half a driver is none" 77 "no software driver" sh "$script" "$work/there" true
: >"$root/usr/lib/some-linux/libvulkan_lvp.so"
printf '#!/bin/sh\necho "$VK_DRIVER_FILES" "$@"\nexit 3\n' >"$root/usr/lib/some-linux/ld-linux-some.so.1"
chmod +x "$root/usr/lib/some-linux/ld-linux-some.so.1"
expect "the exit code is the program's" 3 "lvp_icd.json --library-path $root/usr/lib/some-linux .*true one two" \
    sh "$script" "$work/there" true one two
expect "a program that is not there" 127 "no program" sh "$script" "$work/there" no-such-program

exit $((failures > 0))
