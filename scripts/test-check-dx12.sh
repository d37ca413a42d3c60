#!/bin/sh
# Tests check-dx12.sh with fake versions of all programs that it fetches, builds and runs. Nothing is fetched.
set -eu

scripts=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# expect WHAT CODE TEXT COMMAND...: checks the exit code, and that the output matches TEXT.
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

# fake FILE: creates a program from the lines of standard input.
fake() {
    mkdir -p "$(dirname "$1")"
    { echo '#!/bin/sh' && cat; } >"$1"
    chmod +x "$1"
}

check() {
    env PATH="$work/bin:$PATH" CARGO_TARGET_DIR="$work/target" "$@"
}

if unshare --mount --map-root-user true 2>/dev/null; then
    expect "a command in a root keeps working folder and exit code" 5 "^in $PWD, /proc is there" \
        sh "$scripts/in-root.sh" / sh -c '[ -e /proc/self ] && echo "in $PWD, /proc is there"; exit 5'
fi

fake "$work/bin/uname" <<'END'
[ "$1" = -s ] && echo Linux || echo "${MACHINE:-x86_64}"
END
fake "$work/bin/mount" </dev/null
fake "$work/bin/unshare" <<'END'
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
fake "$work/bin/rustc" <<END
echo "$work"
END
fake "$work/bin/x86_64-w64-mingw32-gcc" </dev/null
fake "$work/bin/cargo" <<'END'
release=$CARGO_TARGET_DIR/x86_64-pc-windows-gnu/release
mkdir -p "$release"
: >"$release/frazil.exe"
END
fake "$work/target/dx12/wine/usr/bin/Xvfb" <<'END'
echo 7 >&3
echo $$ >"$HOME/screen"
exec sleep 60
END
fake "$work/target/dx12/wine/usr/lib/x86_64-linux-gnu/wine/wine" <<'END'
echo "on $DISPLAY: $*"
[ "$1" = wineboot ] || { printf '%s\r\n' "$SAYS" && exit $CODE; }
END
: >"$work/target/dx12/wine/unpacked"
: >"$work/compiler.dll"

dx12=$scripts/check-dx12.sh
expect "another architecture" 77 "SKIPPED: .*x86_64 only" check MACHINE=riscv64 sh "$dx12"
expect "a compiler that does not exist" 77 "SKIPPED: D3DCOMPILER=.* does not exist" check D3DCOMPILER="$work/none" sh "$dx12"
export D3DCOMPILER="$work/compiler.dll"
expect "Wine is initialized first" 0 "on :7: wineboot" check SAYS="every kernel agrees with the reference" CODE=0 sh "$dx12"
expect "the compiler is in the folder of the program" 0 "" \
    test -e "$work/target/x86_64-pc-windows-gnu/release/d3dcompiler_47.dll"
expect "the backend is added" 0 "on :7: .*frazil.exe check --family register --backend dx12$" \
    check SAYS='{"done":true,"passed":true}' CODE=0 sh "$dx12" check --family register
expect "a given backend is kept" 0 "frazil.exe train --backend vulkan$" \
    check SAYS="wrote a and b" CODE=0 sh "$dx12" train --backend vulkan
expect "the exit code is that of the program" 3 "frazil.exe inspect file$" \
    check SAYS="no such file" CODE=3 sh "$dx12" inspect file
expect "exit code 0 without the last line is a failure" 1 "without its last line" \
    check SAYS="gemm_register 3 0.5 pass" CODE=0 sh "$dx12"
expect "the X server is stopped" 1 "" kill -0 "$(cat "$work/target/dx12/home/screen")"

exit $((failures > 0))
