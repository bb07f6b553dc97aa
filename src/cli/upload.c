#include "cli/upload.h"
#include "cli/api.h"
#include "cli/grid.h"
#include <ctype.h>

struct progress {
    const struct clock *clock;
    const char *name;
    int64_t shown_ns;
};

static bool
show_progress(void *ctx, uint64_t sent, uint64_t total)
{
    struct progress *p = ctx;
    int64_t now = clock_mono(p->clock);
    bool end = sent == total;
    if (!isatty(2) || total == 0 || (!end && now - p->shown_ns < NS_PER_S / 4)) {
        return true;
    }
    p->shown_ns = now;
    char have[32];
    human_bytes((int64_t)sent, have);
    (void)fprintf(stderr, "\ruploading %s: %s, %d %%%s", p->name, have,
                  (int)(sent * 100 / total), end ? "\n" : "  ");
    return true;
}

/* The file's own name, without what a URL would have to encode. */
static const char *
plain_name(struct cli *cli, const char *file)
{
    const char *slash = strrchr(file, '/');
    char *name = arena_strdup(cli->arena, slash ? slash + 1 : file);
    for (char *c = name; *c; c++) {
        if (!isalnum((unsigned char)*c) && *c != '.' && *c != '-') {
            *c = '_';
        }
    }
    return name;
}

bool
upload_file(struct cli *cli, bool as_operator, const char *file, const char **out_url,
            struct err *err)
{
    struct client *client = as_operator ? cli_operator(cli, err) : cli_tenant(cli, err);
    if (!client) {
        return false;
    }
    struct progress progress = {.clock = cli->clock, .name = plain_name(cli, file)};
    const char *target =
        arena_printf(cli->arena, "/%s/uploads?name=%s",
                     as_operator ? "moln" : "moln-data", progress.name);
    struct client_reply reply = {0};
    bool ok = client_upload(client, as_operator ? "moln" : "moln-data", target, file,
                            show_progress, &progress, &reply, err);
    if (ok && (reply.status < 200 || reply.status > 299)) {
        ok = err_set(err, ERR_INVALID, "%s: uploading %s was refused (%d) %.200s",
                     reply.error_code[0] ? reply.error_code : "UploadFailed", file,
                     reply.status, buf_str(&reply.body));
    }
    if (ok) {
        AUTO(json)
        json_t *answer = json_loadb(reply.body.data, reply.body.len, 0, NULL);
        const char *id = json_text(cli->arena, answer, "UploadId");
        *out_url = arena_printf(cli->arena, "moln-upload://%s", id);
        ok = *id || err_set(err, ERR_CORRUPT, "the upload's answer names no upload");
    }
    client_reply_fini(&reply);
    return ok;
}
