# Functions for other scripts: fetch Debian packages into a folder, without root and without installing them.
# The sourcing script defines `unavailable REASON`, which must exit.
# shellcheck shell=sh

# apt_below DIR SECONDS ARGUMENT...: runs apt-get with all of its state below DIR, as if no package were installed.
apt_below() {
    below=$1 seconds=$2
    shift 2
    timeout "$seconds" apt-get -o Dir::State="$below/state" -o Dir::State::status="$below/status" -o Dir::Cache="$below/cache" \
        -o Dir::Etc::sourcelist="$below/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o APT::Install-Recommends=false -o APT::Sandbox::User=root -o Acquire::Languages=none \
        -o Debug::NoLocking=true "$@"
}

# lists_below DIR SUITE: fetches the package lists of a Debian suite for `apt_below DIR`.
lists_below() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || unavailable "no apt-get or no dpkg-deb"
    # The mirror that this machine uses; its other suites are signed with the same keys.
    # shellcheck disable=SC2016
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN)' | sed -n 's/^\([^ ]*debian\/\) Debian$/\1/p' | head -n 1)
    [ -n "$mirror" ] || unavailable "apt has no Debian mirror"
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -e "$keys" ] || unavailable "no Debian archive keys in $keys"
    rm -rf "$1/cache" "$1/state"
    mkdir -p "$1/state/lists/partial" "$1/cache/archives/partial"
    : >"$1/status"
    printf 'deb [signed-by=%s] %s %s main\n' "$keys" "$mirror" "$2" >"$1/sources.list"
    apt_below "$1" 150 -qq update >&2 || unavailable "the package lists cannot be fetched"
}
