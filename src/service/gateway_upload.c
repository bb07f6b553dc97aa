/* gateway_upload.c - files that tenants and operators send, to become images.
 *
 *   PUT /moln-data/uploads?name=FILE   tenants
 *   PUT /moln/uploads?name=FILE        operators
 *
 * The body goes straight to the blob store; its row is written when all of it is there.
 */
#include "base/log.h"
#include "core/id.h"
#include "core/instance_rows.h"
#include "service/gateway_parts.h"
#include "store/blobs.h"

#define OPERATORS_UPLOAD_MAX (UINT64_C(1) << 40)

struct upload {
    struct blob_writer *writer;
    char id[ID_LEN];
    const char *name;
    uint64_t size_bytes; /* As announced. */
    struct row_blob row; /* Made at the end. */
};

enum special
special_of(const char *path)
{
    if (strcmp(path, "/moln-data/uploads") == 0 || strcmp(path, "/moln/uploads") == 0) {
        return SPECIAL_UPLOAD;
    }
    if (str_starts(path, "/moln-data/tunnel/")) {
        return SPECIAL_TUNNEL;
    }
    return str_starts(path, "/moln-data/console/") ? SPECIAL_CONSOLE : SPECIAL_NONE;
}

/* A full disk is the operator's affair, and told to him: nothing is wrong with the
 * request, and it may be tried again. */
static bool
reword(struct visit *visit)
{
    struct err *err = &visit->err;
    if (err->code != ERR_NO_SPACE) {
        return false;
    }
    log_error("request %s: %s", visit->request_id, err->msg);
    return err_set(err, ERR_UNAVAILABLE,
                   "There is no room for uploads now. Try again later, or ask the "
                   "operator of this cloud.");
}

/* ---- quota ----------------------------------------------------------------------- */

/* Whether 'more' bytes fit beside the blobs that the account has. */
static bool
check_quota(struct txn *txn, const struct visit *visit, uint64_t more, struct err *err)
{
    const char *account = visit->who.account;
    if (visit->who.is_operator) {
        return true;
    }
    const void *found;
    const struct row_account key = {.id = account};
    if (!row_get(txn, &row_account_type, &key, &found, err)) {
        return false;
    }
    const struct row_account *row = found;
    int64_t quota_gib = row && row->quota_disk_gib
                            ? row->quota_disk_gib
                            : visit->gateway->config.cloud->default_quota_disk_gib;
    uint64_t used;
    if (!account_blob_bytes(txn, account, &used, err)) {
        return false;
    }
    if (used + more > (uint64_t)quota_gib * GIB) {
        return err_set(
            err, ERR_LIMIT_EXCEEDED,
            "The upload of %" PRIu64 " bytes does not fit into the account's "
            "%" PRId64 " GiB, of which %" PRIu64 " bytes are in use by images.",
            more, quota_gib, used);
    }
    return true;
}

static bool
quota_in_txn(struct txn *txn, void *ctx, struct err *err)
{
    const struct visit *visit = ctx;
    return check_quota(txn, visit, visit->upload->size_bytes, err);
}

/* ---- receiving ------------------------------------------------------------------- */

static bool
read_length(const struct http_request *request, uint64_t *out, struct err *err)
{
    const char *text = http_header(request, "content-length");
    size_t digits = text ? strspn(text, "0123456789") : 0;
    if (!digits || digits > 15 || text[digits]) {
        return err_set(err, ERR_INVALID_PARAMETER,
                       "An upload needs a Content-Length header.");
    }
    *out = strtoull(text, NULL, 10);
    return *out > 0 || err_set(err, ERR_INVALID_PARAMETER, "The upload is empty.");
}

bool
upload_begin(struct visit *visit)
{
    const struct http_request *r = visit->request;
    struct err *err = &visit->err;
    struct params query = {0};
    bool operators = str_starts(r->path, "/moln/");
    if (operators != visit->who.is_operator) {
        return err_set(err, ERR_DENIED, "This path is not yours: %s", r->path);
    }
    if (strcmp(r->method, "PUT") != 0) {
        return err_set(err, ERR_METHOD_NOT_ALLOWED, "Uploads are PUT.");
    }
    if (!visit->gateway->config.blobs) {
        return err_set(err, ERR_UNSUPPORTED_OPERATION, "Uploads are not served here.");
    }
    struct upload *upload = ARENA_NEW(r->arena, struct upload);
    if (!read_length(r, &upload->size_bytes, err) ||
        !params_parse(&query, r->query, strlen(r->query), r->arena, err)) {
        return false;
    }
    upload->name = params_get(&query, "name");
    if (upload->name && strlen(upload->name) > 255) {
        return err_set(err, ERR_INVALID_PARAMETER, "The file's name is too long.");
    }
    visit->upload = upload;
    const struct gateway_config *config = &visit->gateway->config;
    if (!store_read(config->store, r->arena, quota_in_txn, visit, err)) {
        return false;
    }
    if (!blob_store_has_room(config->blobs, upload->size_bytes, err)) {
        return reword(visit);
    }
    id_make(config->rng, "blob", upload->id);
    upload->writer = blob_write_begin(
        config->blobs, upload->id,
        visit->who.is_operator ? OPERATORS_UPLOAD_MAX : upload->size_bytes, err);
    return upload->writer != NULL;
}

bool
upload_chunk(struct visit *visit, const void *data, size_t len)
{
    return !len || blob_write(visit->upload->writer, data, len, &visit->err) ||
           reword(visit);
}

/* ---- the end --------------------------------------------------------------------- */

static bool
record_in_txn(struct txn *txn, void *ctx, struct err *err)
{
    const struct visit *visit = ctx;
    const struct row_blob *row = &visit->upload->row;
    return check_quota(txn, visit, (uint64_t)row->size_bytes, err) &&
           row_insert(txn, &row_blob_type, row, err) && audit_write(txn, visit, err);
}

static bool
commit(struct visit *visit, char sha256[SHA256_HEX_LEN], uint64_t *out_size)
{
    struct upload *upload = visit->upload;
    uint64_t got = blob_write_size(upload->writer);
    if (got != upload->size_bytes) {
        return err_set(&visit->err, ERR_INVALID_PARAMETER,
                       "%" PRIu64 " bytes were announced and %" PRIu64 " came.",
                       upload->size_bytes, got);
    }
    struct blob_writer *writer = take_ptr(&upload->writer);
    return blob_write_commit(writer, out_size, sha256, &visit->err);
}

bool
upload_finish(struct visit *visit, struct http_answer *answer)
{
    struct upload *upload = visit->upload;
    struct arena *arena = visit->request->arena;
    struct store *store = visit->gateway->config.store;
    char sha256[SHA256_HEX_LEN];
    uint64_t size;
    if (!commit(visit, sha256, &size)) {
        return false;
    }
    upload->row = (struct row_blob){
        .id = upload->id,
        .account = visit->who.account,
        .state = "ready",
        .size_bytes = (int64_t)size,
        .sha256 = sha256,
        .created_at = visit->now_ns,
        .upload = true,
        .name = upload->name,
    };
    visit->detail = arena_printf(arena, "%s %" PRIu64 " bytes", upload->id, size);
    if (!store_write(store, arena, record_in_txn, visit, &visit->err)) {
        struct err ignored = {0};
        (void)!blob_delete(visit->gateway->config.blobs, upload->id, &ignored);
        return false;
    }
    visit->recorded = true;
    answer->status = 200;
    answer->content_type = "application/json";
    http_answer_header(answer, "x-amzn-RequestId", visit->request_id);
    buf_printf(&answer->body, "{\"UploadId\":\"%s\",\"SizeBytes\":%" PRIu64 "}\n",
               upload->id, size);
    return true;
}

void
upload_abandon(struct visit *visit)
{
    if (visit->upload) {
        blob_write_abort(take_ptr(&visit->upload->writer));
    }
}
