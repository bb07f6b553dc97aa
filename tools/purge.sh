#!/bin/sh
# purge.sh - 'make purge': the cloud ends, and everything that it kept is deleted: rows,
# disks, keys, logs, caches. The build folder, packages and the user 'moln' stay.
set -eu
cd "$(dirname "$0")/.."
. tools/common.sh
need_root purge

if [ ! -d "$STATE" ]; then
    echo "There is no cloud in $STATE."
    exit 0
fi
# Where 'make up' got as far as a cloud, one of these is there.
[ -d "$STATE/control" ] || [ -d "$STATE/node" ] ||
    fail "$STATE does not look like a cloud's state folder"

stop "$STATE/node/moln-node.pid" moln-node 10
if [ -x "$BUILD/moln-node" ] && [ -d "$STATE/node" ]; then
    step "removing guests and networks" "$BUILD/moln-node" --state "$STATE" --purge
fi
stop "$STATE/control/molnd.pid" molnd 20
# Ours, by name: whoever chose a folder that holds other things keeps them.
for name in endpoint credentials operator keys cache link.sock control node; do
    rm -rf "${STATE:?}/$name"
done
rmdir "$STATE" 2>/dev/null || echo "What is not the cloud's stays in $STATE: $(ls -A "$STATE" | tr '\n' ' ')"
echo "Purged $STATE."
