#include "cli/grid.h"
#include <ctype.h>

void
grid_init(struct grid *grid, const char *const *titles)
{
    *grid = (struct grid){.titles = titles};
}

void
grid_fini(struct grid *grid)
{
    for (size_t i = 0; i < grid->cells.count; i++) {
        free(grid->cells.items[i]);
    }
    VEC_FREE(&grid->cells);
}

void
grid_put(struct grid *grid, const char *text)
{
    char *cell = xstrdup(str_empty(text) ? "-" : text);
    for (char *c = cell; *c; c++) {
        bool c1 = c[0] == '\xc2' && (unsigned char)c[1] >= 0x80 &&
                  (unsigned char)c[1] < 0xa0; /* U+0080 to U+009F: ESC [ in one. */
        if (iscntrl((unsigned char)*c)) {
            *c = '?'; /* A tenant's text must not steer the terminal. */
        } else if (c1) {
            *c++ = '?';
            *c = '?';
        }
    }
    VEC_PUSH(&grid->cells, cell);
}

void
grid_printf(struct grid *grid, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    grid_put(grid, text);
}

/* Characters, not bytes, of UTF-8. */
static size_t
width(const char *s)
{
    size_t n = 0;
    for (; *s; s++) {
        n += ((unsigned char)*s & 0xc0) != 0x80;
    }
    return n;
}

static void
print_cell(const char *text, size_t wide, bool last, FILE *out)
{
    (void)fputs(text, out);
    for (size_t n = width(text); !last && n < wide + 2; n++) {
        (void)fputc(' ', out);
    }
    if (last) {
        (void)fputc('\n', out);
    }
}

void
grid_print(const struct grid *grid, FILE *out)
{
    size_t widths[GRID_COLUMNS] = {0};
    size_t columns = 0;
    for (; grid->titles[columns] && columns < GRID_COLUMNS; columns++) {
        widths[columns] = width(grid->titles[columns]);
    }
    for (size_t i = 0; i < grid->cells.count; i++) {
        size_t column = i % columns;
        widths[column] = MAX(widths[column], width(grid->cells.items[i]));
    }
    for (size_t c = 0; c < columns; c++) {
        print_cell(grid->titles[c], widths[c], c + 1 == columns, out);
    }
    for (size_t i = 0; i < grid->cells.count; i++) {
        size_t column = i % columns;
        print_cell(grid->cells.items[i], widths[column], column + 1 == columns, out);
    }
}

void
human_bytes(int64_t bytes, char out[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double n = (double)bytes;
    size_t unit = 0;
    while (n >= 1024 && unit + 1 < ARRAY_LEN(units)) {
        n /= 1024;
        unit++;
    }
    bool whole = unit == 0 || n >= 100 || n - (double)(int64_t)n < 0.05;
    (void)snprintf(out, 32, "%.*f %s", whole ? 0 : 1, n, units[unit]);
}

void
human_age(int64_t then_ns, int64_t now_ns, char out[32])
{
    int64_t s = (now_ns - then_ns) / NS_PER_S;
    if (then_ns <= 0) {
        (void)snprintf(out, 32, "-");
    } else if (s < 120) {
        (void)snprintf(out, 32, "%" PRId64 " s", MAX(s, 0));
    } else if (s < 2 * 3600) {
        (void)snprintf(out, 32, "%" PRId64 " min", s / 60);
    } else if (s < 2 * 86400) {
        (void)snprintf(out, 32, "%" PRId64 " h", s / 3600);
    } else {
        (void)snprintf(out, 32, "%" PRId64 " d", s / 86400);
    }
}
