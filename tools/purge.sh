#!/bin/sh
# purge.sh - 'make purge': the cloud ends, and everything that it kept is deleted: rows,
# disks, keys, logs, caches. The build folder, packages and the user 'moln' stay.
set -eu
cd "$(dirname "$0")/.."
. tools/common.sh
need_root purge

case $STATE in
/ | /var | /var/lib | /home | /root | /usr | /etc) fail "$STATE is no state folder" ;;
esac
if [ ! -d "$STATE" ]; then
    echo "There is no cloud in $STATE."
    exit 0
fi
# A folder of somebody else's is not deleted.
for mark in control node endpoint cache link.sock; do
    [ -e "$STATE/$mark" ] && ours=1
done
[ -n "${ours:-}" ] || fail "$STATE does not look like a cloud's state folder"

stop "$STATE/node/moln-node.pid" moln-node 10
if [ -x "$BUILD/moln-node" ] && [ -d "$STATE/node" ]; then
    step "removing guests and networks" "$BUILD/moln-node" --state "$STATE" --purge
fi
stop "$STATE/control/molnd.pid" molnd 20
rm -rf "$STATE"
echo "Purged $STATE."
