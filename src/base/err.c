/* err.c - see err.h. */
#include "base/base.h"
#include <errno.h>

static const struct err_info infos[] = {
#define ERR(name, aws, http, retry) {#name, aws, http, retry},
#include "base/err.def"
#undef ERR
};

const struct err_info *
err_info(enum err_code code)
{
    return &infos[(size_t)code < ARRAY_LEN(infos) ? code : ERR_INTERNAL];
}

/* Formats first, then stores: an argument may be err's own message. */
static void __attribute__((format(printf, 4, 0)))
fill(struct err *err, enum err_code code, int sys, const char *fmt, va_list args)
{
    char msg[sizeof err->msg];
    (void)vsnprintf(msg, sizeof msg, fmt, args);
    err->code = code;
    err->sys = sys;
    memcpy(err->msg, msg, sizeof msg);
}

bool
err_set(struct err *err, enum err_code code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fill(err, code, 0, fmt, args);
    va_end(args);
    return false;
}

static enum err_code
code_of_errno(int sys)
{
    switch (sys) {
    case ENOENT:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    case EACCES:
    case EPERM:
        return ERR_DENIED;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
        return ERR_GONE;
    default:
        return ERR_SYSTEM;
    }
}

/* Appends what fits. */
static void
append(char *msg, size_t size, const char *text)
{
    size_t len = strnlen(msg, size - 1);
    (void)snprintf(msg + len, size - len, "%s", text);
}

bool
err_sys(struct err *err, int sys, const char *fmt, ...)
{
    sys = sys < 0 ? -sys : sys;
    va_list args;
    va_start(args, fmt);
    fill(err, code_of_errno(sys), sys, fmt, args);
    va_end(args);
    char reason[128];
    append(err->msg, sizeof err->msg, ": ");
    append(err->msg, sizeof err->msg, strerror_r(sys, reason, sizeof reason));
    return false;
}

bool
err_wrap(struct err *err, const char *fmt, ...)
{
    struct err inner = *err;
    va_list args;
    va_start(args, fmt);
    fill(err, inner.code, inner.sys, fmt, args);
    va_end(args);
    append(err->msg, sizeof err->msg, ": ");
    append(err->msg, sizeof err->msg, inner.msg);
    return false;
}

void
err_clear(struct err *err)
{
    err->code = ERR_NONE;
    err->sys = 0;
    err->msg[0] = '\0';
}
