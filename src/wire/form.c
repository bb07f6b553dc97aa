/* form.c - parameters of the query and ec2 protocols into a struct.
 *
 * The dotted names ("Filter.1.Value.2") are first made a tree, which is then read by
 * descriptor: lists may come in any order, and what nobody asked for is left over. */
#include "base/crypto.h"
#include "base/timefmt.h"
#include "wire/protocol.h"
#include "wire/text.h"
#include <errno.h>
#include <strings.h>

struct node {
    const char *segment; /* Between two dots; not NUL-terminated. */
    size_t segment_len;
    const struct param *leaf;  /* The parameter that ends here, or NULL. */
    const struct param *first; /* Some parameter through here: for errors. */
    struct node *children, *last, *next;
    size_t child_count;
    struct node *
        *index;        /* Children by a hash of their segment, once there are many... */
    size_t index_size; /* ...with this many slots: a power of two. */
};

#define INDEX_FROM 16 /* Children, from which on an index pays. */

struct form {
    enum protocol protocol;
    struct arena *arena;
    struct err *err;
};

static bool read_struct(struct form *form, const struct desc *desc, struct node *node,
                        void *out);

/* ---- the tree -------------------------------------------------------------------- */

/* Where the child of that name is in the index, or would go; never full. */
static struct node **
index_slot(const struct node *node, const char *segment, size_t len)
{
    uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (uint8_t)segment[i]) * UINT64_C(1099511628211);
    }
    for (size_t i = (size_t)(hash ^ hash >> 32);; i++) {
        struct node **slot = &node->index[i & (node->index_size - 1)];
        if (!*slot || ((*slot)->segment_len == len &&
                       memcmp((*slot)->segment, segment, len) == 0)) {
            return slot;
        }
    }
}

static struct node *
child_of(struct node *node, const char *segment, size_t len)
{
    struct node *last = node->last;
    if (last && last->segment_len == len && memcmp(last->segment, segment, len) == 0) {
        return last; /* Parameters come in order, nearly always. */
    }
    struct node *child = node->index ? *index_slot(node, segment, len) : node->children;
    for (; child; child = node->index ? NULL : child->next) {
        if (child->segment_len == len && memcmp(child->segment, segment, len) == 0) {
            return child;
        }
    }
    return NULL;
}

/* Keeps an index of a node's children once there are many: names may come in any order,
 * and thousands of them must not cost their square. */
static void
child_index(struct node *node, struct node *child, struct arena *arena)
{
    if (node->child_count < INDEX_FROM) {
        return;
    }
    if (node->child_count * 2 < node->index_size) {
        *index_slot(node, child->segment, child->segment_len) = child;
        return;
    }
    node->index_size = node->index_size ? node->index_size * 4 : INDEX_FROM * 8;
    node->index = ARENA_ARRAY(arena, node->index_size, struct node *);
    for (child = node->children; child; child = child->next) {
        *index_slot(node, child->segment, child->segment_len) = child;
    }
}

static struct node *
child_make(struct node *node, const char *segment, size_t len,
           const struct param *param, struct arena *arena)
{
    struct node *child = child_of(node, segment, len);
    if (child) {
        return child;
    }
    child = ARENA_NEW(arena, struct node);
    child->segment = segment;
    child->segment_len = len;
    child->first = param;
    if (node->last) {
        node->last->next = child;
    } else {
        node->children = child;
    }
    node->last = child;
    node->child_count++;
    child_index(node, child, arena);
    return child;
}

static bool
tree_add(struct form *form, struct node *root, const struct param *param)
{
    struct node *node = root;
    unsigned depth = 0;
    for (const char *at = param->name;;) {
        size_t len = strcspn(at, ".");
        if (!len || ++depth > 3 * PROTOCOL_DEPTH_MAX) {
            return err_set(form->err, ERR_UNKNOWN_PARAMETER,
                           "The parameter %.128s is not recognized", param->name);
        }
        node = child_make(node, at, len, param, form->arena);
        if (!at[len]) {
            break;
        }
        at += len + 1;
    }
    if (node->leaf) {
        return err_set(form->err, ERR_INVALID_PARAMETER,
                       "The parameter %.128s may only be specified once", param->name);
    }
    node->leaf = param;
    return true;
}

/* ---- reading it ------------------------------------------------------------------ */

static bool
unknown(struct form *form, const struct node *node)
{
    return err_set(form->err, ERR_UNKNOWN_PARAMETER,
                   "The parameter %.128s is not recognized", node->first->name);
}

static bool
wrong(struct form *form, const struct param *param, const char *expected)
{
    return err_set(form->err,
                   form->protocol == PROTOCOL_EC2 ? ERR_INVALID_PARAMETER_VALUE
                                                  : ERR_VALIDATION_ERROR,
                   "Value (%.64s) for parameter %.128s is invalid. %s", param->value,
                   param->name, expected);
}

static bool
read_int(const char *s, int64_t *out)
{
    char *end;
    errno = 0;
    long long value = strtoll(s, &end, 10);
    if (errno || end == s || *end || *s == ' ' || *s == '\t' || *s == '\n') {
        return false;
    }
    *out = value;
    return true;
}

static bool
read_f64(const char *s, double *out)
{
    char *end;
    errno = 0;
    double value = strtod(s, &end);
    if (errno || end == s || *end || strspn(s, "+-.0123456789eE") != strlen(s)) {
        return false;
    }
    *out = value;
    return true;
}

/* One value that is neither a structure nor a list. */
static bool
read_scalar(struct form *form, enum desc_kind kind, struct node *node, void *out)
{
    const struct param *p = node->leaf;
    if (!p || node->children) {
        return unknown(form, node->children ? node->children : node);
    }
    switch (kind) {
    case DESC_BOOL:
        *(bool *)out = strcasecmp(p->value, "true") == 0 || strcmp(p->value, "1") == 0;
        return *(bool *)out || strcasecmp(p->value, "false") == 0 ||
               strcmp(p->value, "0") == 0 || wrong(form, p, "Invalid boolean value");
    case DESC_INT:
        return read_int(p->value, out) || wrong(form, p, "Expected an integer");
    case DESC_F64:
        return read_f64(p->value, out) || wrong(form, p, "Expected a number");
    case DESC_TIME:
        return time_parse(p->value, out) || wrong(form, p, "Expected a date");
    case DESC_STR:
        if (!text_is_clean(p->value, p->value_len)) {
            return wrong(form, p, "It has characters that XML cannot carry");
        }
        *(const char **)out = p->value;
        return true;
    case DESC_BLOB: {
        struct blob *blob = out;
        uint8_t *data;
        if (!base64_decode(form->arena, p->value, p->value_len, &data, &blob->len,
                           form->err)) {
            return wrong(form, p, "Expected base64");
        }
        blob->data = data;
        return true;
    }
    default:
        return unknown(form, node);
    }
}

/* A child's place in its list: "1" is the first. 0: it is no number. */
static size_t
index_of(const struct node *node)
{
    size_t index = 0;
    if (node->segment_len > 5 || node->segment[0] == '0') {
        return 0;
    }
    for (size_t i = 0; i < node->segment_len; i++) {
        if (node->segment[i] < '0' || node->segment[i] > '9') {
            return 0;
        }
        index = index * 10 + (size_t)(node->segment[i] - '0');
    }
    return index;
}

static int
compare_index(const void *a, const void *b)
{
    size_t left = index_of(*(struct node *const *)a);
    size_t right = index_of(*(struct node *const *)b);
    return left < right ? -1 : left > right;
}

/* The list's items in the order of their numbers; gaps close up, as AWS does it. */
static struct node **
sorted_items(struct form *form, struct node *node)
{
    struct node **items =
        ARENA_ARRAY(form->arena, node->child_count + 1, struct node *);
    size_t count = 0, before = 0;
    bool sorted = true;
    for (struct node *child = node->children; child; child = child->next) {
        size_t index = index_of(child);
        if (!index) {
            (void)unknown(form, child);
            return NULL;
        }
        if (index > PROTOCOL_LIST_MAX) {
            (void)err_set(form->err, ERR_INVALID_PARAMETER_VALUE,
                          "The parameter %.128s is past the limit of %d items",
                          child->first->name, PROTOCOL_LIST_MAX);
            return NULL;
        }
        sorted = sorted && index > before;
        before = index;
        items[count++] = child;
    }
    if (!sorted) {
        qsort(items, count, sizeof *items, compare_index);
    }
    return items;
}

static bool
read_map_entry(struct form *form, struct node *node, struct desc_pair *out)
{
    for (struct node *child = node->children; child; child = child->next) {
        const char **slot =
            child->segment_len == 3 && !memcmp(child->segment, "key", 3) ? &out->key
            : child->segment_len == 5 && !memcmp(child->segment, "value", 5)
                ? &out->value
                : NULL;
        if (!slot) {
            return unknown(form, child);
        }
        if (!read_scalar(form, DESC_STR, child, slot)) {
            return false;
        }
    }
    return (out->key && out->value) || unknown(form, node);
}

static bool
read_list(struct form *form, const struct desc_field *f, struct node *node,
          struct desc_list *out)
{
    bool map = f->kind == DESC_MAP;
    if (form->protocol == PROTOCOL_QUERY && !(f->flags & DESC_FLATTENED)) {
        if (node->leaf && !*node->leaf->value && !node->children) {
            out->items = arena_alloc(form->arena, 1); /* "Names=": there, and empty. */
            return true;
        }
        const char *word = map ? "entry" : f->item_name;
        struct node *inner = child_of(node, word, strlen(word));
        if (!inner || node->child_count > 1) {
            return unknown(form, node->children ? node->children : node);
        }
        node = inner;
    }
    if (node->leaf || !node->children) {
        return unknown(form, node);
    }
    struct node **items = sorted_items(form, node);
    if (!items) {
        return false;
    }
    size_t size =
        map ? sizeof(struct desc_pair) : desc_kind_size(f->item_kind, f->type);
    char *values = arena_array(form->arena, node->child_count, size);
    for (size_t i = 0; i < node->child_count; i++) {
        void *at = values + i * size;
        bool ok = map ? read_map_entry(form, items[i], at)
                  : f->item_kind == DESC_STRUCT
                      ? read_struct(form, f->type, items[i], at)
                      : read_scalar(form, f->item_kind, items[i], at);
        if (!ok) {
            return false;
        }
    }
    out->items = values;
    out->count = node->child_count;
    return true;
}

static const struct desc_field *
field_of(const struct desc *desc, const struct node *node)
{
    for (uint32_t i = 0; i < desc->field_count; i++) {
        const struct desc_field *f = &desc->fields[i];
        const char *name = f->in_name ? f->in_name : f->name;
        if (strncmp(name, node->segment, node->segment_len) == 0 &&
            !name[node->segment_len]) {
            return f;
        }
    }
    return NULL;
}

static bool
read_field(struct form *form, const struct desc_field *f, struct node *node,
           void *object)
{
    void *at = desc_at(f, object);
    switch (f->kind) {
    case DESC_STRUCT: {
        void *inner = arena_alloc(form->arena, f->type->size);
        if (!read_struct(form, f->type, node, inner)) {
            return false;
        }
        *(void **)at = inner;
        return true;
    }
    case DESC_LIST:
    case DESC_MAP:
        return read_list(form, f, node, at);
    default:
        if (!read_scalar(form, f->kind, node, at)) {
            return false;
        }
        desc_set_present(f, object);
        return true;
    }
}

static bool
read_struct(struct form *form, const struct desc *desc, struct node *node, void *out)
{
    if (node->leaf) {
        return unknown(form, node);
    }
    for (struct node *child = node->children; child; child = child->next) {
        const struct desc_field *f = field_of(desc, child);
        if (!f) {
            return unknown(form, child);
        }
        if (!read_field(form, f, child, out)) {
            return false;
        }
    }
    return true;
}

/* Parameters that are the protocol's own. */
static bool
belongs_to_protocol(const struct param *p)
{
    return strcmp(p->name, "Action") == 0 || strcmp(p->name, "Version") == 0 ||
           str_starts(p->name, "X-Amz-");
}

bool
form_decode(enum protocol protocol, const struct desc *desc,
            const struct params *params, struct arena *arena, void *out,
            struct err *err)
{
    struct form form = {.protocol = protocol, .arena = arena, .err = err};
    struct node root = {0};
    for (size_t i = 0; i < params->count; i++) {
        const struct param *p = &params->items[i];
        if (!belongs_to_protocol(p) && !tree_add(&form, &root, p)) {
            return false;
        }
    }
    memset(out, 0, desc->size);
    return read_struct(&form, desc, &root, out);
}
