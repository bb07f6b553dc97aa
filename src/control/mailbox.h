/* mailbox.h - letters from any thread to the loop's.
 *
 * Purpose:  "call this, with that, on the loop": how completions of transactions and
 *           the gateway's requests reach objects that belong to the loop's thread.
 *           Order: first posted, first called.
 * Threads:  mailbox_post from any; the rest on the loop's. */
#pragma once
#include "base/base.h"
#include <uv.h>

struct mailbox;
typedef void mailbox_fn(void *ctx);

MUST_CHECK struct mailbox *mailbox_create(uv_loop_t *loop);
/* Delivers what is there, then closes; nobody may post any more. NULL is a no-op. */
void mailbox_close(struct mailbox *mailbox);
void mailbox_post(struct mailbox *mailbox, mailbox_fn *fn, void *ctx);
