/* catalogue.h - the instance types, read from share/instance-types.json and from files
 * of the operator's in the same form (catalogue.schema).
 *
 * Place:    core/; pure: the caller reads the files.
 * Memory:   the types lie in the caller's arena and do not point into the texts.
 * Failure:  an error names the file and the entry: "FILE: families[3].sizes[1].vcpus:
 *           must be from 1 to 1024".
 * Threads:  any. */
#pragma once
#include "base/arena.h"
#include "core/config.h"

struct catalogue_text {
    const char *name; /* Of the file, for errors. */
    const char *text;
    size_t len;
};

/* Reads 'texts' in order: a type named again replaces the earlier one. The result is
 * sorted by name, as struct cloud_config wants it. */
MUST_CHECK bool catalogue_read(struct arena *arena, const struct catalogue_text *texts,
                               size_t count, const struct instance_type **out_types,
                               size_t *out_count, struct err *err);
