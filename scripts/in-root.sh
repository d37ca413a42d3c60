#!/bin/sh
# Runs a command with the programs and libraries that are unpacked below ROOT, and all else where it is on this machine.
#
#   scripts/in-root.sh ROOT COMMAND [ARGUMENT...]
#
# What is mounted for that is seen by the command alone, and ends with it. Who is not root needs a kernel that lets users have
# namespaces. The exit code is the command's; 77 if this machine forbids it.
set -eu

if [ $# -lt 2 ]; then
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi

if [ "${IN_ROOT_MOUNTS:-}" != own ]; then
    user=--map-root-user
    [ "$(id -u)" != 0 ] || user=
    if ! unshare --mount $user true 2>/dev/null; then
        echo "in-root: this machine forbids namespaces of mounts (a container may need the right to mount)" >&2
        exit 77
    fi
    IN_ROOT_MOUNTS=own exec unshare --mount $user sh "$0" "$@"
fi

unset IN_ROOT_MOUNTS
root=$(cd "$1" && pwd)
shift
for folder in /*; do
    case $folder in
    /bin | /etc | /lib* | /sbin | /usr) continue ;;
    esac
    if [ -d "$folder" ] && [ ! -h "$folder" ]; then
        mkdir -p "$root$folder"
        mount --rbind "$folder" "$root$folder"
    fi
done
exec unshare --root="$root" --wd="$PWD" "$@"
