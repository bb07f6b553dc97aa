/* migrate_peer.c - fuzzes what the other node of a migration says: the hello of a courier, and
 * the words between giver and receiver.
 *
 * An even first byte: a hello follows; an odd one: words, cut as it says. Checked, beside
 * memory: a hello is the same however much of it came at once, and longer than nothing; a
 * word that was read, written and read again is the same. */
#include "base/tlv.h"
#include "link/frame.h"
#include "link/link.h"
#include "node/migrate/courier.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define MIGRATION "migration-1"

static void
check(bool ok)
{
    if (!ok) {
        abort();
    }
}

/* Byte by byte, as it may come: the first answer is the last. */
static void
try_hello(const uint8_t *data, size_t len)
{
    char whole[COURIER_STREAM_MAX] = "", part[COURIER_STREAM_MAX] = "";
    size_t took = 0, took_part = 0;
    struct err err = {0}, err_part = {0};
    bool ok = courier_read_hello(data, len, MIGRATION, whole, &took, &err);
    check(!ok || took <= len);
    check(!ok || took == 0 || whole[0] != '\0');
    check(ok || err.code != ERR_NONE);
    for (size_t n = 0; n <= len; n++) {
        bool ok_part =
            courier_read_hello(data, n, MIGRATION, part, &took_part, &err_part);
        if (!ok_part || took_part > 0) {
            check(ok_part == ok && took_part == took && str_eq(whole, part));
            return;
        }
    }
    check(ok && took == 0);
}

static bool
on_frame(void *ctx UNUSED, const struct frame *frame)
{
    AUTO(arena) struct arena *arena = arena_create();
    AUTO(buf) struct buf again = {0};
    struct link_courier_word first, second;
    struct err err = {0};
    if (!tlv_decode(&link_courier_word_desc, frame->data, frame->len, arena, &first,
                    &err)) {
        check(err.code != ERR_NONE);
        return false;
    }
    tlv_encode(&link_courier_word_desc, &first, &again);
    check(tlv_decode(&link_courier_word_desc, again.data, again.len, arena, &second,
                     &err));
    check(desc_equal(&link_courier_word_desc, &first, &second));
    return true;
}

static void
try_words(const uint8_t *data, size_t len, size_t step)
{
    struct frame_reader r = {0};
    struct err err = {0};
    bool ok = true;
    for (size_t at = 0; ok && at < len; at += step) {
        ok =
            frame_reader_feed(&r, data + at, MIN(step, len - at), on_frame, NULL, &err);
    }
    frame_reader_fini(&r);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len > 0 && data[0] % 2 == 0) {
        try_hello(data + 1, len - 1);
    } else if (len > 0) {
        try_words(data + 1, len - 1, 1u + data[0] / 2u);
    }
    return 0;
}
