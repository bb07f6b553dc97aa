/* timefmt.c - see timefmt.h. */
#include "base/timefmt.h"
#include <time.h>

static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

/* Splits into UTC calendar fields and the nanoseconds within the second. */
static int64_t
split(int64_t ns, struct tm *out)
{
    int64_t s = ns / NS_PER_S, rest = ns % NS_PER_S;
    if (rest < 0) {
        rest += NS_PER_S;
        s--;
    }
    time_t t = (time_t)s;
    (void)gmtime_r(&t, out);
    return rest;
}

void
time_iso(int64_t ns, char out[TIME_TEXT_LEN])
{
    struct tm tm;
    int64_t rest = split(ns, &tm);
    size_t n = strftime(out, TIME_TEXT_LEN, "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(out + n, TIME_TEXT_LEN - n, ".%03dZ", (int)(rest / NS_PER_MS));
}

void
time_basic(int64_t ns, char out[TIME_TEXT_LEN])
{
    struct tm tm;
    (void)split(ns, &tm);
    (void)strftime(out, TIME_TEXT_LEN, "%Y%m%dT%H%M%SZ", &tm);
}

void
time_http(int64_t ns, char out[TIME_TEXT_LEN])
{
    struct tm tm;
    (void)split(ns, &tm);
    (void)snprintf(out, TIME_TEXT_LEN, "%s, %02d %s %04d %02d:%02d:%02d GMT",
                   days[tm.tm_wday], tm.tm_mday % 100, months[tm.tm_mon],
                   (tm.tm_year + 1900) % 10000, tm.tm_hour % 100, tm.tm_min % 100,
                   tm.tm_sec % 100);
}

/* Reads exactly 'count' digits and moves on. */
static bool
digits(const char **s, int count, int *out)
{
    int v = 0;
    for (int i = 0; i < count; i++, (*s)++) {
        if (**s < '0' || **s > '9') {
            return false;
        }
        v = v * 10 + (**s - '0');
    }
    *out = v;
    return true;
}

static bool
literal(const char **s, char c)
{
    if (**s != c) {
        return false;
    }
    (*s)++;
    return true;
}

/* Calendar fields to nanoseconds, or refusal of a date that does not exist. */
static bool
join(struct tm tm, int64_t offset_s, int64_t frac_ns, int64_t *out_ns)
{
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    bool leap_second = tm.tm_sec == 60;
    tm.tm_sec -= leap_second; /* Counted as the second before it. */
    struct tm check = tm;
    time_t t = timegm(&check);
    if (check.tm_mday != tm.tm_mday || check.tm_mon != tm.tm_mon ||
        check.tm_hour != tm.tm_hour || check.tm_min != tm.tm_min ||
        check.tm_sec != tm.tm_sec) {
        return false;
    }
    int64_t ns;
    if (__builtin_mul_overflow((int64_t)t - offset_s, NS_PER_S, &ns) ||
        __builtin_add_overflow(ns, frac_ns, &ns)) {
        return false;
    }
    *out_ns = ns;
    return true;
}

/* ".123" or ",123"; digits after the ninth are dropped. */
static bool
fraction(const char **s, int64_t *out_ns)
{
    int64_t ns = 0, unit = NS_PER_S / 10;
    if (**s != '.' && **s != ',') {
        return true;
    }
    (*s)++;
    const char *start = *s;
    for (; **s >= '0' && **s <= '9'; (*s)++, unit /= 10) {
        ns += (**s - '0') * unit;
    }
    *out_ns = ns;
    return *s > start;
}

static bool
zone(const char **s, int64_t *out_s)
{
    if (literal(s, 'Z')) {
        return true;
    }
    int sign = **s == '+' ? 1 : **s == '-' ? -1 : 0;
    int h, m = 0;
    if (!sign || (++*s, !digits(s, 2, &h))) {
        return false;
    }
    bool colon = literal(s, ':');
    if ((colon || **s) && !digits(s, 2, &m)) {
        return false;
    }
    *out_s = sign * (h * 3600 + m * 60);
    return h < 24 && m < 60;
}

bool
time_parse(const char *s, int64_t *out_ns)
{
    struct tm tm = {0};
    int64_t frac_ns = 0, offset_s = 0;
    if (!digits(&s, 4, &tm.tm_year)) {
        return false;
    }
    bool extended = literal(&s, '-');
    bool ok = digits(&s, 2, &tm.tm_mon) && (!extended || literal(&s, '-')) &&
              digits(&s, 2, &tm.tm_mday) && literal(&s, 'T') &&
              digits(&s, 2, &tm.tm_hour) && (!extended || literal(&s, ':')) &&
              digits(&s, 2, &tm.tm_min) && (!extended || literal(&s, ':')) &&
              digits(&s, 2, &tm.tm_sec) && fraction(&s, &frac_ns) &&
              zone(&s, &offset_s) && !*s;
    return ok && join(tm, offset_s, frac_ns, out_ns);
}

bool
time_parse_http(const char *s, int64_t *out_ns)
{
    struct tm tm = {0};
    if (strlen(s) != 29) {
        return false;
    }
    const char *month = s + 8;
    for (tm.tm_mon = 1; tm.tm_mon <= 12; tm.tm_mon++) {
        if (memcmp(months[tm.tm_mon - 1], month, 3) == 0) {
            break;
        }
    }
    const char *p = s + 5, *y = s + 12, *h = s + 17;
    bool ok = tm.tm_mon <= 12 && memcmp(s + 3, ", ", 2) == 0 &&
              digits(&p, 2, &tm.tm_mday) && *p == ' ' && month[3] == ' ' &&
              digits(&y, 4, &tm.tm_year) && *y == ' ' && digits(&h, 2, &tm.tm_hour) &&
              literal(&h, ':') && digits(&h, 2, &tm.tm_min) && literal(&h, ':') &&
              digits(&h, 2, &tm.tm_sec) && strcmp(h, " GMT") == 0;
    return ok && join(tm, 0, 0, out_ns);
}
