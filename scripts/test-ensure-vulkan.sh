#!/bin/sh
# Tests ensure-vulkan.sh with an empty folder instead of / and fake package managers that record their calls. Nothing is
# installed.
set -eu

script=$(cd "$(dirname "$0")" && pwd)/ensure-vulkan.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# machine [SYSTEM [USER]]: sets up an empty machine without package managers; by default Linux, user 0.
machine() {
    rm -rf "$work/bin" "$work/root" "$work/home"
    mkdir -p "$work/bin" "$work/root" "$work/home"
    : >"$work/calls"
    for tool in sh grep env cat mkdir; do ln -s "$(command -v $tool)" "$work/bin/$tool"; done
    stub uname "echo ${1:-Linux}"
    stub id "echo ${2:-0}"
}

# stub NAME BODY: creates a program in the only PATH folder of the machine.
stub() {
    printf '#!/bin/sh\n%s\n' "$2" >"$work/bin/$1"
    chmod +x "$work/bin/$1"
}

# manager NAME [CODE]: creates a package manager that records its arguments, exits from `update` with CODE and installs loader
# and driver.
manager() {
    stub "$1" "echo \"$1 \$*\" >>'$work/calls'
case \" \$* \" in *' update '*) exit ${2:-0} ;; esac
mkdir -p '$work/root/usr/lib64' '$work/root/usr/share/vulkan/icd.d'
: >'$work/root/usr/lib64/libvulkan.so.1'
: >'$work/root/usr/share/vulkan/icd.d/lvp_icd.json'"
}

loader() {
    mkdir -p "$work/root/usr/lib/x86_64-linux-gnu"
    : >"$work/root/usr/lib/x86_64-linux-gnu/libvulkan.so.1"
}

driver() {
    mkdir -p "$1/vulkan/icd.d"
    : >"$1/vulkan/icd.d/some_icd.json"
}

# run [NAME=VALUE...]: runs the script on the machine; exit code in $code, output in $work/output.
run() {
    code=0
    env -i PATH="$work/bin" HOME="$work/home" ENSURE_VULKAN_ROOT="$work/root" "$@" \
        sh "$script" >"$work/output" 2>&1 </dev/null || code=$?
}

# expect WHAT CODE [CALLS]: checks the exit code and the recorded calls, one a line.
expect() {
    if [ "$code" = "$2" ] && [ "$(cat "$work/calls")" = "${3:-}" ]; then
        echo "ok    $1"
        return
    fi
    failures=$((failures + 1))
    echo "FAIL  $1: exit $code, expected $2; calls:"
    cat "$work/calls" "$work/output"
}

says() {
    if ! grep -q "$2" "$work/output"; then
        failures=$((failures + 1))
        echo "FAIL  $1: does not say '$2':"
        cat "$work/output"
    fi
}

silent() {
    if [ -s "$work/output" ]; then
        failures=$((failures + 1))
        echo "FAIL  $1: is not silent:"
        cat "$work/output"
    fi
}

for place in root/usr/share root/etc root/usr/local/share home/.local/share; do
    machine && manager apt-get && loader && driver "$work/$place" && run
    expect "a driver in $place is enough" 0
    silent "a driver in $place"
done

machine && manager apt-get && loader && : >"$work/my.json" && run VK_DRIVER_FILES="/none:$work/my.json"
expect "a driver named in VK_DRIVER_FILES is enough" 0
machine && manager apt-get && loader && run VK_ICD_FILENAMES="$work/my.json"
expect "a driver named in VK_ICD_FILENAMES is enough" 0
machine && manager apt-get && loader && driver "$work/root/etc" && run VK_DRIVER_FILES=/none.json
expect "a named driver that does not exist is an error" 1
says "a named driver that does not exist" "/none.json"

apt_calls="apt-get update
apt-get install -y --no-install-recommends libvulkan1 mesa-vulkan-drivers"
machine && manager apt-get && manager dnf && run
expect "apt-get updates, then installs" 0 "$apt_calls"
says "apt-get" "the loader libvulkan.so.1 and a driver"
says "apt-get" "installing with apt-get: libvulkan1 mesa-vulkan-drivers"
machine && manager apt-get && loader && run
expect "a loader without a driver is not enough" 0 "$apt_calls"
machine && manager apt-get && driver "$work/root/etc" && run
expect "a driver without a loader is not enough" 0 "$apt_calls"

machine && manager apt-get 100 && run
expect "apt-get installs even if one source cannot be updated" 0 "$apt_calls"

machine && manager dnf && run
expect "dnf" 0 "dnf install -y vulkan-loader mesa-vulkan-drivers"
machine && manager pacman && run
expect "pacman" 0 "pacman -Sy --needed --noconfirm vulkan-icd-loader vulkan-swrast"
machine && manager zypper && run
expect "zypper" 0 "zypper --non-interactive install libvulkan1 libvulkan_lvp"
machine && manager apk && run
expect "apk" 0 "apk add vulkan-loader mesa-vulkan-swrast"

machine && run
expect "no package manager is an error" 1
says "no package manager" "by hand"
machine && stub dnf "exit 3" && run
expect "a failed installation is an error" 3
machine && stub dnf "exit 0" && run
expect "an installation without a driver is an error" 1
says "an installation without a driver" "still cannot be found"

machine Linux 1000 && manager dnf && stub sudo "echo \"sudo \$*\" >>'$work/calls'; shift; exec \"\$@\"" && run
expect "a user without root uses sudo, without a prompt" 0 "sudo -n dnf install -y vulkan-loader mesa-vulkan-drivers
dnf install -y vulkan-loader mesa-vulkan-drivers"
machine Linux 1000 && manager dnf && run
expect "a user without root and sudo gets an error" 1
says "a user without root and sudo" "run as root: dnf install"

for system in Darwin MINGW64_NT-10.0 MSYS_NT-10.0; do
    machine "$system" && manager apt-get && run
    expect "nothing happens on $system" 0
    silent "$system"
done

if [ "$failures" != 0 ]; then
    echo "$failures failed"
    exit 1
fi
echo "all passed"
