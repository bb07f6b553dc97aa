#!/bin/sh
# down.sh - 'make down': a power-off. Guests are shut down, both programs end; rows, wanted
# state and disks stay, so that the next 'make up' starts what ran.
set -eu
cd "$(dirname "$0")/.."
. tools/common.sh
need_root down

if [ ! -d "$STATE" ]; then
    echo "There is no cloud in $STATE."
    exit 0
fi
stop "$STATE/node/moln-node.pid" moln-node 10
if [ -x "$BUILD/moln-node" ] && [ -d "$STATE/node" ]; then
    step "shutting guests down" "$BUILD/moln-node" --state "$STATE" --power-off
fi
stop "$STATE/control/molnd.pid" molnd 20
rm -f "$STATE/endpoint"
echo "The cloud is down. 'make up' starts it again."
