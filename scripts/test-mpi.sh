#!/bin/sh
# Builds the program with MPI and tests it with several processes on this machine. On Debian, installs Open MPI and libclang,
# which the bindings need at build time (55 MB), if they are missing.
#
# Exit codes: 0; 77 if MPI is not available; any other if a test fails.
set -eu
cd "$(dirname "$0")/.."

have() {
    command -v mpirun >/dev/null 2>&1 && command -v mpicc >/dev/null 2>&1 &&
        [ -n "$(find /usr/lib /usr/local/lib /opt -name 'libclang*.so*' -print -quit 2>/dev/null)" ]
}

if ! have && command -v apt-get >/dev/null 2>&1; then
    root=
    if [ "$(id -u)" != 0 ]; then root="sudo -n"; fi
    $root timeout 150 apt-get install -qq -y --no-install-recommends libopenmpi-dev openmpi-bin libclang-dev >/dev/null 2>&1 ||
        true
fi
if ! have; then
    echo "test-mpi: no mpirun, mpicc or libclang (Debian: libopenmpi-dev openmpi-bin libclang-dev)" >&2
    exit 77
fi
# Programs of the other packages keep their build without MPI.
exec cargo test --release --workspace --features frazil-cli/mpi --test program mpi:: -- --test-threads 1
