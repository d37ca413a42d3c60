#!/bin/sh
# Compiles Frazil's kernels with Mesa's drivers for GPUs that need not exist, and compares registers, spills, occupancy and the
# instructions of the main loops with the committed results.
#
#   scripts/isa.sh check DIR PROGRAM RESULTS     fails if a figure is worse than in RESULTS
#   scripts/isa.sh update DIR PROGRAM RESULTS    replaces RESULTS
#
# PROGRAM is frazil-isa (benches/isa), DIR the folder of newest-mesa.sh. With ASSEMBLY=FOLDER, the assembly of each kernel is
# written below FOLDER.
#
# Exit codes: 0; 1 if a figure is worse; 77 if Mesa is not available; any other if PROGRAM fails.
set -eu

if [ $# != 4 ]; then
    sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
scripts=$(cd "$(dirname "$0")" && pwd)
command=$1 dir=$2 program=$3 results=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# measure GPU: writes the results of a GPU. Compiled shaders of the driver's cache have no statistics.
measure() {
    code=0
    FAKE_GPU=$1 MESA_SHADER_CACHE_DISABLE=true sh "$scripts/newest-mesa.sh" "$dir" "$program" measure "$1" "$work/$1.json" \
        ${ASSEMBLY:+"$ASSEMBLY/$1"} >"$work/$1.log" 2>&1 || code=$?
    echo "$code" >"$work/$1.code"
}

# The first GPU unpacks the drivers. Of the others, two at a time.
measure navi31
for pair in "nvk navi21" "a740 m1"; do
    for gpu in $pair; do measure "$gpu" & done
    wait
done

set --
for gpu in navi31 navi21 nvk m1 a740; do
    code=$(cat "$work/$gpu.code")
    if [ "$code" = 77 ]; then
        tail -n 1 "$work/$gpu.log" >&2
        exit 77
    fi
    if [ "$code" != 0 ]; then
        printf 'isa: %s failed with exit code %s\n' "$gpu" "$code" >&2
        cat "$work/$gpu.log" >&2
        # Not 77, which means that something is missing, and not 1, which means that a figure is worse.
        exit 2
    fi
    set -- "$@" "$work/$gpu.json"
done
"$program" "$command" "$results" "$@"
