/* tree.c - leaves, listings and versions: see tree.h. */
#include "node/metadata/tree.h"
#include "link/records.h"
#include "node/metadata/http.h"
#include "node/metadata/metadata.h"

#define VERSIONS_MAX 64

struct tree {
    const struct link_metadata_leaf **leaves; /* By path. */
    size_t leaf_count;
    const char **versions; /* Sorted, without latest. */
    size_t version_count;
};

static int
leaf_order(const void *a, const void *b)
{
    const struct link_metadata_leaf *const *x = a, *const *y = b;
    return strcmp((*x)->path, (*y)->path);
}

static int
text_order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool
within_bounds(const struct link_metadata *want, struct err *err)
{
    size_t bytes = 0;
    if (want->leaves.count > METADATA_LEAVES_MAX ||
        want->versions.count > VERSIONS_MAX) {
        return err_set(err, ERR_TOO_LARGE, "metadata: too many leaves or versions");
    }
    for (size_t i = 0; i < want->leaves.count; i++) {
        const struct link_metadata_leaf *leaf = &want->leaves.items[i];
        size_t len = leaf->path ? strlen(leaf->path) : 0;
        if (len == 0 || len >= HTTP_PATH_MAX || leaf->path[0] == '/' ||
            strstr(leaf->path, "//")) {
            return err_set(err, ERR_INVALID, "metadata: bad path of a leaf");
        }
        if (leaf->type && strpbrk(leaf->type, "\r\n")) {
            return err_set(err, ERR_INVALID, "metadata: bad type of a leaf");
        }
        bytes += len + leaf->value.len;
    }
    for (size_t i = 0; i < want->versions.count; i++) {
        const char *version = want->versions.items[i];
        if (str_empty(version) || strlen(version) > 16 || strchr(version, '/')) {
            return err_set(err, ERR_INVALID, "metadata: bad version");
        }
    }
    return bytes <= METADATA_TREE_BYTES_MAX ||
           err_set(err, ERR_TOO_LARGE, "metadata: %zu bytes of documents", bytes);
}

struct tree *
tree_create(struct arena *arena, const struct link_metadata *want, struct err *err)
{
    if (!within_bounds(want, err)) {
        return NULL;
    }
    struct tree *tree = ARENA_NEW(arena, struct tree);
    tree->leaf_count = want->leaves.count;
    tree->leaves =
        ARENA_ARRAY(arena, want->leaves.count + 1, const struct link_metadata_leaf *);
    for (size_t i = 0; i < tree->leaf_count; i++) {
        tree->leaves[i] = &want->leaves.items[i];
    }
    qsort(tree->leaves, tree->leaf_count, sizeof tree->leaves[0], leaf_order);
    tree->version_count = want->versions.count;
    tree->versions = ARENA_ARRAY(arena, want->versions.count + 1, const char *);
    for (size_t i = 0; i < tree->version_count; i++) {
        tree->versions[i] = want->versions.items[i];
    }
    qsort(tree->versions, tree->version_count, sizeof tree->versions[0], text_order);
    return tree;
}

static const struct link_metadata_leaf *
find_leaf(const struct tree *tree, const char *path)
{
    struct link_metadata_leaf key = {.path = path};
    const struct link_metadata_leaf *at = &key;
    const struct link_metadata_leaf **found = bsearch(
        &at, tree->leaves, tree->leaf_count, sizeof tree->leaves[0], leaf_order);
    return found ? *found : NULL;
}

/* Replaces a version by latest; false: no such version. */
static bool
to_latest(const struct tree *tree, const char *path, char out[HTTP_PATH_MAX])
{
    size_t len = strcspn(path, "/");
    if (len == 6 && memcmp(path, "latest", 6) == 0) {
        (void)snprintf(out, HTTP_PATH_MAX, "%s", path);
        return true;
    }
    for (size_t i = 0; i < tree->version_count; i++) {
        if (strlen(tree->versions[i]) == len &&
            memcmp(path, tree->versions[i], len) == 0) {
            int n = snprintf(out, HTTP_PATH_MAX, "latest%s", path + len);
            return n > 0 && n < HTTP_PATH_MAX;
        }
    }
    return false;
}

static bool
list_versions(const struct tree *tree, struct buf *out)
{
    for (size_t i = 0; i < tree->version_count; i++) {
        buf_printf(out, "%s\n", tree->versions[i]);
    }
    buf_puts(out, "latest");
    return true;
}

/* One name a line; folders end in '/', but not those of a version itself. 'folder' ends
 * in '/'. */
static bool
list_folder(const struct tree *tree, const char *folder, struct buf *out)
{
    size_t len = strlen(folder), last_len = 0;
    const char *last = NULL;
    bool top = str_eq(folder, "latest/");
    for (size_t i = 0; i < tree->leaf_count; i++) {
        const char *path = tree->leaves[i]->path;
        if (strncmp(path, folder, len) != 0 || path[len] == '\0') {
            continue;
        }
        const char *name = path + len;
        size_t name_len = strcspn(name, "/");
        if (last && name_len == last_len && memcmp(name, last, name_len) == 0) {
            continue; /* Sorted: leaves of one folder stand together. */
        }
        buf_printf(out, "%s%.*s%s", last ? "\n" : "", (int)name_len, name,
                   name[name_len] == '/' && !top ? "/" : "");
        last = name;
        last_len = name_len;
    }
    return last != NULL;
}

bool
tree_find(const struct tree *tree, const char *path, struct buf *out,
          const char **out_type)
{
    char real[HTTP_PATH_MAX + 1];
    *out_type = "text/plain";
    if (path[0] == '\0') {
        return list_versions(tree, out);
    }
    if (!to_latest(tree, path, real)) {
        return false;
    }
    const struct link_metadata_leaf *leaf = find_leaf(tree, real);
    size_t len = strlen(real);
    if (!leaf && len > 0 && real[len - 1] != '/') {
        real[len] = '/'; /* A folder asked for without its slash. */
        real[len + 1] = '\0';
        leaf = find_leaf(tree, real);
    }
    if (leaf) {
        buf_put(out, leaf->value.data, leaf->value.len);
        *out_type = str_empty(leaf->type) ? "text/plain" : leaf->type;
        return true;
    }
    return list_folder(tree, real, out);
}
