#!/bin/sh
# Runs a command with the programs and libraries below ROOT; all other folders are those of this machine.
#
#   scripts/in-root.sh ROOT COMMAND [ARGUMENT...]
#
# The mounts are visible to the command only and end with it. Without root, the kernel must permit user namespaces. The exit
# code is that of the command; 77 if mount namespaces are not permitted.
set -eu

if [ $# -lt 2 ]; then
    sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi

if [ "${IN_ROOT_MOUNTS:-}" != own ]; then
    user=--map-root-user
    [ "$(id -u)" != 0 ] || user=
    if ! unshare --mount $user true 2>/dev/null; then
        echo "in-root: mount namespaces are not permitted (a container may need the privilege to mount)" >&2
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
