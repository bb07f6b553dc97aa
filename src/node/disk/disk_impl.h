/* disk_impl.h - what disk.c and disk_arrive.c share. Not for others. */
#pragma once
#include "base/map.h"
#include "node/disk/disk.h"

#define DISK_RETRY_NS (5 * NS_PER_S)

struct disk {
    struct disks *set;
    char id[48], base[48]; /* Base of the file that is there; "" none. */
    char *path;            /* NULL: there is no file. */
    struct arena *want_arena;
    struct link_disk *want; /* NULL: an orphan, or deleted without a record. */
    bool deleted, making;
    bool
        arriving; /* Its file comes from another node: written beside, not named yet. */
    int64_t size_bytes, used_bytes, measure_at_ns, retry_at_ns;
    char message[200];
};

struct disks {
    struct disks_config config;
    char *dir, *orphans;
    char *shared_dir, shared_id[48]; /* NULL, "": none. */
    struct map *map;
    struct map *orphan_bases; /* Blob ids that quarantined disks stand on. */
    bool complete, closing;
};

/* NULL: nobody has spoken of it. */
struct disk *disk_get(const struct disks *set, const char *id);
/* Where its file lies, or is to lie; 'base' NULL: it stands on none. malloc'ed. */
char *disk_path_for(const struct disk *d, const char *base);
char *disk_part_for(const struct disk *d); /* And while it is not whole. malloc'ed. */

/* A file that is written beside its place and gets its name at the end: 'run', on a worker,
 * touches nothing else. */
struct disk_work {
    uv_work_t work;
    struct disk *disk;
    char *path, *part;  /* malloc'ed. */
    int64_t size_bytes; /* That the guest is to see, at least. */
    char *base_name;    /* malloc'ed; NULL: it stands on none, or does already. */
    const char *base_format;
    bool shared;
    bool ok;
    struct err err;
    bool (*run)(const struct disk_work *k, struct err *err);
    void (*ended)(struct disk *d, const struct disk_work *k); /* On the loop. */
};

/* For 'd', which stands on 'base' from now on; NULL: on none. Fill in the rest. */
struct disk_work *disk_work_new(struct disk *d, const char *base);
/* Takes it. At its end the disk has the file or says why not; then 'ended' is called. */
void disk_work_start(struct disk_work *k);

void disk_measure(struct disk *d);
/* disk_arrive.c: what was written of one that is not to come any more goes. */
void disk_arrival_drop(struct disk *d);
