/* port_rights.c - what a port may, as elements of the rules' sets, and the number that is its
 * mark: see net_parts.h, rules.h. */
#include "node/net/flows.h"
#include "node/net/net_parts.h"
#include "node/net/passthrough.h"
#include "node/net/rules.h"
#include <linux/netfilter.h>

/* ---- rights ------------------------------------------------------------------------
 */

/* Appends elements to a list that the caller bounds. */
struct list {
    struct elem *items;
    size_t count;
};

static struct elem *
push(struct list *l, uint8_t family, const char *set)
{
    l->items[l->count] = elem_in(family, set);
    return &l->items[l->count++];
}

static void
push_bind6(struct list *l, const struct port *port, const struct in6_addr *ip)
{
    struct elem *e = push(l, NFPROTO_BRIDGE, "bind6");
    elem_key_link(e, port->tap);
    elem_key_mac(e, port->mac);
    elem_key_ipv6(e, ip);
    e = push(l, NFPROTO_BRIDGE, "nd6");
    elem_key_link(e, port->tap);
    elem_key_ipv6(e, ip);
}

static void
push_ipv4(struct list *l, const struct port *port, uint32_t ip)
{
    struct elem *e = push(l, NFPROTO_BRIDGE, "from4");
    elem_key_link(e, port->tap);
    elem_key_mac(e, port->mac);
    elem_key_ipv4(e, ip);
    elem_to_mark(e, port->number);
    e = push(l, NFPROTO_BRIDGE, "to4");
    elem_key_link(e, port->tap);
    elem_key_ipv4(e, ip);
    elem_to_mark(e, port->number);
    e = push(l, NFPROTO_INET, "owns4");
    elem_key_mark(e, port->number);
    elem_key_ipv4(e, ip);
    if (port->standby) {
        return;
    }
    e = push(l, NFPROTO_INET, "nexthops4");
    elem_key_link(e, port->subnet->bridge);
    elem_key_ipv4(e, ip);
    elem_to_mark(e, port->number);
    e = push(l, NFPROTO_INET, "here4");
    elem_key_ipv4(e, ip);
}

static void
push_public(struct list *l, const struct nat_pair *pair)
{
    struct elem *e = push(l, NFPROTO_INET, "eip_in");
    elem_key_ipv4(e, pair->public);
    elem_to_ipv4(e, pair->private);
    e = push(l, NFPROTO_INET, "eip_out");
    elem_key_ipv4(e, pair->private);
    elem_to_ipv4(e, pair->public);
    e = push(l, NFPROTO_INET, "eip_sources");
    elem_key_ipv4(e, pair->private);
}

static void
push_ipv6(struct list *l, const struct port *port, const struct in6_addr *ip)
{
    push_bind6(l, port, ip);
    struct elem *e = push(l, NFPROTO_INET, "owns6");
    elem_key_mark(e, port->number);
    elem_key_ipv6(e, ip);
    if (port->standby) {
        return;
    }
    e = push(l, NFPROTO_INET, "nexthops6");
    elem_key_link(e, port->subnet->bridge);
    elem_key_ipv6(e, ip);
    elem_to_mark(e, port->number);
    e = push(l, NFPROTO_INET, "here6");
    elem_key_ipv6(e, ip);
}

static void
push_port(struct list *l, const struct port *port)
{
    static const char *const numbers[] = {"port_src", "port_dst"};
    static const char *const chains[] = {"arriving_at", "leaving_of"};
    struct elem *e = push(l, NFPROTO_BRIDGE, "macs");
    elem_key_link(e, port->tap);
    elem_key_mac(e, port->mac);
    for (int i = 0; i < 2; i++) {
        e = push(l, NFPROTO_BRIDGE, numbers[i]);
        elem_key_link(e, port->tap);
        elem_to_mark(e, port->number);
        e = push(l, NFPROTO_INET, chains[i]);
        elem_key_mark(e, port->number);
        elem_to_chain(e, port->chains[i], false);
    }
    if (port->borrow) {
        e = push(l, NFPROTO_BRIDGE, "borrow");
        elem_key_link(e, port->tap);
    }
}

size_t
port_elems(const struct port *port, struct elem *out)
{
    struct list l = {.items = out};
    if (passthrough_is(port)) {
        return 0; /* Its rights stand at its card. */
    }
    push_port(&l, port);
    for (size_t i = 0; i < port->address_count; i++) {
        push_ipv4(&l, port, port->addresses[i]);
    }
    for (size_t i = 0; i < port->address6_count; i++) {
        push_ipv6(&l, port, &port->addresses6[i]);
    }
    for (size_t i = 0; i < port->public_count; i++) {
        push_public(&l, &port->publics[i]);
    }
    if (port->address6_count > 0) {
        struct in6_addr local;
        addr_link_local(port->mac, &local);
        push_bind6(&l, port, &local);
    }
    return l.count;
}

struct elem *
port_elems_all(const struct port *port, size_t *out_count)
{
    struct elem *list = xcalloc(PORT_ELEMS_MAX, sizeof *list);
    *out_count = port_elems(port, list);
    return list;
}

bool
port_may(const struct port *port, const struct elem *elem)
{
    size_t count;
    AUTO(free) struct elem *list = port_elems_all(port, &count);
    for (size_t i = 0; i < count; i++) {
        if (elem_equal(&list[i], elem)) {
            return true;
        }
    }
    return false;
}

/* ---- numbers ----------------------------------------------------------------------------
 */

static void
number_text(uint32_t number, char out[16])
{
    (void)snprintf(out, 16, "%08x", number);
}

uint32_t
port_free_number(const struct network *network, const char *id)
{
    char text[16];
    for (uint32_t n = addr_number(id);; n++) {
        n = n % (RULES_LENT - RULES_FIRST_PORT) + RULES_FIRST_PORT;
        number_text(n, text);
        if (!map_get(network->numbers, text)) {
            return n;
        }
    }
}

void
port_note_number(struct network *network, uint32_t number, void *owner)
{
    char text[16];
    number_text(number & ~RULES_LENT, text);
    if (owner) {
        map_put(network->numbers, text, owner);
    } else {
        map_del(network->numbers, text);
    }
}

/* ---- addresses --------------------------------------------------------------------------
 */

void
port_note_ips(const struct port *port, struct map *ips, void *value)
{
    for (size_t i = 0; i < port->address_count; i++) {
        struct in6_addr ip = flow_ipv4(port->addresses[i]);
        flow_ip_put(ips, &ip, value);
    }
    for (size_t i = 0; i < port->address6_count; i++) {
        flow_ip_put(ips, &port->addresses6[i], value);
    }
}
