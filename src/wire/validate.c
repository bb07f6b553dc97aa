/* validate.c - what a service's model demands of a request, with each protocol's words.
 */
#include "wire/protocol.h"
#include "wire/text.h"
#include <pthread.h>
#include <regex.h>

#define PATH_MAX_LEN 200
#define TEXT_MAX_BYTES 65536 /* Of a text for which the model has no length. */

struct check {
    enum protocol protocol;
    struct err *err;
    char path[PATH_MAX_LEN]; /* "Ebs.VolumeSize", of the member under scrutiny. */
    size_t path_len;
    unsigned depth;
};

static bool check_struct(struct check *check, const struct desc *desc,
                         const void *object);

/* ---- wording --------------------------------------------------------------------- */

/* EC2 names parameters in its messages with a small first letter. */
static const char *
camel_path(struct check *check)
{
    if (check->path[0] >= 'A' && check->path[0] <= 'Z') {
        check->path[0] = (char)(check->path[0] + 32);
    }
    return check->path;
}

static bool
missing(struct check *check)
{
    switch (check->protocol) {
    case PROTOCOL_EC2:
        return err_set(check->err, ERR_MISSING_PARAMETER,
                       "The request must contain the parameter %s", check->path);
    case PROTOCOL_QUERY:
        return err_set(
            check->err, ERR_VALIDATION_ERROR,
            "1 validation error detected: Value null at '%s' failed to satisfy "
            "constraint: Member must not be null",
            camel_path(check));
    default:
        return err_set(
            check->err, ERR_VALIDATION,
            "1 validation error detected: Value null at '%s' failed to satisfy "
            "constraint: Member must not be null",
            camel_path(check));
    }
}

/* 'ec2' completes "Value ( x ) for parameter y is invalid."; 'other' the constraint. */
static bool
refused(struct check *check, const char *value, const char *ec2, const char *other)
{
    if (check->protocol == PROTOCOL_EC2) {
        return err_set(check->err, ERR_INVALID_PARAMETER_VALUE,
                       "Value ( %.64s ) for parameter %s is invalid. %s", value,
                       camel_path(check), ec2);
    }
    enum err_code code =
        check->protocol == PROTOCOL_QUERY ? ERR_VALIDATION_ERROR : ERR_VALIDATION;
    return err_set(
        check->err, code,
        "1 validation error detected: Value '%.64s' at '%s' failed to satisfy "
        "constraint: Member must %s",
        value, camel_path(check), other);
}

/* ---- patterns -------------------------------------------------------------------- */

/* Compiled when first needed and kept for good: models have few. */
struct pattern {
    const char *text;
    regex_t regex;
    struct pattern *next;
};

static struct pattern *patterns;
static pthread_mutex_t patterns_lock = PTHREAD_MUTEX_INITIALIZER;

static struct pattern *
pattern_find(const char *text)
{
    for (struct pattern *p = __atomic_load_n(&patterns, __ATOMIC_ACQUIRE); p;
         p = p->next) {
        if (p->text == text) {
            return p;
        }
    }
    return NULL;
}

static const struct pattern *
pattern_get(const char *text)
{
    struct pattern *p = pattern_find(text);
    if (p) {
        return p;
    }
    pthread_mutex_lock(&patterns_lock);
    p = pattern_find(text);
    if (!p) {
        p = xcalloc(1, sizeof *p);
        p->text = text;
        if (regcomp(&p->regex, text, REG_EXTENDED | REG_NOSUB) != 0) {
            p->text =
                NULL; /* The generator lets none through; this one binds nothing. */
        }
        p->next = patterns;
        __atomic_store_n(&patterns, p, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&patterns_lock);
    return p;
}

static bool
pattern_fits(const char *text, const char *value)
{
    const struct pattern *p = pattern_get(text);
    return !p->text || regexec(&p->regex, value, 0, NULL, 0) == 0;
}

/* ---- the checks ------------------------------------------------------------------ */

/* Puts ".Name" at the end of the path; returns the length to go back to. */
static size_t
path_push(struct check *check, const char *name)
{
    size_t before = check->path_len;
    size_t room = sizeof check->path - before;
    int n = snprintf(check->path + before, room, "%s%s", before ? "." : "", name);
    check->path_len = before + MIN((size_t)MAX(n, 0), room - 1);
    return before;
}

static void
path_pop(struct check *check, size_t before)
{
    check->path_len = before;
    check->path[before] = '\0';
}

static bool
check_range(struct check *check, const struct desc_field *f, int64_t value,
            const char *shown, const char *what)
{
    if (value >= f->min && value <= f->max) {
        return true;
    }
    bool low = value < f->min;
    char ec2[96], other[96];
    /* AWS says 'greater than 5' where 5 itself is good. */
    (void)snprintf(ec2, sizeof ec2, "Expecting a %s %s than %" PRId64 ".",
                   *what ? what : "value", low ? "greater" : "lower",
                   low ? f->min : f->max);
    (void)snprintf(other, sizeof other, "have %s %s than or equal to %" PRId64,
                   *what ? what : "value", low ? "greater" : "less",
                   low ? f->min : f->max);
    return refused(check, shown, ec2, other);
}

static bool
check_enum(struct check *check, const struct desc_field *f, const char *value)
{
    for (const char *const *v = f->values; *v; v++) {
        if (strcmp(*v, value) == 0) {
            return true;
        }
    }
    char list[256] = "", other[320];
    size_t len = 0;
    for (const char *const *v = f->values; *v && len + strlen(*v) + 8 < sizeof list;
         v++) {
        len += (size_t)snprintf(list + len, sizeof list - len, "%s%s",
                                v == f->values ? "" : ", ", *v);
    }
    (void)snprintf(other, sizeof other, "satisfy enum value set: [%s]", list);
    char ec2[300];
    (void)snprintf(ec2, sizeof ec2, "Expected one of: %s", list);
    return refused(check, value, ec2, other);
}

static bool
check_text(struct check *check, const struct desc_field *f, const char *value)
{
    if (f->values && !check_enum(check, f, value)) {
        return false;
    }
    bool ranged = f->kind == DESC_STR && (f->flags & DESC_HAS_RANGE);
    if (!ranged && strlen(value) > TEXT_MAX_BYTES) {
        return refused(check, value, "It is longer than 65536 bytes.",
                       "have length less than or equal to 65536");
    }
    if (ranged &&
        !check_range(check, f, (int64_t)text_length(value), value, "length")) {
        return false;
    }
    if (f->pattern && !pattern_fits(f->pattern, value)) {
        char other[300];
        (void)snprintf(other, sizeof other, "satisfy regular expression pattern: %s",
                       f->pattern);
        return refused(check, value, "It does not have the form that it must have.",
                       other);
    }
    return true;
}

static bool
check_number(struct check *check, const struct desc_field *f, const void *at)
{
    if (!(f->flags & DESC_HAS_RANGE)) {
        return true;
    }
    char shown[40];
    if (f->kind == DESC_F64) {
        double value = *(const double *)at;
        (void)snprintf(shown, sizeof shown, "%g", value);
        int64_t clamped = value < (double)f->min   ? f->min - 1
                          : value > (double)f->max ? f->max + 1
                                                   : f->min;
        return check_range(check, f, clamped, shown, "");
    }
    int64_t value = *(const int64_t *)at;
    (void)snprintf(shown, sizeof shown, "%" PRId64, value);
    return check_range(check, f, value, shown, "");
}

static bool
check_list(struct check *check, const struct desc_field *f,
           const struct desc_list *list)
{
    char shown[40];
    (void)snprintf(shown, sizeof shown, "%zu items", list->count);
    if ((f->flags & DESC_HAS_RANGE) &&
        !check_range(check, f, (int64_t)list->count, shown, "length")) {
        return false;
    }
    size_t size = desc_kind_size(f->item_kind, f->type);
    for (size_t i = 0; i < list->count; i++) {
        const char *at = (const char *)list->items + i * size;
        char number[24];
        (void)snprintf(number, sizeof number, "%zu", i + 1);
        size_t before = path_push(check, number);
        bool ok = true;
        if (f->item_kind == DESC_STRUCT) {
            ok = check_struct(check, f->type, at);
        } else if (f->item_kind == DESC_STR) {
            ok = check_text(check, f, *(const char *const *)at);
        }
        if (!ok) {
            return false;
        }
        path_pop(check, before);
    }
    return true;
}

static bool
check_field(struct check *check, const struct desc_field *f, const void *object)
{
    const void *at = desc_at(f, object);
    switch (f->kind) {
    case DESC_INT:
    case DESC_F64:
        return check_number(check, f, at);
    case DESC_STR:
        return check_text(check, f, *(const char *const *)at);
    case DESC_BLOB:
        return !(f->flags & DESC_HAS_RANGE) ||
               check_range(check, f, (int64_t)((const struct blob *)at)->len,
                           "(binary)", "length");
    case DESC_STRUCT:
        return check_struct(check, f->type, *(const void *const *)at);
    case DESC_LIST:
        return check_list(check, f, at);
    default:
        return true;
    }
}

/* What AWS calls the member where the protocol speaks of it. */
static const char *
shown_name(const struct check *check, const struct desc_field *f)
{
    bool form = check->protocol == PROTOCOL_EC2 || check->protocol == PROTOCOL_QUERY;
    return form && f->in_name ? f->in_name : f->name;
}

static bool
check_struct(struct check *check, const struct desc *desc, const void *object)
{
    if (++check->depth > PROTOCOL_DEPTH_MAX) {
        return err_set(check->err, ERR_INVALID_PARAMETER, "%s lies too deep",
                       check->path);
    }
    for (uint32_t i = 0; i < desc->field_count; i++) {
        const struct desc_field *f = &desc->fields[i];
        bool there = desc_present(f, object);
        if (!there && !(f->flags & DESC_REQUIRED)) {
            continue;
        }
        size_t before = path_push(check, shown_name(check, f));
        if (!there) {
            return missing(check);
        }
        if (!check_field(check, f, object)) {
            return false;
        }
        path_pop(check, before);
    }
    check->depth--;
    return true;
}

bool
params_validate(enum protocol protocol, const struct desc *desc, const void *object,
                struct err *err)
{
    struct check check = {.protocol = protocol, .err = err};
    return check_struct(&check, desc, object);
}
