/* policy.c - the records of one network's policy, and what of them is not yet in the
 * kernel: see policy.h. */
#include "node/net/policy.h"
#include "base/map.h"
#include "link/records.h"
#include "node/net/addr.h"
#include "node/net/rules.h"
#include <arpa/inet.h>
#include <linux/netfilter.h>

/* A group, list or ACL. Without a record it has only been named by somebody. */
struct item {
    struct arena *arena;
    void *record;
    bool declared; /* Its chains and sets are in the kernel. */
    bool dirty;
};

struct member {
    char *group_id;
    struct elem *list;
    size_t count;
    bool done; /* Its elements are in the kernel. */
};

struct profile {
    char name[24];
    char **group_ids;
    size_t count;
    bool done;
};

struct policy {
    struct map *groups, *lists, *acls; /* Of items, by id. */
    struct map *members, *profiles;
    bool dirty;
    uint64_t revision, changes;
};

/* ---- the object -----------------------------------------------------------------------
 */

static void
item_free(void *value)
{
    struct item *item = value;
    arena_destroy(item->arena);
    free(item);
}

static void
member_free(void *value)
{
    struct member *m = value;
    free(m->group_id);
    free(m->list);
    free(m);
}

static void
profile_free(void *value)
{
    struct profile *p = value;
    for (size_t i = 0; i < p->count; i++) {
        free(p->group_ids[i]);
    }
    free(p->group_ids);
    free(p);
}

struct policy *
policy_create(void)
{
    struct policy *policy = xcalloc(1, sizeof *policy);
    policy->revision = policy->changes = 1;
    policy->groups = map_create(item_free);
    policy->lists = map_create(item_free);
    policy->acls = map_create(item_free);
    policy->members = map_create(member_free);
    policy->profiles = map_create(profile_free);
    return policy;
}

void
policy_destroy(struct policy *policy)
{
    if (policy) {
        map_destroy(policy->groups);
        map_destroy(policy->lists);
        map_destroy(policy->acls);
        map_destroy(policy->members);
        map_destroy(policy->profiles);
        free(policy);
    }
}

uint64_t
policy_revision(const struct policy *policy)
{
    return policy->revision;
}

uint64_t
policy_changes(const struct policy *policy)
{
    return policy->changes;
}

bool
policy_dirty(const struct policy *policy)
{
    return policy->dirty;
}

/* ---- wants ----------------------------------------------------------------------------
 */

static struct item *
item_named(struct policy *policy, struct map *map, const char *id)
{
    struct item *item = map_get(map, id);
    if (!item) {
        item = xcalloc(1, sizeof *item);
        item->dirty = policy->dirty = true;
        map_put(map, id, item);
    }
    return item;
}

static void
item_set(struct policy *policy, struct map *map, const char *id,
         const struct desc *desc, const void *record)
{
    struct item *item = item_named(policy, map, id);
    if (item->record && desc_equal(desc, item->record, record)) {
        return;
    }
    arena_destroy(item->arena);
    item->arena = arena_create();
    item->record = desc_copy(desc, record, item->arena);
    item->dirty = policy->dirty = true;
    policy->changes++;
}

/* Its chains become empty, and so let nothing through. */
static void
item_drop(struct policy *policy, struct map *map, const char *id)
{
    struct item *item = map_get(map, id);
    if (item && item->record) {
        arena_destroy(item->arena);
        item->arena = NULL;
        item->record = NULL;
        item->dirty = policy->dirty = true;
        policy->changes++;
    }
}

bool
policy_want_group(struct policy *policy, const struct link_group *want, struct err *err)
{
    if (!policy_group_ok(want, err)) {
        return false;
    }
    for (size_t i = 0; i < want->rules.count;
         i++) { /* What rules name must be there. */
        const struct link_group_rule *r = &want->rules.items[i];
        if (!str_empty(r->group_id)) {
            (void)item_named(policy, policy->groups, r->group_id);
        }
        if (!str_empty(r->prefix_list_id)) {
            (void)item_named(policy, policy->lists, r->prefix_list_id);
        }
    }
    item_set(policy, policy->groups, want->id, &link_group_desc, want);
    return true;
}

bool
policy_want_list(struct policy *policy, const struct link_prefix_list *want,
                 struct err *err)
{
    if (!policy_list_ok(want, err)) {
        return false;
    }
    item_set(policy, policy->lists, want->list_id, &link_prefix_list_desc, want);
    return true;
}

bool
policy_want_acl(struct policy *policy, const struct link_acl *want, struct err *err)
{
    if (!policy_acl_ok(want, err)) {
        return false;
    }
    item_set(policy, policy->acls, want->id, &link_acl_desc, want);
    return true;
}

void
policy_drop_group(struct policy *policy, const char *id)
{
    item_drop(policy, policy->groups, id);
}

void
policy_drop_list(struct policy *policy, const char *id)
{
    item_drop(policy, policy->lists, id);
}

void
policy_drop_acl(struct policy *policy, const char *id)
{
    item_drop(policy, policy->acls, id);
}

void
policy_acl_chain(struct policy *policy, const char *acl_id, bool egress,
                 char out[ELEM_CHAIN_MAX])
{
    (void)item_named(policy, policy->acls, acl_id);
    addr_rule_name("a", acl_id, egress ? "_out" : "_in", out);
}

static const void *
record_of(const struct map *map, const char *id)
{
    const struct item *item = map_get(map, id);
    return item ? item->record : NULL;
}

const struct link_group *
policy_group(const struct policy *policy, const char *id)
{
    return record_of(policy->groups, id);
}

const struct link_prefix_list *
policy_list(const struct policy *policy, const char *id)
{
    return record_of(policy->lists, id);
}

/* ---- members --------------------------------------------------------------------------
 */

static bool
member_read(struct member *m, const struct link_group_member *want, struct err *err)
{
    char set4[ADDR_RULE_LEN], set6[ADDR_RULE_LEN];
    if (!addr_id_ok(want->group_id) || strlen(want->group_id) > 40 ||
        want->addresses.count > 256) {
        return err_set(err, ERR_INVALID, "group member %s: bad group or addresses",
                       want->id);
    }
    addr_rule_name("m4", want->group_id, "", set4);
    addr_rule_name("m6", want->group_id, "", set6);
    m->group_id = xstrdup(want->group_id);
    m->list = xcalloc(want->addresses.count + 1, sizeof *m->list);
    for (size_t i = 0; i < want->addresses.count; i++) {
        uint32_t ipv4;
        struct in6_addr ipv6;
        struct elem *e = &m->list[m->count];
        if (addr_parse_ipv4(want->addresses.items[i], &ipv4)) {
            *e = elem_in(NFPROTO_INET, set4);
            elem_key_ipv4(e, ipv4);
        } else if (addr_parse_ipv6(want->addresses.items[i], &ipv6)) {
            *e = elem_in(NFPROTO_INET, set6);
            elem_key_ipv6(e, &ipv6);
        } else {
            return err_set(err, ERR_INVALID, "group member %s: not an address",
                           want->id);
        }
        m->count++;
    }
    return true;
}

static bool
has_elem(const struct member *m, const struct elem *e)
{
    for (size_t i = 0; m && i < m->count; i++) {
        if (elem_equal(&m->list[i], e)) {
            return true;
        }
    }
    return false;
}

bool
policy_is_member(const struct policy *policy, const char *group_id,
                 const struct in6_addr *ip)
{
    char set[ADDR_RULE_LEN];
    bool is4 = IN6_IS_ADDR_V4MAPPED(ip);
    addr_rule_name(is4 ? "m4" : "m6", group_id, "", set);
    struct elem e = elem_in(NFPROTO_INET, set);
    if (is4) {
        uint32_t be;
        memcpy(&be, &ip->s6_addr[12], sizeof be);
        elem_key_ipv4(&e, ntohl(be));
    } else {
        elem_key_ipv6(&e, ip);
    }
    const char *id;
    void *value;
    for (size_t it = 0; map_next(policy->members, &it, &id, &value);) {
        if (has_elem(value, &e)) {
            return true;
        }
    }
    return false;
}

/* Whether another member holds the element too: an address that moves between interfaces. */
static bool
others_hold(const struct policy *policy, const struct member * not,
            const struct elem *e)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(policy->members, &it, &id, &value);) {
        if (value != not &&has_elem(value, e)) {
            return true;
        }
    }
    return false;
}

/* Takes away what 'old' had and 'now' (NULL: nothing) has not. */
static bool
member_shrink(struct policy *policy, struct elems *elems, const struct member *old,
              const struct member *now, struct err *err)
{
    for (size_t i = 0; old->done && i < old->count; i++) {
        if (!has_elem(now, &old->list[i]) && !others_hold(policy, old, &old->list[i]) &&
            !elems_del(elems, &old->list[i], 1, err)) {
            return false;
        }
    }
    return true;
}

bool
policy_want_member(struct policy *policy, struct elems *elems,
                   const struct link_group_member *want, struct err *err)
{
    struct member *m = xcalloc(1, sizeof *m);
    if (!member_read(m, want, err)) {
        member_free(m);
        return false;
    }
    struct item *group = item_named(policy, policy->groups, want->group_id);
    struct member *old = map_get(policy->members, want->id);
    m->done = group->declared;
    if ((m->done && !elems_add(elems, m->list, m->count, err)) ||
        (old && !member_shrink(policy, elems, old, m, err))) {
        member_free(m);
        return err_wrap(err, "group member %s", want->id);
    }
    policy->dirty = policy->dirty || !m->done;
    policy->changes++;
    if (old) {
        map_del(policy->members, want->id);
    }
    map_put(policy->members, want->id, m);
    return true;
}

bool
policy_drop_member(struct policy *policy, struct elems *elems, const char *id,
                   struct err *err)
{
    struct member *m = map_get(policy->members, id);
    if (m && !member_shrink(policy, elems, m, NULL, err)) {
        return err_wrap(err, "group member %s", id);
    }
    policy->changes += m != NULL;
    if (m) {
        map_del(policy->members, id);
    }
    return true;
}

/* ---- profiles -------------------------------------------------------------------------
 */

static int
by_text(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

const char *
policy_profile(struct policy *policy, const char *const *group_ids, size_t count)
{
    if (count == 0) {
        return NULL;
    }
    AUTO(free) const char **sorted = xcalloc(count, sizeof *sorted);
    memcpy(sorted, group_ids, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, by_text);
    AUTO(buf) struct buf key = {0};
    for (size_t i = 0; i < count; i++) {
        buf_printf(&key, "%s,", sorted[i]);
    }
    struct profile *p = map_get(policy->profiles, buf_str(&key));
    if (!p) {
        p = xcalloc(1, sizeof *p);
        addr_link_name("", "p_", buf_str(&key), p->name);
        p->group_ids = xcalloc(count, sizeof *p->group_ids);
        for (p->count = 0; p->count < count; p->count++) {
            p->group_ids[p->count] = xstrdup(sorted[p->count]);
            (void)item_named(policy, policy->groups, sorted[p->count]);
        }
        policy->dirty = true;
        map_put(policy->profiles, buf_str(&key), p);
    }
    return p->name;
}

/* ---- flush ----------------------------------------------------------------------------
 */

/* An ACL or group that is only named stands there empty: nothing passes. */
static void
write_items(struct policy *policy, struct buf *out)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(policy->groups, &it, &id, &value);) {
        if (((struct item *)value)->dirty) {
            policy_group_declare(POLICY_TABLE, id, out);
        }
    }
    for (size_t it = 0; map_next(policy->lists, &it, &id, &value);) {
        const struct link_prefix_list none = {.list_id = id};
        const struct item *item = value;
        if (item->dirty) {
            policy_list_declare(POLICY_TABLE, id, out);
            policy_list_text(POLICY_TABLE, item->record ? item->record : &none, out);
        }
    }
    for (size_t it = 0; map_next(policy->groups, &it, &id, &value);) {
        const struct link_group none = {.id = id};
        const struct item *item = value;
        if (item->dirty) {
            policy_group_text(POLICY_TABLE, item->record ? item->record : &none, out);
        }
    }
    for (size_t it = 0; map_next(policy->acls, &it, &id, &value);) {
        const struct link_acl none = {.id = id};
        const struct item *item = value;
        if (item->dirty) {
            policy_acl_text(item->record ? item->record : &none, out);
        }
    }
    for (size_t it = 0; map_next(policy->profiles, &it, &id, &value);) {
        const struct profile *p = value;
        if (!p->done) {
            policy_profile_text(p->name, (const char *const *)p->group_ids, p->count,
                                out);
        }
    }
}

static void
note_done(struct policy *policy, bool done)
{
    struct map *maps[] = {policy->groups, policy->lists, policy->acls};
    const char *id;
    void *value;
    for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
        for (size_t it = 0; map_next(maps[i], &it, &id, &value);) {
            struct item *item = value;
            item->dirty = !done;
            item->declared = item->declared || done;
        }
    }
    for (size_t it = 0; map_next(policy->profiles, &it, &id, &value);) {
        ((struct profile *)value)->done = done;
    }
}

static bool
flush_members(struct policy *policy, struct elems *elems, struct err *err)
{
    const char *id;
    void *value;
    VEC(struct elem) fresh = {0};
    for (size_t it = 0; map_next(policy->members, &it, &id, &value);) {
        const struct member *m = value;
        for (size_t i = 0; !m->done && i < m->count; i++) {
            VEC_PUSH(&fresh, m->list[i]);
        }
    }
    bool ok = elems_add(elems, fresh.items, fresh.count, err);
    VEC_FREE(&fresh);
    for (size_t it = 0; ok && map_next(policy->members, &it, &id, &value);) {
        ((struct member *)value)->done = true;
    }
    return ok;
}

bool
policy_flush(struct policy *policy, int ns_fd, struct elems *elems, struct err *err)
{
    if (!policy->dirty) {
        return true;
    }
    AUTO(buf) struct buf text = {0};
    write_items(policy, &text);
    if (text.len > 0 && !rules_run_in(ns_fd, buf_str(&text), err)) {
        return false;
    }
    note_done(policy, true);
    policy->revision++;
    if (!flush_members(policy, elems, err)) {
        return false;
    }
    policy->dirty = false;
    return true;
}

void
policy_distrust(struct policy *policy)
{
    note_done(policy, false);
    policy->dirty = true;
}

void
policy_each_member(const struct policy *policy, policy_elem_fn *fn, void *ctx)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(policy->members, &it, &id, &value);) {
        const struct member *m = value;
        for (size_t i = 0; i < m->count; i++) {
            fn(ctx, &m->list[i]);
        }
    }
}

void
policy_each_set(const struct policy *policy, policy_elem_fn *fn, void *ctx)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(policy->groups, &it, &id, &value);) {
        for (int is6 = 0; ((struct item *)value)->declared && is6 < 2; is6++) {
            char name[ADDR_RULE_LEN];
            addr_rule_name(is6 ? "m6" : "m4", id, "", name);
            struct elem e = elem_in(NFPROTO_INET, name);
            fn(ctx, &e);
        }
    }
}

/* ---- groups in another table ----------------------------------------------------------
 */

/* The members of a group of one family, as the set's elements. */
static void
put_members(const struct policy *policy, const char *table, const char *group_id,
            bool is6, struct buf *out)
{
    char name[ADDR_RULE_LEN], text[ADDR_BLOCK_LEN];
    const char *id, *before = "{";
    void *value;
    addr_rule_name(is6 ? "m6" : "m4", group_id, "", name);
    buf_printf(out, "flush set %s %s\n", table, name);
    for (size_t it = 0; map_next(policy->members, &it, &id, &value);) {
        const struct member *m = value;
        for (size_t i = 0; str_eq(m->group_id, group_id) && i < m->count; i++) {
            if (!str_eq(m->list[i].set, name)) {
                continue;
            }
            (void)inet_ntop(is6 ? AF_INET6 : AF_INET, m->list[i].key, text,
                            sizeof text);
            if (*before == '{') {
                buf_printf(out, "add element %s %s ", table, name);
            }
            buf_printf(out, "%s %s", before, text);
            before = ",";
        }
    }
    buf_puts(out, *before == ',' ? " }\n" : "");
}

/* What a rule names stands before the rule. */
static void
put_named(const struct policy *policy, const char *table,
          const struct link_group_rule *r, struct buf *out)
{
    if (!str_empty(r->group_id)) {
        policy_group_declare(table, r->group_id, out);
        put_members(policy, table, r->group_id, false, out);
        put_members(policy, table, r->group_id, true, out);
    } else if (!str_empty(r->prefix_list_id)) {
        const struct link_prefix_list none = {.list_id = r->prefix_list_id};
        const struct item *list = map_get(policy->lists, r->prefix_list_id);
        policy_list_declare(table, r->prefix_list_id, out);
        policy_list_text(table, list && list->record ? list->record : &none, out);
    }
}

void
policy_put_groups(const struct policy *policy, const char *table,
                  const char *const *group_ids, size_t count, struct buf *out)
{
    for (size_t i = 0; i < count; i++) {
        const struct link_group none = {.id = group_ids[i]};
        const struct item *item = map_get(policy->groups, group_ids[i]);
        const struct link_group *group = item && item->record ? item->record : &none;
        policy_group_declare(table, group->id, out);
        for (size_t k = 0; k < group->rules.count; k++) {
            put_named(policy, table, &group->rules.items[k], out);
        }
        policy_group_text(table, group, out);
    }
}
