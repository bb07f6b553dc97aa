/* log.h - what a program says of its own doings.
 *
 * Purpose:  one line an event: time, level, text. Programs and controllers log; libraries
 *           return errors. An error is logged where it ends, with the object's id.
 * Threads:  any. log_init once, before threads.
 * Failure:  a log that cannot be written is dropped. */
#pragma once
#include "base/base.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* Lines below 'min' are dropped; written to 'fd' (2 by default, INFO). 'prefix' names the
 * program and is borrowed. */
void log_init(const char *prefix, enum log_level min, int fd);
bool log_on(enum log_level level);
void log_line(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
