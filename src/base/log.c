/* log.c - one write a line, so that lines of several threads never mix. */
#include "base/log.h"
#include "base/timefmt.h"
#include "base/world.h"
#include <errno.h>

static struct {
    const char *prefix;
    enum log_level min;
    int fd;
} config = {.prefix = "moln", .min = LOG_INFO, .fd = 2};

void
log_init(const char *prefix, enum log_level min, int fd)
{
    config.prefix = prefix;
    config.min = min;
    config.fd = fd;
}

bool
log_on(enum log_level level)
{
    return level >= config.min;
}

/* A line stays one line, whatever a guest or a tenant put into its text. */
static void
hide_control_characters(char *s)
{
    for (; *s; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7f) {
            *s = ' ';
        }
    }
}

void
log_line(enum log_level level, const char *fmt, ...)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR"};
    if (!log_on(level)) {
        return;
    }
    int saved = errno;
    char line[2048], when[TIME_TEXT_LEN];
    time_iso(clock_real(&clock_system), when);
    int head =
        snprintf(line, sizeof line, "%s %s %s ", when, config.prefix, names[level]);
    size_t len = MIN((size_t)MAX(head, 0), sizeof line - 2);
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(line + len, sizeof line - 1 - len, fmt, args);
    va_end(args);
    hide_control_characters(line + len);
    len = strlen(line);
    line[len++] = '\n';
    ssize_t n = write(config.fd, line, len);
    (void)n;
    errno = saved;
}
