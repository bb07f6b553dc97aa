/* base.h - the few words every file of moln speaks.
 *
 * Purpose:  attributes, the cleanup attribute, sizes and units, and the error type.
 * Place:    the ground floor; knows no cloud, no socket, no thread.
 * Threads:  macros and pure functions only; safe anywhere. */
#pragma once

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))
#define UNUSED __attribute__((unused))
#define NORETURN __attribute__((noreturn))

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define NS_PER_S INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_US INT64_C(1000)
#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* The container of a member: CONTAINER_OF(ptr, struct outer, inner). */
#define CONTAINER_OF(ptr, type, member) \
    ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Cleanup at the end of the scope: AUTO(buf) struct buf b = {0};
 * AUTO_DEFINE(name, type, fn) makes the word 'name' usable: fn(value) is called, once,
 * unless the value is zero. take_NAME(&value) moves the value out, leaving zero. */
#define AUTO(name) __attribute__((cleanup(auto_##name))) UNUSED
#define AUTO_DEFINE(name, type, fn) \
    static inline UNUSED void auto_##name(type *p) \
    { \
        if (*p) { \
            fn(*p); \
        } \
    } \
    static inline UNUSED type take_##name(type *p) \
    { \
        type v = *p; \
        *p = (type)0; \
        return v; \
    }

/* File descriptors: the empty value is -1. */
static inline UNUSED void
auto_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
}

static inline UNUSED int
take_fd(int *fd)
{
    int v = *fd;
    *fd = -1;
    return v;
}

static inline UNUSED void
auto_free(void *p)
{
    free(*(void **)p);
}

static inline UNUSED void *
take_ptr(void *p)
{
    void *v = *(void **)p;
    *(void **)p = NULL;
    return v;
}

static inline UNUSED void
auto_file(FILE **f)
{
    if (*f) {
        (void)fclose(*f);
    }
}

/* NULL-tolerant comparison: two NULLs are equal, NULL equals nothing else. */
static inline bool
str_eq(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static inline bool
str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static inline bool
str_empty(const char *s)
{
    return !s || !*s;
}

/* Whether it is 'min' to 'max' small letters, digits and dashes, and nothing else: an id
 * from outside that may be part of a file's name. NULL is not. */
static inline bool
str_is_plain(const char *s, size_t min, size_t max)
{
    size_t len = s ? strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") : 0;
    return s && s[len] == '\0' && len >= min && len <= max;
}

/* Memory that cannot be had ends the program: nothing above could go on. Every size
 * that comes from outside is bounded before it gets here. */
void *xmalloc(size_t size) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t size) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2) __attribute__((returns_nonnull));

#include "base/err.h"
