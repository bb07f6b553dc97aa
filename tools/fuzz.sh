#!/bin/sh
# fuzz.sh [SECONDS] - each fuzzer in turn under libFuzzer, ASan and UBSan (300 s each).
#
# Builds in build-fuzz/, with clang. What a run found new stays in build-fuzz/corpus/NAME and
# is where the next one begins; an input that fails is left as build-fuzz/NAME-*. Ends with
# status 1 when any failed, after all have run.
set -eu
cd "$(dirname "$0")/.."
. tools/common.sh

seconds=${1:-300}
FUZZ_BUILD=$ROOT/build-fuzz
names=$(cd test/fuzz && ls ./*.c | sed 's,.*/,,; s/\.c$//' | grep -v '^standalone$')
targets=$(for name in $names; do echo "test/fuzz/fuzz_$name"; done)

if [ ! -f "$FUZZ_BUILD/build.ninja" ]; then
    CC=clang step "configuring the fuzzers" meson setup "$FUZZ_BUILD" -Dfuzz=true \
        -Db_sanitize=address,undefined -Db_lundef=false
fi
step "building the fuzzers" ninja -C "$FUZZ_BUILD" $targets
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1

status=0
for name in $names; do
    corpus=$FUZZ_BUILD/corpus/$name
    log=$FUZZ_BUILD/$name.log
    mkdir -p "$corpus"
    seeds=
    [ ! -d "test/fuzz/corpus/$name" ] || seeds=test/fuzz/corpus/$name
    said=ok
    "$FUZZ_BUILD/test/fuzz/fuzz_$name" -max_total_time="$seconds" -timeout=30 \
        -print_final_stats=1 -artifact_prefix="$FUZZ_BUILD/$name-" "$corpus" $seeds \
        >"$log" 2>&1 || said="FAILED, see $log"
    [ "$said" = ok ] || status=1
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    cover=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    echo "fuzz $name: ${runs:-?} inputs in $seconds s, ${cover:-?} edges, $said"
done
exit $status
