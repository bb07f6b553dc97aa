/* flow_records.c - ReadFlowLog: the files of control/flow_files.h, read in bites.
 *
 * A token is the file's name and how far it was read: "2026-11-26T13Z.log/4096". */
#include "base/file.h"
#include "service/moln/operators.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#define BITE (128 * KIB)
#define NAME_LEN 18 /* Of "2026-11-26T13Z.log" */
#define LINES_MAX 2000

struct place {
    char name[NAME_LEN + 1]; /* Empty: before the first. */
    int64_t offset;
};

static bool
is_name(const char *text)
{
    static const char shape[] = "0000-00-00T00Z.log";
    for (size_t i = 0; i < NAME_LEN; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';
        if (shape[i] == '0' ? !digit : text[i] != shape[i]) {
            return false;
        }
    }
    return true;
}

static bool
token_read(const char *token, struct place *out, struct err *err)
{
    char *end = NULL;
    *out = (struct place){0};
    if (!token) {
        return true;
    }
    if (strlen(token) > NAME_LEN + 1 && is_name(token) && token[NAME_LEN] == '/') {
        errno = 0;
        out->offset = strtoll(token + NAME_LEN + 1, &end, 10);
        memcpy(out->name, token, NAME_LEN);
    }
    return (end && *end == '\0' && errno == 0 && out->offset >= 0) ||
           err_set(err, ERR_VALIDATION, "NextToken is none of ours");
}

/* The log's folder, whosever it is; NULL: nothing has been recorded. */
static const char *
folder_of(struct call *call, const char *id)
{
    const char *found = NULL;
    const char *root = call->config->flow_logs_dir;
    DIR *dir = root ? opendir(root) : NULL;
    for (struct dirent *e; dir && !found && (e = readdir(dir)) != NULL;) {
        const char *path = arena_printf(call->arena, "%s/%s/%s", root, e->d_name, id);
        found = e->d_name[0] != '.' && file_exists(path) ? path : NULL;
    }
    if (dir) {
        (void)closedir(dir);
    }
    return found;
}

/* The first file not before 'from'; with 'after', the first behind it. False: none. */
static bool
file_next(const char *folder, const char *from, bool after, char out[NAME_LEN + 1])
{
    DIR *dir = opendir(folder);
    bool found = false;
    char best[NAME_LEN + 1] = "";
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        int order = strcmp(e->d_name, from);
        if (strlen(e->d_name) == NAME_LEN && is_name(e->d_name) &&
            (after ? order > 0 : order >= 0) &&
            (!found || strcmp(e->d_name, best) < 0)) {
            memcpy(best, e->d_name, sizeof best);
            found = true;
        }
    }
    if (dir) {
        (void)closedir(dir);
    }
    if (found) {
        memcpy(out, best, sizeof best);
    }
    return found;
}

/* A bite of whole lines from 'place', which is moved behind them; the file's first line is
 * its fields' names. */
static bool
read_bite(struct call *call, const char *folder, struct place *place,
          struct moln_read_flow_log_response *out, struct err *err)
{
    AUTO(free) char *path = xasprintf("%s/%s", folder, place->name);
    AUTO(free) char *bite = xmalloc(BITE + 1);
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : pread(fd, bite, BITE, 0);
    if (n < 0) {
        return err_sys(err, errno, "read a flow log's file");
    }
    bite[n] = '\0';
    size_t first = strcspn(bite, "\n");
    out->fields = arena_strndup(call->arena, bite, first);
    place->offset = MAX(place->offset, (int64_t)first + 1);
    n = pread(fd, bite, BITE, place->offset);
    if (n < 0) {
        return err_sys(err, errno, "read a flow log's file");
    }
    bite[n] = '\0';
    const char **lines = ARENA_ARRAY(call->arena, LINES_MAX, const char *);
    size_t count = 0;
    char *at = bite;
    for (char *end; count < LINES_MAX && (end = strchr(at, '\n')) != NULL;
         at = end + 1) {
        lines[count++] = arena_strndup(call->arena, at, (size_t)(end - at));
    }
    place->offset += at - bite;
    out->records.items = lines;
    out->records.count = count;
    return true;
}

/* Of one that stands nothing may have been recorded yet. */
static bool
check_log(struct call *call, const char *id, struct err *err)
{
    struct row_list list;
    if (!row_all(call, &row_flow_log_type, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        if (str_eq(((const struct row_flow_log *)list.rows[i])->id, id)) {
            return true;
        }
    }
    return err_no(err, "flow log", id);
}

bool
moln_read_flow_log(struct call *call, const struct moln_read_flow_log_request *in,
                   struct moln_read_flow_log_response *out, struct err *err)
{
    struct place place;
    if (!token_read(in->next_token, &place, err)) {
        return false;
    }
    const char *folder = folder_of(call, in->flow_log_id);
    out->complete = out->has_complete = true;
    out->next_token = in->next_token;
    if (!folder && !check_log(call, in->flow_log_id, err)) {
        return false;
    }
    if (!folder || !file_next(folder, place.name, false, place.name)) {
        return true;
    }
    if (in->next_token && strncmp(place.name, in->next_token, NAME_LEN) != 0) {
        place.offset = 0; /* The file of the token has gone. */
    }
    if (!read_bite(call, folder, &place, out, err)) {
        return false;
    }
    if (out->records.count == 0 && file_next(folder, place.name, true, place.name)) {
        place.offset = 0; /* An older hour is done: nothing more is written there. */
        if (!read_bite(call, folder, &place, out, err)) {
            return false;
        }
    }
    out->complete = out->records.count == 0;
    out->next_token =
        arena_printf(call->arena, "%s/%" PRId64, place.name, place.offset);
    return true;
}
