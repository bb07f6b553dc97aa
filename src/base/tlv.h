/* tlv.h - structs as numbered binary fields: the link's and sealed caches' encoding.
 *
 * Format:   protobuf's wire format: varint key (number << 3 | wire type), varint for BOOL,
 *           INT and TIME (zigzag), 8 bytes for F64, length-prefixed for the rest. A list
 *           repeats its key. Absent (zero) fields are left out.
 * Input:    treated as hostile: depth, counts and lengths are bounded by the input's own
 *           length; unknown numbers are skipped; a known number of another wire type is
 *           ERR_CORRUPT.
 * Memory:   everything decoded is copied into 'arena'.
 * Threads:  any. */
#pragma once
#include "base/desc.h"

void tlv_encode(const struct desc *desc, const void *object, struct buf *out);
/* Fills '*out_object' (desc->size bytes, zeroed by the callee). */
MUST_CHECK bool tlv_decode(const struct desc *desc, const void *data, size_t len,
                           struct arena *arena, void *out_object, struct err *err);
