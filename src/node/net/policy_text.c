/* policy_text.c - groups, lists and ACLs in nftables' language: see policy.h. Pure. */
#include "link/records.h"
#include "node/net/addr.h"
#include "node/net/policy.h"

enum { ICMP4 = 1, TCP = 6, UDP = 17, ICMP6 = 58, SCTP = 132 };

struct match {
    int64_t protocol, from, to; /* ICMP: type and code. */
    bool egress;
    const char *table; /* With its family. */
};

/* Which family's packets: the words differ where no layer 3 hook is. */
static const char *
family_of(const struct match *m, bool is6)
{
    bool netdev = str_starts(m->table, "netdev ");
    return netdev ? is6 ? "meta protocol ip6" : "meta protocol ip"
           : is6  ? "meta nfproto ipv6"
                  : "meta nfproto ipv4";
}

/* The other side's address, as 'ip saddr' or its like; 'what' is a block or a set. */
static void
put_side(const struct match *m, bool is6, const char *what, struct buf *out)
{
    buf_printf(out, " %s %s %s", is6 ? "ip6" : "ip", m->egress ? "daddr" : "saddr",
               what);
}

static void
put_ports(const struct match *m, const char *name, struct buf *out)
{
    if (m->from < 0 || m->to < 0 || (m->from == 0 && m->to == 65535)) {
        buf_printf(out, " meta l4proto %s", name);
    } else if (m->from == m->to) {
        buf_printf(out, " %s dport %d", name, (int)m->from);
    } else {
        buf_printf(out, " %s dport %d-%d", name, (int)m->from, (int)m->to);
    }
}

static void
put_icmp(const struct match *m, const char *name, int number, struct buf *out)
{
    buf_printf(out, " meta l4proto %d", number);
    if (m->from >= 0) {
        buf_printf(out, " %s type %d", name, (int)m->from);
    }
    if (m->from >= 0 && m->to >= 0) {
        buf_printf(out, " %s code %d", name, (int)m->to);
    }
}

static void
put_protocol(const struct match *m, struct buf *out)
{
    switch (m->protocol) {
    case -1:
        break;
    case TCP:
        put_ports(m, "tcp", out);
        break;
    case UDP:
        put_ports(m, "udp", out);
        break;
    case SCTP:
        put_ports(m, "sctp", out);
        break;
    case ICMP4:
        put_icmp(m, "icmp", ICMP4, out);
        break;
    case ICMP6:
        put_icmp(m, "icmpv6", ICMP6, out);
        break;
    default:
        buf_printf(out, " meta l4proto %d", (int)m->protocol);
    }
}

/* One line of a chain. A protocol of the other family never matches: no line. */
static void
put_rule(const char *chain, const struct match *m, bool is6, const char *what,
         const char *verdict, struct buf *out)
{
    if ((is6 && m->protocol == ICMP4) || (!is6 && m->protocol == ICMP6)) {
        return;
    }
    buf_printf(out, "add rule %s %s", m->table, chain);
    if (what) {
        put_side(m, is6, what, out);
    } else {
        buf_printf(out, " %s", family_of(m, is6));
    }
    put_protocol(m, out);
    buf_printf(out, " %s\n", verdict);
}

static void
put_block(const char *chain, const struct match *m, const char *cidr,
          const char *verdict, struct buf *out)
{
    struct addr_block block;
    char text[ADDR_BLOCK_LEN];
    if (addr_parse_block(cidr, &block)) {
        addr_block_text(&block, text);
        put_rule(chain, m, block.is6, block.prefix == 0 ? NULL : text, verdict, out);
    }
}

/* Against a pair of sets, one a family. */
static void
put_sets(const char *chain, const struct match *m, const char *set4, const char *set6,
         const char *id, struct buf *out)
{
    char name[ADDR_RULE_LEN], what[ADDR_RULE_LEN + 1];
    for (int is6 = 0; is6 < 2; is6++) {
        addr_rule_name(is6 ? set6 : set4, id, "", name);
        (void)snprintf(what, sizeof what, "@%s", name);
        put_rule(chain, m, is6, what, "goto passed", out);
    }
}

/* ---- security groups ------------------------------------------------------------------
 */

void
policy_group_declare(const char *table, const char *group_id, struct buf *out)
{
    char name[ADDR_RULE_LEN];
    addr_rule_name("m4", group_id, "", name);
    buf_printf(out, "add set %s %s { type ipv4_addr; }\n", table, name);
    addr_rule_name("m6", group_id, "", name);
    buf_printf(out, "add set %s %s { type ipv6_addr; }\n", table, name);
    for (int egress = 0; egress < 2; egress++) {
        addr_rule_name("g", group_id, egress ? "_out" : "_in", name);
        buf_printf(out, "add chain %s %s\n", table, name);
    }
}

void
policy_group_text(const char *table, const struct link_group *group, struct buf *out)
{
    char chains[2][ADDR_RULE_LEN];
    for (int egress = 0; egress < 2; egress++) {
        addr_rule_name("g", group->id, egress ? "_out" : "_in", chains[egress]);
        buf_printf(out, "flush chain %s %s\n", table, chains[egress]);
    }
    for (size_t i = 0; i < group->rules.count; i++) {
        const struct link_group_rule *r = &group->rules.items[i];
        const char *chain = chains[r->egress];
        struct match m = {r->protocol, r->from_port, r->to_port, r->egress, table};
        if (!str_empty(r->group_id)) {
            put_sets(chain, &m, "m4", "m6", r->group_id, out);
        } else if (!str_empty(r->prefix_list_id)) {
            put_sets(chain, &m, "l4", "l6", r->prefix_list_id, out);
        } else {
            put_block(chain, &m, r->cidr, "goto passed", out);
        }
    }
}

static bool
ports_ok(int64_t protocol, int64_t from, int64_t to)
{
    bool ports = protocol == TCP || protocol == UDP || protocol == SCTP;
    bool in_range = from >= -1 && to >= -1 && from <= 65535 && to <= 65535;
    return protocol >= -1 && protocol <= 255 && in_range &&
           (!ports || from < 0 || to < 0 || from <= to) &&
           ((protocol != ICMP4 && protocol != ICMP6) || (from <= 255 && to <= 255));
}

static bool
rule_ok(const struct link_group_rule *r)
{
    struct addr_block block;
    int named =
        !str_empty(r->cidr) + !str_empty(r->group_id) + !str_empty(r->prefix_list_id);
    return named == 1 && ports_ok(r->protocol, r->from_port, r->to_port) &&
           (str_empty(r->cidr) || addr_parse_block(r->cidr, &block)) &&
           (str_empty(r->group_id) || addr_id_ok(r->group_id)) &&
           (str_empty(r->prefix_list_id) || addr_id_ok(r->prefix_list_id));
}

bool
policy_group_ok(const struct link_group *group, struct err *err)
{
    if (!addr_id_ok(group->id) || strlen(group->id) > 40 ||
        group->rules.count > POLICY_RULES_MAX) {
        return err_set(err, ERR_INVALID, "group: not an id, or too many rules");
    }
    for (size_t i = 0; i < group->rules.count; i++) {
        if (!rule_ok(&group->rules.items[i])) {
            return err_set(err, ERR_INVALID, "group %s: rule %zu cannot be", group->id,
                           i);
        }
    }
    return true;
}

void
policy_profile_text(const char *profile, const char *const *group_ids, size_t count,
                    struct buf *out)
{
    char name[ADDR_RULE_LEN];
    static const char *const ways[] = {"in", "out"};
    for (size_t w = 0; w < ARRAY_LEN(ways); w++) {
        buf_printf(out, "add chain inet moln %s_%s\nflush chain inet moln %s_%s\n",
                   profile, ways[w], profile, ways[w]);
        for (size_t i = 0; i < count; i++) {
            addr_rule_name("g", group_ids[i], w ? "_out" : "_in", name);
            buf_printf(out, "add rule inet moln %s_%s jump %s\n", profile, ways[w],
                       name);
        }
        buf_printf(out, "add rule inet moln %s_%s goto refuse\n", profile, ways[w]);
    }
}

/* ---- prefix lists ---------------------------------------------------------------------
 */

void
policy_list_declare(const char *table, const char *list_id, struct buf *out)
{
    char name[ADDR_RULE_LEN];
    for (int is6 = 0; is6 < 2; is6++) {
        addr_rule_name(is6 ? "l6" : "l4", list_id, "", name);
        buf_printf(out,
                   "add set %s %s { type ipv%d_addr; flags interval; "
                   "auto-merge; }\n",
                   table, name, is6 ? 6 : 4);
    }
}

void
policy_list_text(const char *table, const struct link_prefix_list *list,
                 struct buf *out)
{
    char name[ADDR_RULE_LEN], text[ADDR_BLOCK_LEN];
    for (int is6 = 0; is6 < 2; is6++) {
        addr_rule_name(is6 ? "l6" : "l4", list->list_id, "", name);
        buf_printf(out, "flush set %s %s\n", table, name);
        const char *before = "{";
        for (size_t i = 0; i < list->cidrs.count; i++) {
            struct addr_block block;
            if (!addr_parse_block(list->cidrs.items[i], &block) || block.is6 != is6) {
                continue;
            }
            addr_block_text(&block, text);
            if (*before == '{') {
                buf_printf(out, "add element %s %s ", table, name);
            }
            buf_printf(out, "%s %s", before, text);
            before = ",";
        }
        buf_puts(out, *before == ',' ? " }\n" : "");
    }
}

bool
policy_list_ok(const struct link_prefix_list *list, struct err *err)
{
    struct addr_block block;
    if (!addr_id_ok(list->list_id) || strlen(list->list_id) > 40 ||
        list->cidrs.count > POLICY_LIST_MAX) {
        return err_set(err, ERR_INVALID, "prefix list: not an id, or too long");
    }
    for (size_t i = 0; i < list->cidrs.count; i++) {
        if (!addr_parse_block(list->cidrs.items[i], &block)) {
            return err_set(err, ERR_INVALID, "prefix list %s: not a block",
                           list->list_id);
        }
    }
    return true;
}

/* ---- network ACLs ---------------------------------------------------------------------
 */

static int
by_number(const void *a, const void *b)
{
    const struct link_acl_rule *const *x = a, *const *y = b;
    return ((*x)->number > (*y)->number) - ((*x)->number < (*y)->number);
}

void
policy_acl_text(const struct link_acl *acl, struct buf *out)
{
    static const char *const refusals[] = {"goto refuse_entering",
                                           "goto refuse_leaving"};
    char chains[2][ADDR_RULE_LEN];
    size_t count = acl->rules.count;
    AUTO(free) const struct link_acl_rule **sorted = xcalloc(count + 1, sizeof *sorted);
    for (size_t i = 0; i < count; i++) {
        sorted[i] = &acl->rules.items[i];
    }
    qsort(sorted, count, sizeof *sorted, by_number);
    for (int egress = 0; egress < 2; egress++) {
        addr_rule_name("a", acl->id, egress ? "_out" : "_in", chains[egress]);
        buf_printf(out, "add chain inet moln %s\nflush chain inet moln %s\n",
                   chains[egress], chains[egress]);
    }
    for (size_t i = 0; i < count; i++) {
        const struct link_acl_rule *r = sorted[i];
        bool icmp = r->protocol == ICMP4 || r->protocol == ICMP6;
        bool every = r->from_port == 0 && r->to_port == 0;
        struct match m = {r->protocol,
                          icmp    ? r->icmp_type
                          : every ? -1
                                  : r->from_port,
                          icmp    ? r->icmp_code
                          : every ? -1
                                  : r->to_port,
                          r->egress, POLICY_TABLE};
        put_block(chains[r->egress], &m, r->cidr,
                  r->allow ? "return" : refusals[r->egress], out);
    }
    for (int egress = 0; egress < 2; egress++) {
        buf_printf(out, "add rule inet moln %s %s\n", chains[egress], refusals[egress]);
    }
}

bool
policy_acl_ok(const struct link_acl *acl, struct err *err)
{
    if (!addr_id_ok(acl->id) || strlen(acl->id) > 40 ||
        acl->rules.count > POLICY_RULES_MAX) {
        return err_set(err, ERR_INVALID, "ACL: not an id, or too many rules");
    }
    for (size_t i = 0; i < acl->rules.count; i++) {
        const struct link_acl_rule *r = &acl->rules.items[i];
        struct addr_block block;
        if (!addr_parse_block(r->cidr, &block) ||
            !ports_ok(r->protocol, r->from_port, r->to_port) ||
            !ports_ok(ICMP4, r->icmp_type, r->icmp_code)) {
            return err_set(err, ERR_INVALID, "ACL %s: rule %zu cannot be", acl->id, i);
        }
    }
    return true;
}
