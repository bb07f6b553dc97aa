# common.sh - what the scripts behind the Makefile share. Sourced, from the repository's
# root; STATE is the cloud's state folder.

STATE=${MOLN_STATE:-/var/lib/moln}
ROOT=$(pwd)
BUILD=$ROOT/build
MOLN=$BUILD/moln
PATH=$PATH:/usr/sbin:/sbin
export MOLN_STATE="$STATE"
# The scripts speak to this cloud, whatever the caller's shell is set up for.
unset AWS_ENDPOINT_URL AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_PROFILE 2>/dev/null || true

fail() {
    echo "make: $*" >&2
    exit 1
}

# Root installs packages and starts the agent: whoever is not root goes through sudo.
need_root() {
    [ "$(id -u)" = 0 ] && return
    command -v sudo >/dev/null || fail "be root: run 'make $1' as root (there is no sudo here)"
    exec sudo MOLN_STATE="$STATE" MOLN_LISTEN="${MOLN_LISTEN:-}" \
        "$ROOT/tools/$(basename "$0")" "$@"
}

# Seconds with one decimal, since a start taken with 'now_ms'.
now_ms() { date +%s%3N; }
seconds() { awk -v ms="$1" 'BEGIN { printf "%.1f", ms / 1000 }'; }

# The person behind sudo owns what is made for people.
give_to_caller() {
    [ -z "${SUDO_UID:-}" ] || chown -R "$SUDO_UID:${SUDO_GID:-$SUDO_UID}" "$@"
}

# step TITLE COMMAND...: runs it with its output in a log; says how it goes every 10 s.
step() {
    title=$1
    shift
    log=$(mktemp)
    printf '==> %s\n' "$title"
    "$@" >"$log" 2>&1 &
    job=$!
    tick=0
    while kill -0 $job 2>/dev/null; do
        sleep 0.2
        tick=$((tick + 1))
        if [ $((tick % 50)) = 0 ]; then
            printf '    %d s: %s\n' $((tick / 5)) "$(tail -n 1 "$log" | cut -c 1-70)"
        fi
    done
    status=0
    wait $job || status=$?
    if [ $status != 0 ]; then
        tail -n 40 "$log" >&2
        rm -f "$log"
        fail "$title: failed"
    fi
    rm -f "$log"
}

# The packages of a list file that are not installed.
missing_packages() {
    sed 's/#.*//' "$@" | tr -s ' \n' '\n' | while read -r package; do
        [ -z "$package" ] && continue
        case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
        *" installed") ;;
        *) echo "$package" ;;
        esac
    done
}

apt() { DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends "$@"; }

# Installs what the list files name and this host lacks; milliseconds spent on downloading
# are added to $downloads_ms.
downloads_ms=0
install_packages() {
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    begin=$(now_ms)
    # Package lists may be missing: then, and when they are too old to serve, they are
    # fetched anew.
    apt install --simulate $missing >/dev/null 2>&1 || step "fetching package lists" apt update
    if ! (step "downloading packages" apt install --download-only $missing) 2>/dev/null; then
        step "fetching package lists" apt update
        step "downloading packages" apt install --download-only $missing
    fi
    downloads_ms=$((downloads_ms + $(now_ms) - begin))
    step "installing $(echo $missing | wc -w) packages" apt install $missing
}

# The user whom molnd runs as.
make_user() {
    id moln >/dev/null 2>&1 ||
        useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin moln
}

# alive PIDFILE NAME: whether the program NAME with the number in PIDFILE runs.
alive() {
    pid=$(cat "$1" 2>/dev/null) || return 1
    case $(readlink "/proc/$pid/exe" 2>/dev/null) in
    */"$2" | */"$2 (deleted)") return 0 ;;
    esac
    return 1
}

# stop PIDFILE NAME SECONDS: SIGTERM, then SIGKILL.
stop() {
    alive "$1" "$2" || return 0
    kill "$pid"
    tries=$(($3 * 10))
    while alive "$1" "$2" && [ $tries -gt 0 ]; do
        sleep 0.1
        tries=$((tries - 1))
    done
    ! alive "$1" "$2" || kill -9 "$pid"
    rm -f "$1"
}
