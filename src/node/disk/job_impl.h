/* job_impl.h - what the files of job.h share. Not for others. */
#pragma once
#include "base/file.h"
#include "base/log.h"
#include "base/map.h"
#include "node/disk/job.h"
#include "node/disk/qcow2.h"
#include "node/disk/tool.h"
#include "node/machine/machine_plan.h"
#include "node/machine/qmp.h"

enum job_stage {
    JOB_IDLE, /* To be begun, or begun anew after a pause. */
    JOB_FETCH,
    JOB_INSPECT,
    JOB_CHECK, /* Whether what its tables name is there. */
    JOB_CONVERT,
    JOB_HEAD, /* Read the made disk's first sectors. */
    JOB_COPY_LIVE,
    JOB_COPY_FILE,
    JOB_HASH,
    JOB_PUT,
    JOB_DONE,
    JOB_FAILED,
};

struct job {
    struct jobs *set;
    char id[64], *dir;
    struct arena *want_arena;
    struct link_blob_job *want;
    bool deleted;
    bool orphan; /* Its files go as soon as nothing works on them. */
    enum job_stage stage;
    bool waiting; /* For a callback: the job must not be freed. */
    int64_t retry_at_ns, failures;
    unsigned uid_index;
    struct tool *tool;
    struct image_verdict verdict;
    /* A live copy. */
    struct qmp *qmp;
    int64_t fdset;
    /* The result. */
    char message[200], error_code[24], format[8], firmware[8], sha256[65];
    int64_t size_bytes, virtual_bytes;
};

struct jobs {
    struct jobs_config config;
    char *dir, *jail_dir;
    struct map *map;
    unsigned next_uid;
    bool closing;
};

/* job.c */
void job_path(const struct job *j, const char *name, char out[512]);
void job_changed(struct job *j);
void job_fail(struct job *j, enum image_trouble trouble,
              const char *why); /* For good. */
void job_retry(struct job *j, const char *why);
void job_hash(struct job *j); /* out.qcow2 is whole: hash it, send it. */
/* Makes an empty file that the job's uid may write. */
bool job_make_out(struct job *j, const char *name, struct err *err);
void job_limits(const struct job *j, struct tool_spec *spec, int64_t bytes);
bool job_run(struct job *j, const struct tool_spec *spec, tool_done_fn *done);

/* job_import.c */
void job_import(struct job *j);
/* job_capture.c */
void job_capture(struct job *j);
void job_capture_lost(struct job *j); /* The guest's QEMU has gone meanwhile. */
void job_capture_event(void *set, const char *job_id, const char *status);
