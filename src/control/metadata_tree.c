/* metadata_tree.c - see metadata_tree.h. */
#include "control/metadata_tree.h"

#include "base/jsonio.h"
#include "base/timefmt.h"

#define TREE_MAX 384

/* Date folders that clients ask for; each mirrors latest/. */
static const char *const tree_versions[] = {
    "1.0",        "2007-01-19", "2008-09-01", "2009-04-04", "2011-01-01", "2012-01-12",
    "2014-02-25", "2014-11-05", "2015-10-20", "2016-04-19", "2016-06-30", "2016-09-02",
    "2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01", "2020-10-27", "2021-01-03",
    "2021-03-23", "2021-07-15", "2022-09-24",
};

struct tree {
    struct arena *arena;
    struct link_metadata_leaf *leaves;
    size_t count;
};

static void
tree_put_bytes(struct tree *tree, const char *path, const void *data, size_t len,
               const char *type)
{
    if (tree->count < TREE_MAX) {
        tree->leaves[tree->count++] = (struct link_metadata_leaf){
            .path = path, .value = {data, len}, .type = type};
    }
}

static void
tree_put(struct tree *tree, const char *path, const char *value)
{
    if (value) {
        tree_put_bytes(tree, path, value, strlen(value), NULL);
    }
}

static void
tree_meta(struct tree *tree, const char *name, const char *value)
{
    tree_put(tree, arena_printf(tree->arena, "latest/meta-data/%s", name), value);
}

/* Texts as lines; NULL: there are none, and no leaf. */
static const char *
lines(struct arena *arena, const char *first, const char *const *items, size_t count)
{
    AUTO(buf) struct buf text = {0};
    buf_puts(&text, first ? first : "");
    for (size_t i = 0; i < count; i++) {
        buf_printf(&text, "%s%s", text.len ? "\n" : "", items[i]);
    }
    return text.len ? arena_strdup(arena, buf_str(&text)) : NULL;
}

static const char *
vpc_blocks(struct arena *arena, const struct row_vpc *vpc, bool six)
{
    size_t count = six ? vpc->blocks6.count : vpc->blocks.count;
    const char **cidrs = ARENA_ARRAY(arena, count, const char *);
    for (size_t i = 0; i < count; i++) {
        cidrs[i] = six ? vpc->blocks6.items[i].cidr : vpc->blocks.items[i].cidr;
    }
    return lines(arena, six ? NULL : vpc->cidr, cidrs, count);
}

static void
tree_publics(struct tree *tree, const struct metadata_card *card)
{
    struct arena *arena = tree->arena;
    const char **all = ARENA_ARRAY(arena, card->public_count, const char *);
    const char *base =
        arena_printf(arena, "network/interfaces/macs/%s", card->eni->mac);
    for (size_t i = 0; i < card->public_count; i++) {
        const struct link_port_public *p = &card->publics[i];
        all[i] = p->public;
        tree_meta(tree, arena_printf(arena, "%s/ipv4-associations/%s", base, p->public),
                  p->private);
    }
    tree_meta(tree, arena_printf(arena, "%s/public-ipv4s", base),
              lines(arena, NULL, all, card->public_count));
}

static void
tree_interface(struct tree *tree, const struct metadata_source *s,
               const struct metadata_card *card)
{
    struct arena *arena = tree->arena;
    const struct row_eni *eni = card->eni;
    const char *block6 = card->subnet->block6;
    const struct {
        const char *name, *value;
    } entries[] = {
        {"device-number", arena_printf(arena, "%" PRId64, eni->device_index)},
        {"interface-id", eni->id},
        {"ipv6s", lines(arena, NULL, eni->ipv6.items, eni->ipv6.count)},
        {"local-hostname", card->local_hostname},
        {"local-ipv4s",
         lines(arena, eni->ipv4, eni->more_ipv4.items, eni->more_ipv4.count)},
        {"mac", eni->mac},
        {"owner-id", eni->account},
        {"security-group-ids",
         lines(arena, NULL, eni->group_ids.items, eni->group_ids.count)},
        {"security-groups", card->group_names},
        {"subnet-id", card->subnet->id},
        {"subnet-ipv4-cidr-block", card->subnet->cidr},
        {"subnet-ipv6-cidr-blocks", str_empty(block6) ? NULL : block6},
        {"vpc-id", s->vpc->id},
        {"vpc-ipv4-cidr-block", s->vpc->cidr},
        {"vpc-ipv4-cidr-blocks", vpc_blocks(arena, s->vpc, false)},
        {"vpc-ipv6-cidr-blocks", vpc_blocks(arena, s->vpc, true)},
    };
    for (size_t i = 0; i < ARRAY_LEN(entries); i++) {
        tree_meta(tree,
                  arena_printf(arena, "network/interfaces/macs/%s/%s", eni->mac,
                               entries[i].name),
                  entries[i].value);
    }
    tree_publics(tree, card);
}

static void
json_member(struct buf *out, const char *name, const char *value, bool last)
{
    buf_printf(out, "  \"%s\" : ", name);
    if (value) {
        json_put_string(out, value, strlen(value));
    } else {
        buf_puts(out, "null");
    }
    buf_puts(out, last ? "\n" : ",\n");
}

static void
tree_identity(struct tree *tree, const struct metadata_source *s)
{
    const struct row_instance *i = s->instance;
    char launched[TIME_TEXT_LEN];
    time_iso(i->launched_at, launched);
    memcpy(launched + 19, "Z", 2); /* Whole seconds, as AWS writes it here. */
    AUTO(buf) struct buf doc = {0};
    buf_puts(&doc, "{\n");
    json_member(&doc, "accountId", i->account, false);
    json_member(&doc, "architecture", "x86_64", false);
    json_member(&doc, "availabilityZone", i->zone, false);
    buf_puts(&doc, "  \"billingProducts\" : null,\n"
                   "  \"devpayProductCodes\" : null,\n"
                   "  \"marketplaceProductCodes\" : null,\n");
    json_member(&doc, "imageId", i->image_id, false);
    json_member(&doc, "instanceId", i->id, false);
    json_member(&doc, "instanceType", i->type, false);
    buf_puts(&doc, "  \"kernelId\" : null,\n");
    json_member(&doc, "pendingTime", launched, false);
    json_member(&doc, "privateIp", s->cards->eni->ipv4, false);
    buf_puts(&doc, "  \"ramdiskId\" : null,\n");
    json_member(&doc, "region", i->region, false);
    json_member(&doc, "version", "2017-09-30", true);
    buf_puts(&doc, "}");
    tree_put_bytes(tree, "latest/dynamic/instance-identity/document",
                   arena_memdup(tree->arena, doc.data, doc.len), doc.len, NULL);
}

static void
tree_key(struct tree *tree, const struct row_instance *instance)
{
    if (str_empty(instance->public_key)) {
        return;
    }
    /* A folder's own listing, which here is not its children's names. */
    tree_meta(tree, "public-keys/",
              arena_printf(tree->arena, "0=%s", instance->key_name));
    tree_meta(tree, "public-keys/0/openssh-key",
              arena_printf(tree->arena, "%s\n", instance->public_key));
}

static void
tree_tags(struct tree *tree, const struct metadata_source *s)
{
    if (!str_eq(s->instance->http_tags, "enabled")) {
        return;
    }
    for (size_t i = 0; i < s->tag_count; i++) {
        /* A key with a slash or a space has no place in a path; AWS refuses such tags.
         */
        if (!strpbrk(s->tags[i]->tag_key, "/ ")) {
            tree_meta(
                tree,
                arena_printf(tree->arena, "tags/instance/%s", s->tags[i]->tag_key),
                s->tags[i]->value ? s->tags[i]->value : "");
        }
    }
}

/* Leaves that an instance without them does not have. */
static void
put_placement(struct tree *tree, const struct row_instance *i)
{
    if (!str_empty(i->placement_group)) {
        tree_meta(tree, "placement/group-name", i->placement_group);
    }
    if (i->partition > 0) {
        tree_meta(tree, "placement/partition-number",
                  arena_printf(tree->arena, "%" PRId64, i->partition));
    }
    if (!str_empty(i->host_id)) {
        tree_meta(tree, "placement/host-id", i->host_id);
    }
}

static void
tree_plain(struct tree *tree, const struct metadata_source *s)
{
    const struct row_instance *i = s->instance;
    const struct metadata_card *card = s->cards;
    const struct row_eni *eni = card->eni;
    const char *root = i->root_device ? i->root_device : "/dev/xvda";
    const char *short_root = str_starts(root, "/dev/") ? root + 5 : root;
    const struct {
        const char *name, *value;
    } entries[] = {
        {"ami-id", i->image_id},
        {"ami-launch-index", arena_printf(tree->arena, "%" PRId64, i->launch_index)},
        {"ami-manifest-path", "(unknown)"},
        {"block-device-mapping/ami", short_root},
        {"block-device-mapping/root", root},
        {"hostname", i->private_dns},
        {"instance-action", "none"},
        {"instance-id", i->id},
        {"instance-life-cycle", "on-demand"},
        {"instance-type", i->type},
        {"local-hostname", i->private_dns},
        {"ipv6", eni->ipv6.count ? eni->ipv6.items[0] : NULL},
        {"local-ipv4", eni->ipv4},
        {"mac", eni->mac},
        {"placement/availability-zone", i->zone},
        {"placement/availability-zone-id", s->zone_id},
        {"placement/region", i->region},
        {"profile", "default-hvm"},
        {"reservation-id", i->reservation_id},
        {"public-ipv4", card->public_count ? card->publics[0].public : NULL},
        {"security-groups", card->group_names},
        {"services/domain", "amazonaws.com"},
        {"services/partition", "aws"},
        {"system", "nitro"},
    };
    for (size_t n = 0; n < ARRAY_LEN(entries); n++) {
        tree_meta(tree, entries[n].name, entries[n].value);
    }
    put_placement(tree, i);
}

void
metadata_tree(struct arena *arena, const struct metadata_source *s,
              struct link_metadata *out)
{
    struct tree tree = {
        .arena = arena,
        .leaves = ARENA_ARRAY(arena, TREE_MAX, struct link_metadata_leaf),
    };
    const struct row_instance *i = s->instance;
    tree_plain(&tree, s);
    for (size_t c = 0; c < s->card_count; c++) {
        tree_interface(&tree, s, &s->cards[c]);
    }
    tree_key(&tree, i);
    tree_tags(&tree, s);
    tree_identity(&tree, s);
    if (i->user_data.len) {
        tree_put_bytes(&tree, "latest/user-data", i->user_data.data, i->user_data.len,
                       "application/octet-stream");
    }
    *out = (struct link_metadata){
        .id = s->cards->eni->id,
        .enabled = !str_eq(i->http_endpoint, "disabled"),
        .token_required = str_eq(i->http_tokens, "required"),
        .hop_limit = i->http_hop_limit ? i->http_hop_limit : 1,
        .generation = i->generation,
    };
    out->leaves.items = tree.leaves;
    out->leaves.count = tree.count;
    out->versions.items = arena_memdup(arena, tree_versions, sizeof tree_versions);
    out->versions.count = ARRAY_LEN(tree_versions);
}
