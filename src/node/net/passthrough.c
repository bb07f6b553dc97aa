/* passthrough.c - macvtaps, their namespace and their rules: see passthrough.h. */
#include "node/net/passthrough.h"
#include "base/log.h"
#include "node/net/netns.h"
#include "node/net/rules.h"
#include "node/net/setup.h"
#include "node/net/tap.h"

bool
passthrough_is(const struct port *port)
{
    return port->uplink_id[0] != '\0';
}

static void
ns_name(const struct net *net, char out[ADDR_NS_LEN])
{
    (void)snprintf(out, ADDR_NS_LEN, "moln-%s-passthrough", net->cloud_id);
}

const struct uplink *
passthrough_uplink(const struct net *net, const struct port *port)
{
    const struct uplink *u = map_get(net->uplinks, port->uplink_id);
    return u && u->mode == UPLINK_PASSTHROUGH ? u : NULL;
}

void
passthrough_close(struct net *net)
{
    links_close(net->aside);
    net->aside = NULL;
    if (net->aside_fd >= 0) {
        close(net->aside_fd);
    }
    net->aside_fd = -1;
}

/* ---- the namespace -------------------------------------------------------------------- */

/* It routes nothing, and has no IPv6; once. */
static bool
namespace_make(struct net *net, struct err *err)
{
    char name[ADDR_NS_LEN];
    ns_name(net, name);
    if (net->aside) {
        return true;
    }
    if ((net->aside_fd < 0 && !netns_make(name, &net->aside_fd, err)) ||
        !setup_put(net->aside_fd, "0", err, "ipv4/ip_forward") ||
        !setup_put(net->aside_fd, "1", err, "ipv6/conf/all/disable_ipv6") ||
        !setup_put(net->aside_fd, "1", err, "ipv6/conf/default/disable_ipv6")) {
        return false;
    }
    net->aside = links_open_in(net->aside_fd, err);
    return net->aside != NULL;
}

/* Where an agent before this one made it: it is taken over. 'ok' without it: nothing is there. */
static bool
namespace_find(struct net *net, bool *out_there, struct err *err)
{
    char name[ADDR_NS_LEN];
    struct err why = {0};
    ns_name(net, name);
    *out_there = net->aside_fd >= 0 || netns_open(name, &net->aside_fd, &why);
    if (!*out_there && why.code != ERR_NOT_FOUND) {
        *err = why;
        return false;
    }
    return !*out_there || namespace_make(net, err);
}

/* ---- rules ---------------------------------------------------------------------------- */

struct asking {
    const char *command;
    char *answer;
};

static bool
ask_here(void *ctx, struct err *err)
{
    struct asking *asking = ctx;
    asking->answer = rules_show(asking->command, err);
    return asking->answer != NULL;
}

/* How the card's table reads, less what is in its sets; NULL: there is none. */
static char *
table_reads(struct net *net, const struct port *port)
{
    char table[PASSTHROUGH_TABLE_LEN];
    struct err ignored = {0};
    passthrough_table(port, table);
    AUTO(free) char *command = xasprintf("list table %s", table);
    struct asking asking = {.command = command};
    (void)!netns_run(net->aside_fd, ask_here, &asking, &ignored);
    return asking.answer;
}

/* 'anew': flows that were let through are forgotten. */
static bool
rules_write(struct net *net, const struct port *port, bool anew, struct err *err)
{
    AUTO(buf) struct buf text = {0};
    const struct uplink *u = passthrough_uplink(net, port);
    char table[PASSTHROUGH_TABLE_LEN];
    passthrough_table(port, table);
    if (anew) {
        buf_printf(&text, "add table %s\ndelete table %s\n", table, table);
    }
    passthrough_text(port, !(u && u->unfiltered), &text);
    return rules_run_in(net->aside_fd, buf_str(&text), err);
}

static bool
rules_drop(struct net *net, const char *table, struct err *err)
{
    AUTO(free) char *text = xasprintf("add table %s\ndelete table %s\n", table, table);
    return rules_run_in(net->aside_fd, text, err);
}

bool
passthrough_refresh(struct net *net, struct port *port, struct err *err)
{
    int index = 0;
    bool there;
    if (port->vfio) {
        return true;
    }
    if (!namespace_find(net, &there, err) ||
        (there && !links_find(net->aside, port->tap, &index, err))) {
        return false;
    }
    if (index == 0) {
        return true; /* Its rules come with its card. */
    }
    free(port->card_rules);
    port->card_rules = NULL;
    if (!rules_write(net, port, false, err)) {
        return err_wrap(err, "port %s", port->info.id);
    }
    port->card_rules = table_reads(net, port);
    return true;
}

bool
passthrough_refresh_all(struct net *net, const struct network *network, struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
        struct port *port = value;
        if (port->subnet->network == network && passthrough_is(port) &&
            port->card_changes != policy_changes(network->policy)) {
            if (!passthrough_refresh(net, port, err)) {
                return false;
            }
            port->card_changes = policy_changes(network->policy);
        }
    }
    return true;
}

/* ---- cards ---------------------------------------------------------------------------- */

static bool
card_make(struct net *net, const struct uplink *u, struct port *port, int *out_fd,
          struct err *err)
{
    int index;
    if (!links_macvtap(net->host, u->index, port->tap, net->aside_fd, port->mac, err) ||
        !links_find(net->aside, port->tap, &index, err) ||
        !rules_write(net, port, true, err) ||
        !links_start(net->aside, index, port->info.mtu, err)) {
        return false;
    }
    return tap_open_macvtap(net->aside_fd, port->tap, index, out_fd, err);
}

bool
passthrough_open(struct net *net, struct port *port, int *out_fd, struct err *err)
{
    const struct uplink *u = passthrough_uplink(net, port);
    if (!u) {
        return err_set(err, ERR_NOT_FOUND,
                       "port %s: its uplink %s, of mode passthrough, is not here",
                       port->info.id, port->uplink_id);
    }
    if (!namespace_make(net, err) || !links_drop(net->aside, port->tap, err)) {
        return err_wrap(err, "port %s", port->info.id);
    }
    if (!card_make(net, u, port, out_fd, err)) {
        struct err ignored = {0};
        (void)!links_drop(net->aside, port->tap, &ignored); /* Nothing unfiltered. */
        return err_wrap(err, "port %s on '%s'", port->info.id, u->link);
    }
    free(port->card_rules);
    port->card_rules = table_reads(net, port);
    port->card_changes = policy_changes(port->subnet->network->policy);
    return true;
}

bool
passthrough_drop(struct net *net, const struct port *port, struct err *err)
{
    char table[PASSTHROUGH_TABLE_LEN];
    bool there;
    passthrough_table(port, table);
    if (port->vfio) {
        return passthrough_function_drop(net, port, err);
    }
    return namespace_find(net, &there, err) &&
           (!there ||
            (links_drop(net->aside, port->tap, err) && rules_drop(net, table, err)));
}

bool
passthrough_drop_uplink(struct net *net, const char *uplink_id, struct err *err)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
        const struct port *port = value;
        if (str_eq(port->uplink_id, uplink_id) && !passthrough_drop(net, port, err)) {
            return false;
        }
    }
    return true;
}

/* ---- check ---------------------------------------------------------------------------- */

static bool
card_check(struct net *net, struct port *port, size_t *drift, struct err *err)
{
    AUTO(free) char *before = table_reads(net, port);
    bool differs = port->card_rules && !str_eq(before, port->card_rules);
    int index;
    if (!links_find(net->aside, port->tap, &index, err)) {
        return false;
    }
    if (index == 0) {
        return true;
    }
    if (!rules_write(net, port, differs, err)) {
        struct err why = {0};
        log_error("port %s: its rules cannot be written; its card is cut off",
                  port->info.id);
        if (!links_stop(net->aside, index, &why)) {
            log_error("port %s: %s", port->info.id, why.msg);
        }
        return false;
    }
    if (differs) {
        (*drift)++;
        log_warn("port %s: the rules of its card were changed; written anew",
                 port->info.id);
    }
    free(port->card_rules);
    port->card_rules = table_reads(net, port);
    return links_start(net->aside, index, port->info.mtu, err);
}

bool
passthrough_check(struct net *net, size_t *drift, struct err *err)
{
    const char *id;
    void *value;
    bool ok = true;
    for (size_t it = 0; net->aside && map_next(net->ports, &it, &id, &value);) {
        struct err why = {0};
        if (passthrough_is(value) && !((struct port *)value)->vfio &&
            !card_check(net, value, drift, &why)) {
            ok = false;
            *err = why;
        }
    }
    return ok;
}

/* ---- what nobody wants ---------------------------------------------------------------- */

static bool
card_unwanted(void *ctx, const char *name)
{
    const char *id;
    void *value;
    const struct net *net = ctx;
    for (size_t it = 0; map_next(net->ports, &it, &id, &value);) {
        const struct port *port = value;
        if (passthrough_is(port) && str_eq(port->tap, name)) {
            return false;
        }
    }
    return true;
}

/* A table outlives its card where the kernel keeps hooks by name. */
static bool
tables_prune(struct net *net, struct err *err)
{
    struct asking asking = {.command = "list tables"};
    if (!netns_run(net->aside_fd, ask_here, &asking, err)) {
        return false;
    }
    AUTO(free) char *text = asking.answer;
    char *rest = NULL;
    bool ok = true;
    for (char *line = strtok_r(text, "\n", &rest); line && ok;
         line = strtok_r(NULL, "\n", &rest)) {
        const char *table = str_starts(line, "table ") ? line + 6 : "";
        const char *name = strstr(table, "moln_");
        if (str_starts(table, "netdev ") && name && card_unwanted(net, name + 5)) {
            ok = rules_drop(net, table, err);
        }
    }
    return ok;
}

bool
passthrough_prune(struct net *net, struct err *err)
{
    bool there;
    return namespace_find(net, &there, err) &&
           (!there || (links_drop_where(net->aside, card_unwanted, net, err) &&
                       tables_prune(net, err)));
}

static bool
every_card(void *ctx UNUSED, const char *name UNUSED)
{
    return true;
}

bool
passthrough_sweep(struct net *net, struct err *err)
{
    char name[ADDR_NS_LEN];
    bool there;
    ns_name(net, name);
    if (!namespace_find(net, &there, err) ||
        (there && !links_drop_where(net->aside, every_card, NULL, err))) {
        return false;
    }
    passthrough_close(net);
    return netns_remove(name, err);
}
