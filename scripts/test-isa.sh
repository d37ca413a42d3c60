#!/bin/sh
# Tests isa.sh with a driver folder that exists, and a program that only pretends to measure. Nothing is fetched.
set -eu

script=$(cd "$(dirname "$0")" && pwd)/isa.sh
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

expect "usage without arguments" 2 "check DIR PROGRAM RESULTS" sh "$script"

# Drivers, and a loader that runs the program that it is given.
lib=$work/mesa/root/usr/lib/some-linux
icd=$work/mesa/root/usr/share/vulkan/icd.d
mkdir -p "$lib" "$icd"
: >"$work/mesa/unpacked"
for name in radeon nouveau asahi freedreno; do
    : >"$icd/${name}_icd.json"
    : >"$lib/libvulkan_$name.so"
done
for shim in amdgpu nouveau asahi freedreno; do : >"$lib/lib${shim}_noop_drm_shim.so"; done
printf '#!/bin/sh\nshift 4\nexec "$@"\n' >"$lib/ld-linux-some.so.1"
chmod +x "$lib/ld-linux-some.so.1"

# program CODE: a program whose `measure` checks its environment and exits with CODE for m1.
program() {
    cat >"$work/program" <<END
#!/bin/sh
if [ "\$1" = measure ]; then
    [ "\$MESA_SHADER_CACHE_DISABLE" = true ] || exit 3
    [ "\$2" != m1 ] || [ $1 = 0 ] || { echo "broken driver"; exit $1; }
    echo "\$2" >"\$3"
    exit 0
fi
echo "\$1 \$2:" \$(shift 2 && cat "\$@")
[ "\$1" = update ] || exit 1
END
    chmod +x "$work/program"
}

program 0
expect "the exit code of check, with the results of all GPUs" 1 "^check results: navi31 navi21 nvk m1 a740$" \
    sh "$script" check "$work/mesa" "$work/program" results
expect "update" 0 "^update results: navi31 navi21 nvk m1 a740$" sh "$script" update "$work/mesa" "$work/program" results
program 1
expect "a driver that fails is not a worse figure" 2 "broken driver" sh "$script" check "$work/mesa" "$work/program" results
program 0
rm "$lib/libasahi_noop_drm_shim.so"
expect "no drm-shim" 77 "no .*libasahi_noop_drm_shim.so" sh "$script" check "$work/mesa" "$work/program" results

exit $((failures > 0))
