#include "wire/text.h"

/* The length of the clean character at 's', or 0. */
static size_t
clean_at(const char *s, size_t len)
{
    const uint8_t *p = (const uint8_t *)s;
    if (p[0] < 0x80) {
        return p[0] >= 0x20 || p[0] == '\t' || p[0] == '\n' || p[0] == '\r';
    }
    size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n > len) {
        return 0;
    }
    uint32_t c = p[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
        c = c << 6 | (p[i] & 0x3f);
    }
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    bool bad = c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ||
               c == 0xfffe || c == 0xffff;
    return bad ? 0 : n;
}

bool
text_is_clean(const char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = clean_at(s + i, len - i);
        if (!n) {
            return false;
        }
        i += n;
    }
    return true;
}

size_t
text_length(const char *s)
{
    size_t count = 0;
    for (; *s; s++) {
        count += (*s & 0xc0) != 0x80;
    }
    return count;
}

static const char *
escape_of(char c)
{
    switch (c) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\r':
        return "&#xD;";
    default:
        return NULL;
    }
}

/* What may stand in XML as it is, one byte at a time. */
static const bool plain[256] = {
    [' '] = true,          ['!'] = true, ['#' ... '%'] = true,
    ['\'' ... ';'] = true, ['='] = true, ['?' ... '~'] = true,
};

void
text_put_xml(struct buf *out, const char *s)
{
    for (;;) {
        size_t len = 0;
        while (plain[(uint8_t)s[len]]) {
            len++;
        }
        buf_put(out, s, len);
        s += len;
        if (!*s) {
            return;
        }
        size_t n = clean_at(s, strnlen(s, 4));
        const char *escape = n ? escape_of(*s) : "\xef\xbf\xbd";
        if (escape) {
            buf_puts(out, escape);
        } else {
            buf_put(out, s, n);
        }
        s += MAX(n, 1);
    }
}

/* ---- times ------------------------------------------------------------------------------ */

static char *
put_digits(char *at, unsigned value, int count)
{
    for (int i = count - 1; i >= 0; i--) {
        at[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return at + count;
}

/* Year, month and day of a day counted from 1970-01-01 (Hinnant's days_from_civil, turned
 * round); years from 0 on. */
static char *
put_date(char *at, int64_t day)
{
    int64_t z = day + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    unsigned doe = (unsigned)(z - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned mp = (5 * doy + 2) / 153;
    unsigned month = mp < 10 ? mp + 3 : mp - 9;
    int64_t year = (int64_t)yoe + era * 400 + (month <= 2);
    at = put_digits(at, (unsigned)year % 10000, 4);
    *at++ = '-';
    at = put_digits(at, month, 2);
    *at++ = '-';
    return put_digits(at, doy - (153 * mp + 2) / 5 + 1, 2);
}

void
text_put_time(struct buf *out, int64_t ns)
{
    int64_t ms = ns / NS_PER_MS - (ns % NS_PER_MS < 0);
    int64_t day = ms / 86400000 - (ms % 86400000 < 0);
    unsigned rest = (unsigned)(ms - day * 86400000);
    char text[32], *at = put_date(text, day);
    *at++ = 'T';
    at = put_digits(at, rest / 3600000, 2);
    *at++ = ':';
    at = put_digits(at, rest / 60000 % 60, 2);
    *at++ = ':';
    at = put_digits(at, rest / 1000 % 60, 2);
    *at++ = '.';
    at = put_digits(at, rest % 1000, 3);
    *at++ = 'Z';
    buf_put(out, text, (size_t)(at - text));
}
