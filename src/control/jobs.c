/* jobs.c - see jobs.h. */
#include "control/jobs.h"

#include "control/jobs_impl.h"

bool
job_seen(const struct pass *pass, const char *id, const struct row_job_seen **out,
         struct err *err)
{
    struct row_job_seen key = {.id = id};
    return row_get(pass->txn, &row_job_seen_type, &key, (const void **)out, err);
}

bool
job_arrived(const struct pass *pass, const char *blob_id)
{
    struct err ignored = {0};
    AUTO(fd) int fd = -1;
    uint64_t size;
    return !pass->blobs || (!str_empty(blob_id) &&
                            blob_open(pass->blobs, blob_id, &fd, &size, &ignored));
}

bool
job_blob_made(const struct pass *pass, const char *account, const char *blob_id,
              const struct row_job_seen *seen, struct err *err)
{
    struct row_blob row = {
        .id = blob_id,
        .account = account,
        .state = "ready",
        .size_bytes = seen->size_bytes,
        .sha256 = seen->sha256,
        .format = "qcow2",
        .virtual_bytes = seen->virtual_bytes,
        .created_at = pass->now_ns,
    };
    return row_put(pass->txn, &row_blob_type, &row, err);
}

bool
job_pass(const struct pass *pass, const char *account, const char *id, struct err *err)
{
    if (str_starts(id, "import-ami-")) {
        const struct row_import_task *task;
        struct row_import_task key = {.account = account, .id = id};
        return row_get(pass->txn, &row_import_task_type, &key, (const void **)&task,
                       err) &&
               (!task || import_pass(pass, task, err));
    }
    const struct row_image *image;
    struct row_image key = {.id = id};
    return row_get(pass->txn, &row_image_type, &key, (const void **)&image, err) &&
           (!image || capture_pass(pass, image, err));
}
