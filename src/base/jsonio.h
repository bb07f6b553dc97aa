/* jsonio.h - structs to and from JSON by descriptor (jansson underneath).
 *
 * Names:    'name' of each field. TIME is a number of seconds with a fraction (AWS's JSON
 *           protocols) or ISO 8601 text (JSONIO_TIME_TEXT: EC2, rows); BLOB is base64.
 * Input:    unknown members are an error only with JSONIO_STRICT; wrong types always are,
 *           and the error names the path ("Spec.Disks[1].SizeGiB").
 * Memory:   decoded values are copied into 'arena'; nothing of the json_t is kept.
 * Threads:  any. */
#pragma once
#include "base/desc.h"
#include <jansson.h>

enum jsonio_flags {
    JSONIO_STRICT = 1 << 0,
    JSONIO_TIME_TEXT = 1 << 1,
    JSONIO_KEEP_EMPTY = 1 << 2, /* Writes [] for lists present with no items. */
};

AUTO_DEFINE(json, json_t *, json_decref)

void json_write(const struct desc *desc, const void *object, unsigned flags,
                struct buf *out);
MUST_CHECK bool json_read(const struct desc *desc, json_t *json, unsigned flags,
                          struct arena *arena, void *out_object, struct err *err);
/* Text in one call; 'len' bounded by the caller. */
MUST_CHECK bool json_read_text(const struct desc *desc, const char *text, size_t len,
                               unsigned flags, struct arena *arena, void *out_object,
                               struct err *err);
/* Length in bytes of the valid UTF-8 sequence at 's', or 0. */
size_t json_utf8_len(const unsigned char *s, size_t left);
/* A JSON string literal with its quotes; invalid UTF-8 is replaced by U+FFFD. */
void json_put_string(struct buf *out, const char *s, size_t len);
