#!/bin/sh
# Prints the cargo flags of the program with MPI, if it can be built here: on Debian, installs Open MPI and libclang, which the
# bindings need at build time (55 MB), if they are missing. Otherwise prints nothing, and says so on standard error.
set -eu

have() {
    command -v mpirun >/dev/null 2>&1 && command -v mpicc >/dev/null 2>&1 &&
        [ -n "$(find /usr/lib /usr/local/lib /opt -name 'libclang*.so*' -print -quit 2>/dev/null)" ]
}

if ! have && command -v apt-get >/dev/null 2>&1; then
    root=
    if [ "$(id -u)" != 0 ]; then root="sudo -n"; fi
    install() {
        $root timeout 150 apt-get install -qq -y --no-install-recommends libopenmpi-dev openmpi-bin libclang-dev >/dev/null 2>&1
    }
    # The package lists may be missing, as in a container.
    install || { $root timeout 60 apt-get update -qq >/dev/null 2>&1 && install; } || true
fi
if have; then
    echo "--features frazil-cli/mpi"
else
    echo "SKIPPED: the program with MPI: no mpirun, mpicc or libclang (Debian: libopenmpi-dev openmpi-bin libclang-dev)" >&2
fi
