/* jobs_impl.h - what the two kinds of blob jobs share; for jobs.c, imports.c, captures.c. */
#pragma once
#include "control/jobs.h"

/* '*out' is NULL while no node has spoken of the job. */
MUST_CHECK bool job_seen(const struct pass *pass, const char *id,
                         const struct row_job_seen **out, struct err *err);
/* Whether the file that a job made is here: a node's word alone is not enough. */
bool job_arrived(const struct pass *pass, const char *blob_id);
/* The made blob's row; its file came over the link before the node said 'done'. */
MUST_CHECK bool job_blob_made(const struct pass *pass, const char *account,
                              const char *blob_id, const struct row_job_seen *seen,
                              struct err *err);

MUST_CHECK bool import_pass(const struct pass *pass, const struct row_import_task *task,
                            struct err *err);
MUST_CHECK bool capture_pass(const struct pass *pass, const struct row_image *image,
                             struct err *err);
