#!/bin/sh
# test.sh [long] - 'make test': units under sanitizers, then end to end with real clients
# and real guests. 'long' adds what takes longer than a quarter of an hour in all: a hundred
# kills instead of a few, a minute for each fuzzer, the image debian-12.
#
# The simulation and the fuzzers only compute, and know no time but their own: they run all
# the while on what processor time the others leave (aside.sh). Clients mostly wait for guests:
# they run side by side, in three lanes of about the same length.
#
# Each runner's own summary is shown at its end, and all again at the very end, behind what
# failed: who keeps only the last lines of a log finds the reason there. The status is 0
# only when every runner ended well.
set -eu
cd "$(dirname "$0")/.."
. tools/common.sh
need_root test "$@"

# In a chroot whose root is no mount, 'ip netns' and 'unshare' refuse to work: bind it first.
if ! mountpoint -q /; then
    exec unshare --mount --propagation unchanged sh -c \
        'mount --rbind / / && cd -P /.. && exec chroot . "$@"' sh "$ROOT/tools/test.sh" "$@"
fi

kind=${1:-quick}
[ "$kind" = test ] && kind=${2:-quick}
TEST_BUILD=$ROOT/build-test
begin_ms=$(now_ms)
said=$(mktemp -d)
aside=
trap 'for pid in $aside; do kill "$pid" 2>/dev/null || true; done; wait; rm -rf "$said"' EXIT
trap 'exit 130' INT TERM

lists="tools/packages.up tools/packages.test"
clients_limit=1500
computing_limit=3000 # It gets little while the clients run.
if [ "$kind" = long ]; then
    lists="$lists tools/packages.test-long"
    clients_limit=10800
    computing_limit=14400
    export MOLN_LONG=1 MOLN_CHAOS_KILLS="${MOLN_CHAOS_KILLS:-100}"
fi

# run NAME COMMAND...: shows what it says and keeps it in $said/NAME; its status counts.
status=0
run() {
    name=$1
    shift
    {
        result=0
        "$@" 2>&1 || result=$?
        echo $result >"$said/$name.status"
    } | tee "$said/$name"
    [ "$(cat "$said/$name.status")" = 0 ] || status=1
}

# beside NAME COMMAND...: the same in the background, until 'join NAME'.
beside() {
    name=$1
    shift
    "$@" >"$said/$name" 2>&1 &
    aside="$aside $!"
    echo $! >"$said/$name.pid"
}

join() {
    result=0
    wait "$(cat "$said/$1.pid")" || result=$?
    cat "$said/$1"
    [ $result = 0 ] || status=1
}

install_packages $lists
make_user
if [ ! -f "$TEST_BUILD/build.ninja" ]; then
    step "configuring with sanitizers" meson setup "$TEST_BUILD" -Dtests=true -Dfuzz=true \
        -Doptimization=1 -Db_sanitize=address,undefined -Db_lundef=false
fi
step "building with sanitizers" ninja -C "$TEST_BUILD"
give_to_caller "$TEST_BUILD"

# Images are built from packages fetched here once.
begin=$(now_ms)
export MOLN_CACHE="$TEST_BUILD/cache"
share/images/micro/build --fetch "$MOLN_CACHE"
downloads_ms=$((downloads_ms + $(now_ms) - begin))

# A finding ends the program that has it.
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
suites="env ASAN_OPTIONS=detect_leaks=1:abort_on_error=1 timeout $computing_limit
    meson test -C build-test --no-rebuild --print-errorlogs --timeout-multiplier"
beside computing $suites 20 --logbase computing --wrapper "'$ROOT/tools/aside.sh'" \
    --suite sim --suite fuzz
run units $suites 5 --no-suite sim --no-suite fuzz

# Leaks are looked for in units; the programs end by signal here. SIGTERM lets pytest tidy
# up: clouds that a test made go with it.
export MOLN_BUILD="$TEST_BUILD"
clients="env ASAN_OPTIONS=detect_leaks=0:abort_on_error=1
    timeout --kill-after=120 $clients_limit /usr/bin/python3 -m pytest"
files() { printf 'test/e2e/test_%s.py ' "$@"; }
moves=$(files cold migrate migrate_shared overlay placement rebuild relief two_hosts outside)
others=$(files join many_hosts processes recovery conntrack drift gateways ipv6 killed_apply matrix \
    shaping uplinks bad_http)
beside moves $clients $moves
beside others $clients $others
run clients $clients test/e2e test/chaos $(printf -- '--ignore=%s ' $moves $others)
join moves
join others
join computing

# What a cloud does, and what survives kills, on PostgreSQL as on SQLite.
[ "$kind" != long ] || run postgres env \
    ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 timeout --kill-after=120 "$clients_limit" \
    test/postgres.py /usr/bin/python3 -m pytest test/e2e/test_life.py \
    test/e2e/test_accounts.py test/chaos
[ "$kind" != long ] || run simulation "$TEST_BUILD/test/sim/sim" --seeds 10001:4000
[ "$kind" != long ] || run fuzzers tools/fuzz.sh 60

echo
if [ $status != 0 ]; then
    echo "==> what failed"
    for suite in units computing; do # Meson's: the command, what it said, a line of dashes.
        awk '/^>>> / { on = 1 } on; /^(―)+$/ { on = 0 }' "$said/$suite" | tail -n 60
        sed -n '/^Summary of Failures:/,/^Ok: /{/FAIL\|TIMEOUT\|ERROR/p}' "$said/$suite"
    done
    (cd "$said" && grep -sE '^(FAILED|ERROR|E  )' clients moves others postgres) |
        tail -n 40 || true
    (cd "$said" && grep -sE 'FAILED|^seed ' simulation fuzzers) | tail -n 20 || true
fi
for suite in units computing; do
    echo "==> $suite"
    sed -n '/^Ok: /,/^Timeout: /p' "$said/$suite"
done
echo "==> end to end: of one host, of hosts that guests move between, and the others"
for lane in clients moves others; do
    tail -n 1 "$said/$lane"
done
if [ "$kind" = long ]; then
    echo "==> end to end, on PostgreSQL"
    tail -n 1 "$said/postgres"
    echo "==> simulation"
    grep 'seeds from' "$said/simulation" || true
    echo "==> fuzzers"
    grep '^fuzz ' "$said/fuzzers" || true
fi
echo "Took $(seconds $(($(now_ms) - begin_ms))) s; $(seconds $downloads_ms) s of it downloads."
exit $status
