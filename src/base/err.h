/* err.h - the one error rule.
 *
 * Purpose:  a function that can fail for a reason worth telling returns bool (or a
 *           pointer) and fills a caller-owned 'struct err'. Thin wrappers of system
 *           calls return 0 or -errno instead.
 * Owner:    the caller, on its stack: fixed size, never allocated, never NULL.
 * Threads:  any; an err belongs to one caller.
 * Failure:  none: a message too long is cut.
 *
 * The table err.def gives each code its name, its HTTP status, the code AWS clients see
 * and whether trying again can help. Outputs of a failed function are untouched. */
#pragma once

#ifndef MUST_CHECK
#error "include base/base.h"
#endif

enum err_code {
#define ERR(name, aws, http, retry) ERR_##name,
#include "base/err.def"
#undef ERR
    ERR_CODES,
};

struct err {
    enum err_code code; /* ERR_NONE when nothing went wrong. */
    int sys;            /* errno behind it, or 0. */
    char msg[496];      /* For people: what, with which object, what to do. */
};

struct err_info {
    const char *name; /* "INSTANCE_NOT_FOUND": for logs and metrics. */
    const char *aws;  /* "InvalidInstanceID.NotFound": for clients. */
    int http;         /* Status of an HTTP answer. */
    bool retry;       /* May succeed unchanged, later. */
};

/* Never NULL; an unknown code is reported as INTERNAL. */
const struct err_info *err_info(enum err_code code);

/* Each returns false, so that 'return err_set(...)' reads as it acts. */
bool err_set(struct err *err, enum err_code code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* From errno value 'sys': "doing X: No such file or directory". ENOENT becomes
 * ERR_NOT_FOUND, EEXIST ERR_EXISTS, ENOSPC/EDQUOT ERR_NO_SPACE, EACCES/EPERM ERR_DENIED,
 * ETIMEDOUT ERR_TIMEOUT, ECONNREFUSED/ECONNRESET/EPIPE ERR_GONE; all else ERR_SYSTEM. */
bool err_sys(struct err *err, int sys, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Puts "context: " before the message of an err already set; keeps its code. */
bool err_wrap(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
void err_clear(struct err *err);
