/* image.c - see image.h.
 *
 * Pins are counted under one lock. Shares of nodes and rows are counted without any:
 * only the writer touches them, so a version that its last reader lets go of is put on
 * a list for the writer to free. After the image is closed, whoever lets go frees. */
#include "store/image.h"
#include "base/map.h"
#include "store/block.h"
#include "store/tree.h"
#include <pthread.h>

struct version {
    struct image *image;
    struct version *next_dead;
    unsigned pins;
    VEC(const void *)
    removed; /* Rows taken out by this version, kept while it lives. */
    struct tree_node *roots[]; /* Of each order of each hot table. */
};

struct image {
    pthread_mutex_t lock;
    struct version *current;
    struct version *dead;
    size_t versions; /* Not freed yet. */
    bool closed;
    size_t tree_count;
    unsigned first_tree[]; /* By table id. */
};

static struct version *
version_new(struct image *image)
{
    struct version *v = xcalloc(1, sizeof *v + image->tree_count * sizeof v->roots[0]);
    v->image = image;
    v->pins = 1;
    return v;
}

struct image *
image_create(const struct table *tables, size_t count)
{
    struct image *image =
        xcalloc(1, sizeof *image + count * sizeof image->first_tree[0]);
    pthread_mutex_init(&image->lock, NULL);
    for (size_t i = 0; i < count; i++) {
        image->first_tree[i] = (unsigned)image->tree_count;
        image->tree_count += tables[i].hot ? tables[i].order_count : 0;
    }
    image->current = version_new(image);
    image->versions = 1;
    return image;
}

static void
version_free(struct version *v)
{
    for (size_t i = 0; i < v->image->tree_count; i++) {
        tree_unref(v->roots[i]);
    }
    for (size_t i = 0; i < v->removed.count; i++) {
        block_unref(v->removed.items[i]);
    }
    VEC_FREE(&v->removed);
    free(v);
}

static void
free_dead(struct image *image, struct version *dead)
{
    while (dead) {
        struct version *next = dead->next_dead;
        version_free(dead);
        image->versions--;
        dead = next;
    }
}

/* With the lock held. */
static void
unpin(struct image *image, struct version *v)
{
    if (--v->pins == 0) {
        v->next_dead = image->dead;
        image->dead = v;
    }
}

/* After the last version of a closed image, the image itself. Lets go of the lock. */
static void
unlock(struct image *image)
{
    bool last = false;
    if (image->closed) {
        free_dead(image, image->dead);
        image->dead = NULL;
        last = image->versions == 0;
    }
    pthread_mutex_unlock(&image->lock);
    if (last) {
        pthread_mutex_destroy(&image->lock);
        free(image);
    }
}

void
image_close(struct image *image)
{
    if (image) {
        pthread_mutex_lock(&image->lock);
        image->closed = true;
        unpin(image, image->current);
        unlock(image);
    }
}

struct version *
image_pin(struct image *image)
{
    pthread_mutex_lock(&image->lock);
    struct version *v = image->current;
    v->pins++;
    pthread_mutex_unlock(&image->lock);
    return v;
}

void
version_pin(struct version *v)
{
    pthread_mutex_lock(&v->image->lock);
    v->pins++;
    pthread_mutex_unlock(&v->image->lock);
}

void
version_unpin(void *version)
{
    struct version *v = version;
    struct image *image = v->image;
    pthread_mutex_lock(&image->lock);
    unpin(image, v);
    unlock(image);
}

struct version *
version_blank(struct image *image)
{
    struct version *v = version_new(image);
    pthread_mutex_lock(&image->lock);
    image->versions++;
    pthread_mutex_unlock(&image->lock);
    return v;
}

struct version *
version_fork(const struct version *base)
{
    struct version *v = version_blank(base->image);
    for (size_t i = 0; i < base->image->tree_count; i++) {
        v->roots[i] = base->roots[i];
        tree_ref(v->roots[i]);
    }
    return v;
}

void
image_publish(struct image *image, struct version *version)
{
    pthread_mutex_lock(&image->lock);
    version->pins++;
    unpin(image, image->current);
    image->current = version;
    pthread_mutex_unlock(&image->lock);
}

void
image_collect(struct image *image)
{
    pthread_mutex_lock(&image->lock);
    struct version *dead = image->dead;
    image->dead = NULL;
    pthread_mutex_unlock(&image->lock);
    size_t freed = 0;
    for (struct version *v = dead, *next; v; v = next) {
        next = v->next_dead;
        version_free(v);
        freed++;
    }
    pthread_mutex_lock(&image->lock);
    image->versions -= freed;
    pthread_mutex_unlock(&image->lock);
}

/* ---- rows ------------------------------------------------------------------------ */

static struct tree_node *const *
roots_of(const struct version *v, const struct table *table)
{
    return v->roots + v->image->first_tree[table->type->id];
}

const void *
version_get(const struct version *v, const struct table *table, const void *key)
{
    const struct order *order = &table->orders[0];
    return tree_find(roots_of(v, table)[0], order, order->count, key);
}

void
version_list(const struct version *v, const struct table *table,
             const struct row_query *query, struct arena *arena, struct row_list *out)
{
    const struct order *order = table_order(table, query->index);
    tree_list(roots_of(v, table)[order - table->orders], order, query, arena, out);
}

const void *
version_rival(const struct version *v, const struct table *table, const void *row)
{
    for (unsigned i = 1; i < table->order_count; i++) {
        const struct order *order = &table->orders[i];
        if (!order->unique || !order_filled(order, row)) {
            continue;
        }
        const void *found = tree_find(roots_of(v, table)[i], order, order->own, row);
        if (found &&
            order_compare(&table->orders[0], table->orders[0].count, found, row) != 0) {
            return found;
        }
    }
    return NULL;
}

/* One share of a row taken out stays with the version. */
static void
keep_removed(struct version *v, const void *row)
{
    VEC_PUSH(&v->removed, row);
}

/* Puts a row of the image's own in. */
static const void *
put_block(struct version *v, const struct table *table, const void *fresh)
{
    struct tree_node **roots = v->roots + v->image->first_tree[table->type->id];
    const void *old = tree_put(&roots[0], &table->orders[0], fresh);
    for (unsigned i = 1; i < table->order_count; i++) {
        const struct order *order = &table->orders[i];
        const void *replaced = NULL;
        if (old && order_compare(order, order->count, old, fresh) != 0) {
            replaced = tree_del(&roots[i], order, old);
            (void)tree_put(&roots[i], order, fresh);
        } else {
            replaced = tree_put(&roots[i], order, fresh);
        }
        if (replaced) {
            block_unref(replaced);
        }
    }
    if (old) {
        keep_removed(v, old);
    }
    return old;
}

const void *
version_put(struct version *v, const struct table *table, const void *row,
            const void **out_old)
{
    const void *fresh = block_new(table, row);
    const void *old = put_block(v, table, fresh);
    block_unref(fresh); /* The trees hold it now. */
    *out_old = old;
    return fresh;
}

void
version_undo(struct version *v, const struct table *table, const void *row,
             const void *old)
{
    if (old) {
        (void)put_block(v, table, old);
    } else {
        (void)version_del(v, table, row);
    }
}

const void *
version_del(struct version *v, const struct table *table, const void *key)
{
    struct tree_node **roots = v->roots + v->image->first_tree[table->type->id];
    const void *old = tree_del(&roots[0], &table->orders[0], key);
    for (unsigned i = 1; old && i < table->order_count; i++) {
        const void *same = tree_del(&roots[i], &table->orders[i], old);
        if (same) {
            block_unref(same);
        }
    }
    if (old) {
        keep_removed(v, old);
    }
    return old;
}
