#!/bin/sh
# aside.sh COMMAND...: runs it on the processor time that nobody else wants.
#
# Niceness counts within a session only where the kernel groups processes by session
# (autogroup): there the session's own is lowered, so let it be one of the command's alone.
{ echo 19 >/proc/self/autogroup; } 2>/dev/null || true
exec nice -n 19 "$@"
