/* console.h - one machine's serial console: what it said, and who watches it live.
 *
 * Purpose:  QEMU appends every byte to console.log and offers the line on a socket with
 *           room for one; the console keeps the log's newest 64 KiB and shares the
 *           socket among any number of watchers.
 * Place:    above base/ and sock.h. Knows nothing of QEMU but these two files.
 * Owner:    the machine.
 * Threads:  the loop's.
 * Failure:  a watcher that does not read loses its place (it is disconnected), never
 *           stops the guest. */
#pragma once
#include "base/buf.h"
#include "base/desc.h"
#include <uv.h>

#define CONSOLE_KEEP_BYTES (64u << 10)
#define CONSOLE_WATCHERS_MAX 16

struct console;

MUST_CHECK struct console *console_create(uv_loop_t *loop, const char *dir);
void console_destroy(struct console *console); /* NULL is a no-op. */

/* Adds the newest bytes, at most CONSOLE_KEEP_BYTES; none when there is no log. */
void console_read(const struct console *console, struct buf *out);
/* Appends what the line said before, at most CONSOLE_KEEP_BYTES of it. */
MUST_CHECK bool console_add(const struct console *console, struct blob history,
                            struct err *err);
/* Gives back the room of what is older. No byte of the newest is ever at risk, also
 * while QEMU writes: the file is punched, not cut. */
void console_trim(const struct console *console);
/* While no QEMU has the log open: rewrites it to what is kept. */
MUST_CHECK bool console_compact(const struct console *console, struct err *err);
/* Opened for appending, made when missing. */
MUST_CHECK bool console_open_log(const struct console *console, int *out_fd,
                                 struct err *err);
/* Joins 'fd' (a stream socket, taken) with the serial line until either ends. */
MUST_CHECK bool console_attach(struct console *console, int fd, struct err *err);
/* The machine's process has ended: watchers are sent away. */
void console_hang_up(struct console *console);
