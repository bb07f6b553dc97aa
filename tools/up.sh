#!/bin/sh
# up.sh - 'make up': from a checkout to a cloud with a running instance.
#
# Every step looks first whether its work is done, so that running it again changes nothing
# and says what is there.
set -eu
cd "$(dirname "$0")/.."
. tools/common.sh
need_root up

start_ms=$(now_ms)
MOLND_PID=$STATE/control/molnd.pid
NODE_PID=$STATE/node/moln-node.pid
launched=

build() {
    if [ ! -f "$BUILD/build.ninja" ]; then
        step "configuring" meson setup "$BUILD"
    fi
    if ! ninja -C "$BUILD" -n | grep -q 'no work to do'; then
        step "building" ninja -C "$BUILD"
    fi
    give_to_caller "$BUILD"
}

# start PIDFILE LOG COMMAND...: in the background, in a session of its own.
start() {
    pidfile=$1
    logfile=$2
    shift 2
    setsid "$@" </dev/null >>"$logfile" 2>&1 &
    echo $! >"$pidfile"
}

# wait_for SECONDS LOG WHAT COMMAND...
wait_for() {
    tries=$(($1 * 5))
    log=$2
    what=$3
    shift 3
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        if [ $tries -le 0 ]; then
            tail -n 20 "$log" >&2
            fail "$what after a while; its log is $log"
        fi
        sleep 0.2
    done
}

node_is_connected() {
    "$MOLN" status --json | grep -q '"NodesConnected": [1-9]'
}

start_programs() {
    if alive "$MOLND_PID" molnd; then
        echo "molnd runs already (process $pid)."
    else
        echo "==> starting molnd"
        mkdir -p "$STATE/control"
        rm -f "$STATE/endpoint"
        start "$MOLND_PID" "$STATE/control/molnd.log" "$BUILD/molnd" --state "$STATE" \
            --user moln ${MOLN_LISTEN:+--listen "$MOLN_LISTEN"}
    fi
    wait_for 20 "$STATE/control/molnd.log" "molnd does not answer" "$MOLN" status
    if alive "$NODE_PID" moln-node; then
        echo "moln-node runs already (process $pid)."
    else
        echo "==> starting moln-node"
        mkdir -p -m 700 "$STATE/node"
        start "$NODE_PID" "$STATE/node/moln-node.log" "$BUILD/moln-node" --state "$STATE"
    fi
    wait_for 20 "$STATE/node/moln-node.log" "the node does not connect" node_is_connected
}

has_image() { "$MOLN" image ls --json | grep -q "\"Name\": \"$1\""; }

make_image() {
    has_image micro && return
    begin=$(now_ms)
    echo "==> fetching the kernel package"
    share/images/micro/build --fetch "$STATE/cache"
    downloads_ms=$((downloads_ms + $(now_ms) - begin))
    step "building and registering the image micro" "$MOLN" image build micro
}

# The ids of instances in any of the states given.
instances() {
    for state in "$@"; do
        "$MOLN" ls --state-name "$state" --json | sed -n 's/.*"InstanceId": "\(i-[0-9a-f]*\)".*/\1/p'
    done | sort -u
}

launch() {
    instance=$(instances running pending | head -n 1)
    [ -z "$instance" ] || return 0
    stopped=$(instances stopped stopping | head -n 1)
    if [ -n "$stopped" ]; then
        echo "Instances are there, all stopped: 'moln start $stopped' starts one."
        return
    fi
    echo "==> launching an instance"
    instance=$("$MOLN" run --image micro --type t3.micro --name first)
    launched=1
}

reach() {
    [ -n "$instance" ] || return 0
    echo "==> waiting for SSH on $instance"
    greeting=$("$MOLN" ssh --wait 150 "$instance" -- 'echo "$(hostname), up $(cut -d. -f1 /proc/uptime) s"') ||
        fail "$instance does not answer SSH; '$MOLN logs $instance' shows its console"
    echo "    $greeting"
}

value() { sed -n "s/^$1 *= *//p" "$STATE/credentials" | head -n 1; }

summary() {
    total=$(($(now_ms) - start_ms))
    url=$(cat "$STATE/endpoint")
    region=$(value region)
    aws="aws --endpoint-url $url --region ${region:-us-east-1}"
    echo
    echo "The cloud is up.${launched:+ It runs its first instance.}"
    echo
    echo "  endpoint     $url"
    echo "  credentials  $STATE/credentials (access key $(value aws_access_key_id))"
    echo "  instance     ${instance:-none}"
    echo "  logs         $STATE/control/molnd.log, $STATE/node/moln-node.log"
    echo
    echo "Next, for example:"
    echo
    echo "  export AWS_SHARED_CREDENTIALS_FILE=$STATE/credentials"
    echo "  $aws ec2 describe-instances --output table"
    echo "  $aws ec2 describe-images --query 'Images[].[ImageId,Name]' --output text"
    echo "  $aws ec2 get-console-output --latest --output text --instance-id ${instance:-i-...}"
    echo
    echo "  build/moln ssh ${instance:-i-...}     logs in; 'build/moln help' lists what else there is"
    echo
    echo "Took $(seconds $total) s; $(seconds $((total - downloads_ms))) s without downloads."
}

install_packages tools/packages.up
make_user
build
start_programs
make_image
launch
reach
[ ! -d "$STATE/keys" ] || give_to_caller "$STATE/keys"
summary
