#!/bin/sh
# Tests check-dx12.sh with stand-ins for all that it fetches, builds and runs. Nothing is fetched.
set -eu

scripts=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# expect WHAT CODE TEXT COMMAND...: the exit code, and a text in the output.
expect() {
    what=$1 want=$2 text=$3
    shift 3
    code=0
    "$@" >"$work/output" 2>&1 </dev/null || code=$?
    if [ "$code" = "$want" ] && { [ -z "$text" ] || grep -q -e "$text" "$work/output"; }; then
        echo "ok    $what"
        return
    fi
    failures=$((failures + 1))
    echo "FAIL  $what: exit $code, expected $want and '$text'; output:"
    cat "$work/output"
}

# stand_in FILE: a program of the lines of standard input.
stand_in() {
    mkdir -p "$(dirname "$1")"
    { echo '#!/bin/sh' && cat; } >"$1"
    chmod +x "$1"
}

check() {
    env PATH="$work/bin:$PATH" CARGO_TARGET_DIR="$work/target" "$@"
}

if unshare --mount --map-root-user true 2>/dev/null; then
    expect "a command in a root has its folder and its exit code" 5 "^in $PWD, /proc is there" \
        sh "$scripts/in-root.sh" / sh -c '[ -e /proc/self ] && echo "in $PWD, /proc is there"; exit 5'
fi

stand_in "$work/bin/uname" <<'END'
[ "$1" = -s ] && echo Linux || echo "${MACHINE:-x86_64}"
END
stand_in "$work/bin/mount" </dev/null
stand_in "$work/bin/unshare" <<'END'
root=
while :; do
    case $1 in
    --root=*) root=${1#--root=} ;;
    --*) ;;
    *) break ;;
    esac
    shift
done
[ "$1" != true ] || exit 0
program=$root$1
shift
exec "$program" "$@"
END
stand_in "$work/bin/rustc" <<END
echo "$work"
END
stand_in "$work/bin/x86_64-w64-mingw32-gcc" </dev/null
stand_in "$work/bin/cargo" <<'END'
release=$CARGO_TARGET_DIR/x86_64-pc-windows-gnu/release
mkdir -p "$release"
: >"$release/frazil.exe"
END
stand_in "$work/target/dx12/wine/usr/bin/Xvfb" <<'END'
echo 7 >&3
echo $$ >"$HOME/screen"
exec sleep 60
END
stand_in "$work/target/dx12/wine/usr/lib/x86_64-linux-gnu/wine/wine" <<'END'
echo "on $DISPLAY: $*"
[ "$1" = wineboot ] || { printf '%s\r\n' "$SAYS" && exit $CODE; }
END
: >"$work/target/dx12/wine/unpacked"
: >"$work/compiler.dll"

dx12=$scripts/check-dx12.sh
expect "no x86_64" 77 "SKIPPED: .*x86_64 alone" check MACHINE=riscv64 sh "$dx12"
expect "a compiler that is not there" 77 "SKIPPED: there is no file" check D3DCOMPILER="$work/none" sh "$dx12"
export D3DCOMPILER="$work/compiler.dll"
expect "Wine is started first" 0 "on :7: wineboot" check SAYS="every kernel agrees with the reference" CODE=0 sh "$dx12"
expect "the compiler is beside the program" 0 "" \
    test -e "$work/target/x86_64-pc-windows-gnu/release/d3dcompiler_47.dll"
expect "the backend is added" 0 "on :7: .*frazil.exe check --family register --backend dx12$" \
    check SAYS='{"done":true,"passed":true}' CODE=0 sh "$dx12" check --family register
expect "a backend stays" 0 "frazil.exe train --backend vulkan$" \
    check SAYS="wrote a and b" CODE=0 sh "$dx12" train --backend vulkan
expect "the exit code is the program's" 3 "frazil.exe inspect file$" \
    check SAYS="no such file" CODE=3 sh "$dx12" inspect file
expect "success without the last line is none" 1 "without its last line" \
    check SAYS="gemm_register 3 0.5 pass" CODE=0 sh "$dx12"
expect "the screen is closed" 1 "" kill -0 "$(cat "$work/target/dx12/home/screen")"

exit $((failures > 0))
