/* fragments.h - parts of XML answers, kept for as long as the rows they show stand.
 *
 * Purpose:  a client that lists its thousand instances again and again gets, of each that
 *           has not changed, the text made the first time.
 * Key:      the object's id, and 'words': the stamps (store.h, row_stamp) of every row
 *           that the text was made from and whatever else it depends on. A text is found
 *           only under exactly its own words, so one that has become old is never given
 *           out: there is nothing to invalidate.
 * Place:    service/; the gateway owns one and lends it to calls that answer in XML.
 * Memory:   at most 'limit_bytes' of texts; past that it begins anew.
 * Threads:  any. */
#pragma once
#include "base/arena.h"
#include "base/desc.h"

#define FRAGMENT_WORDS_MAX 56

struct fragments;

struct fragment_key {
    const char *id;
    uint64_t words[FRAGMENT_WORDS_MAX];
    size_t count;
};

MUST_CHECK struct fragments *fragments_create(size_t limit_bytes);
void fragments_destroy(struct fragments *fragments); /* NULL is a no-op. */

/* The text kept under 'key'; it lives as long as 'arena'. False: there is none. */
bool fragments_get(struct fragments *fragments, const struct fragment_key *key,
                   struct arena *arena, struct blob *out);
/* Keeps a copy of 'text' in place of the one that 'key->id' had. */
void fragments_put(struct fragments *fragments, const struct fragment_key *key,
                   struct blob text);
