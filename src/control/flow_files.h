/* flow_files.h - what flow logs recorded, as files of AWS's lines.
 *
 * Purpose:  one folder a flow log, DIR/ACCOUNT/fl-.../; in it one file an hour,
 *           2026-11-26T13Z.log, whose first line names the fields. Nodes' batches are made
 *           lines in a transaction, and appended after it.
 * Bounds:   a file takes 16 MiB and no more; files go after seven days, whether their log is
 *           still there or not; nothing is written on a disk with less than 1 GiB free.
 * Place:    control/. Several control planes share a folder, or each keeps what its own nodes say.
 * Threads:  flow_text on the transaction's; flow_files_* on any, one at a time for a log:
 *           they block for as long as the disk takes. */
#pragma once
#include "control/instance_loop.h"
#include "link/link.h"

/* Lines of one log, to be appended. */
struct flow_lines {
    const char *account, *log_id, *names;
    const char *text;
    size_t len, count;
    int64_t at_ns;
};

/* '*out' NULL: nobody wants it of that node. Arena: the transaction's. */
MUST_CHECK bool flow_text(const struct pass *pass, const char *node_id,
                          const struct link_flow_batch *batch, struct arena *arena,
                          const struct flow_lines **out, struct err *err);
MUST_CHECK bool flow_files_append(const char *dir, const struct flow_lines *lines,
                                  struct err *err);
/* Removes what is too old at 'now_ns'. */
void flow_files_prune(const char *dir, int64_t now_ns);
