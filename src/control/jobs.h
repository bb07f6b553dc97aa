/* jobs.h - imports and captures: work on blobs that only a node can do.
 *
 * Purpose:  an import turns an upload into an image; a capture turns an instance's disk
 *           into one. Both are a blob_job record on a node, followed to its end.
 * Place:    control/, inside the caller's transaction; a pass may be run at any time.
 *           Ids: an import's job has its task's id; a capture's the id of the image it
 *           makes.
 * Threads:  the thread that runs the transaction. */
#pragma once
#include "control/instance_loop.h"

/* One look at the import task or image behind job 'id'; there being none ends the job.
 */
MUST_CHECK bool job_pass(const struct pass *pass, const char *account, const char *id,
                         struct err *err);
/* The pending image that is being made of a volume, or NULL. */
MUST_CHECK bool capture_of(const struct pass *pass, const struct row_volume *volume,
                           const struct row_image **out, struct err *err);
