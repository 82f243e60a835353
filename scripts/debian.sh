# Sourced by .ci/run and setup.sh. `debian PACKAGE...` installs packages of Debian; it fails where
# nobody may install or they cannot be had.
debian() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return
    apt-get -qq update >&2
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "$@" >&2
}
