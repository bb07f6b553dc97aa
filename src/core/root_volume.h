/* root_volume.h - one root volume in place of another.
 *
 * Purpose:  what ReplaceRootVolume does for a tenant, and recovery for a lost host, in
 *           rows: a new volume, made anew on its base, takes over from the old one, which
 *           is deleted or stays as nobody's.
 * Place:    core/, over the store's transactions; the caller changes the instance's row.
 * Threads:  the transaction's. */
#pragma once
#include "core/instance_rows.h"

struct root_change {
    const char *volume_id; /* Of the new one. */
    const char *node_id;   /* Where it is to lie. */
    const char *base_blob, *image_id, *snapshot_id;
    bool delete_old;
};

/* The new volume has the old one's size, kind and tags. */
MUST_CHECK bool root_volume_replace(struct txn *txn, const struct row_volume *old,
                                    const struct root_change *change, int64_t now_ns,
                                    struct err *err);
