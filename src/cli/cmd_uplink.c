/* moln uplink ... and moln address-pool ...: by which interfaces of hosts guests reach the
 * world, and which public addresses they may have. */
#include "cli/command.h"
#include "cli/listing.h"

/* One line a node that is to have it; one with dashes while there is none. */
static void
put_uplink(struct cli *cli, struct grid *grid, json_t *u)
{
    json_t *nodes = json_object_get(u, "Nodes");
    size_t lines = MAX(json_array_size(nodes), (size_t)1);
    bool own = json_object_get(u, "NodeId") != NULL;
    for (size_t i = 0; i < lines; i++) {
        json_t *node = json_array_get(nodes, i);
        grid_put(grid, json_text(cli->arena, u, "UplinkId"));
        grid_put(grid, json_text(cli->arena, u, "Mode"));
        grid_put(grid, json_text(cli->arena, u, "Interface"));
        grid_put(grid, json_text(cli->arena, u, own ? "NodeId" : "Zone"));
        grid_put(grid, json_text(cli->arena, node, "NodeId"));
        grid_put(grid, json_text(cli->arena, node, "State"));
        grid_put(grid, json_text(cli->arena, node, "Message"));
    }
}

static const struct listing uplinks = {
    (const char *const[]){"UPLINK", "MODE", "INTERFACE", "WHERE", "NODE", "STATE",
                          "MESSAGE", NULL},
    put_uplink, "No uplinks: nothing leaves the hosts. See 'moln help uplink add'."};

static bool
run_ls(struct cli *cli, const struct args *args UNUSED, struct err *err)
{
    return listing_all(cli, &uplinks, "ListUplinks", NULL, "Uplinks", err);
}

static bool
run_add(struct cli *cli, const struct args *args, struct err *err)
{
    static const struct {
        const char *option, *member;
    } given[] = {
        {"mode", "Mode"},       {"node", "NodeId"},       {"zone", "Zone"},
        {"address", "Address"}, {"router", "Router"},     {"address6", "Address6"},
        {"router6", "Router6"}, {"account", "AccountId"}, {"device", "Device"}};
    AUTO(json) json_t *in = json_object();
    AUTO(json) json_t *answer = NULL;
    for (size_t i = 0; i < ARRAY_LEN(given); i++) {
        if (args_has(args, given[i].option)) {
            json_object_set_new(in, given[i].member,
                                json_string(args_get(args, given[i].option)));
        }
    }
    if (args->word_count > 0) {
        json_object_set_new(in, "Interface", json_string(args->words[0]));
    }
    if (args_has(args, "default-route-too")) {
        json_object_set_new(in, "DefaultRouteToo", json_true());
    }
    if (args_has(args, "unfiltered")) {
        json_object_set_new(in, "Unfiltered", json_true());
    }
    if (!args_has(args, "mode")) {
        return cli_usage(
            err, "say --mode nat, bridge, overlay, passthrough or none; 'moln help "
                 "uplink add' tells which");
    }
    if (args_has(args, "node") == args_has(args, "zone")) {
        return cli_usage(err, "say where: --node NODE or --zone ZONE");
    }
    if (!api_operator(cli, "CreateUplink", in, &answer, err)) {
        return false;
    }
    if (cli->json) {
        json_print(answer);
        return true;
    }
    printf("%s\n",
           json_text(cli->arena, json_object_get(answer, "Uplink"), "UplinkId"));
    if (isatty(1)) {
        (void)fprintf(stderr, "What the nodes say of it: moln uplink ls\n");
    }
    return true;
}

static bool
run_rm(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *in = json_pack("{ss}", "UplinkId", args->words[0]);
    AUTO(json) json_t *answer = NULL;
    if (!api_operator(cli, "DeleteUplink", in, &answer, err)) {
        return false;
    }
    if (cli->json) {
        json_print(answer);
    }
    return true;
}

/* ---- public addresses ----------------------------------------------------------------- */

static void
put_pool(struct cli *cli, struct grid *grid, json_t *pool)
{
    grid_put(grid, json_text(cli->arena, pool, "PoolId"));
    grid_put(grid, json_text(cli->arena, pool, "Region"));
    grid_put(grid, json_text(cli->arena, pool, "Cidr"));
    grid_printf(grid, "%" PRId64 " / %" PRId64, json_int(pool, "AddressesTaken"),
                json_int(pool, "Addresses"));
    grid_put(grid, json_bool(pool, "Closed") ? "closed" : "open");
}

static const struct listing pools = {
    (const char *const[]){"POOL", "REGION", "ADDRESSES", "TAKEN", "STATE", NULL},
    put_pool, "No pools: a region gets its first one with its first public address."};

/* An operation whose answer is one pool. */
static bool
on_pool(struct cli *cli, const char *operation, json_t *in, struct err *err)
{
    return listing_one(cli, &pools, operation, in, "AddressPool", err);
}

static bool
run_pool_ls(struct cli *cli, const struct args *args UNUSED, struct err *err)
{
    return listing_all(cli, &pools, "ListAddressPools", NULL, "AddressPools", err);
}

static bool
run_pool_add(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *in = json_pack("{ss}", "Cidr", args->words[0]);
    return on_pool(cli, "CreateAddressPool", in, err);
}

static bool
run_pool_close(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *in = json_pack("{ss}", "PoolId", args->words[0]);
    return on_pool(cli, "CloseAddressPool", in, err);
}

static const struct option add_options[] = {
    {"mode", 0, "MODE", "nat, bridge, overlay, passthrough or none"},
    {"node", 0, "NODE", "of this host"},
    {"zone", 0, "ZONE", "of each host of the zone that has none of its own"},
    {"address", 0, "CIDR",
     "bridge: an address of the host's own there, 192.0.2.2/24; for a zone a range, "
     "192.0.2.2-192.0.2.9/24"},
    {"router", 0, "ADDRESS", "bridge: the provider's router, 192.0.2.1"},
    {"address6", 0, "CIDR",
     "bridge: the same of IPv6, 2001:db8::2/64; for a zone the first of as many"},
    {"router6", 0, "ADDRESS", "bridge: the provider's router of IPv6"},
    {"account", 0, "ACCOUNT", "passthrough: whom the interface is lent to"},
    {"device", 0, "DEVICE", "passthrough: macvtap (the default), or vfio"},
    {"unfiltered", 0, NULL,
     "passthrough: security groups and addresses are not enforced on it"},
    {"default-route-too", 0, NULL,
     "the interface may be that of the host's own default route"},
    {NULL, 0, NULL, NULL},
};

const struct command uplink_commands[] = {
    {"uplink ls", "", "list uplinks, and what each host says of them", NULL, NULL, 0, 0,
     WORD_NONE, false, run_ls},
    {"uplink add",
     "[INTERFACE] --mode MODE (--node NODE | --zone ZONE) [--address CIDR --router "
     "ADDRESS [--address6 CIDR --router6 ADDRESS]] [--account ACCOUNT [--device "
     "DEVICE] "
     "[--unfiltered]] "
     "[--default-route-too]",
     "let guests reach the world by an interface of their hosts",
     "Without an uplink nothing leaves a host: Elastic IPs meet in the namespace\n"
     "moln-CLOUDID-external alone. With one, what internet gateways and NAT gateways "
     "send\n"
     "goes out by it. In every mode an instance needs a public address, or a NAT "
     "gateway,\n"
     "and a route.\n"
     "\n"
     "  nat     All of it hides behind the interface's own address. Instances reach "
     "out;\n"
     "          nobody outside reaches in. Nothing needs to be arranged with anyone.\n"
     "  bridge  Public addresses stand on the interface's network, and the host "
     "answers for\n"
     "          those it has. They must be yours there. Both ways; groups decide.\n"
     "          The host needs an address of its own there besides: --address, "
     "--router;\n"
     "          a zone a range of them. With --address6 and --router6 instances are "
     "reached by\n"
     "          IPv6 too, each by its own address.\n"
     "  overlay Nothing leaves the hosts, but their external namespaces meet over the "
     "underlay:\n"
     "          public addresses reach each other, and you all of them from any "
     "host's. "
     "For\n"
     "          clouds without a provider's network: each host is told of every "
     "public\n"
     "          address. Names no interface.\n"
     "  none    Nothing: for one host of a zone that has an uplink. Names no "
     "interface.\n"
     "\n"
     "  passthrough  lends the interface to one account, besides whichever of these a "
     "host\n"
     "          has. The account says of a subnet that interfaces attached at some "
     "device\n"
     "          index are local network interfaces (ModifySubnetAttribute,\n"
     "          EnableLniAtDeviceIndex); those are cards on the provider's network "
     "itself, by\n"
     "          macvtap, without a router, DHCP or metadata of ours. MAC, addresses "
     "and\n"
     "          security groups hold there too, unless you say --unfiltered. With\n"
     "          --device vfio each is a virtual function of the interface itself, "
     "where the\n"
     "          host has an IOMMU ('moln doctor' tells): always unfiltered, but for "
     "the MAC.\n"
     "\n"
     "The interface by which hosts meet (the underlay) never is one. One that carries "
     "the\n"
     "host's own default route is refused without --default-route-too. Each host "
     "decides\n"
     "for itself, and 'moln uplink ls' shows what it said; so does 'moln node "
     "events'.\n"
     "\n"
     "  moln uplink add eth1 --mode nat --zone us-east-1a\n"
     "  moln uplink add --mode overlay --zone us-east-1a\n"
     "  moln uplink add eth1 --mode bridge --node NODE --address 192.0.2.2/24 --router "
     "192.0.2.1\n"
     "  moln uplink add eth2 --mode passthrough --zone us-east-1a --account "
     "123456789012\n",
     add_options, 0, 1, WORD_NONE, false, run_add},
    {"uplink rm", "UPLINK", "take an uplink away: nothing leaves by it any more", NULL,
     NULL, 1, 1, WORD_NONE, false, run_rm},
    {"address-pool ls", "", "list the public addresses that regions give out", NULL,
     NULL, 0, 0, WORD_NONE, false, run_pool_ls},
    {"address-pool add", "CIDR", "give a region public addresses to give out",
     "Elastic IPs and the public addresses of instances come from here. A region "
     "begins with\n"
     "a pool of addresses that exist for documentation only: they serve inside a cloud "
     "and\n"
     "behind an uplink of mode nat. For mode bridge, name addresses that are yours on "
     "the\n"
     "uplink's network; the first pool then gives out nothing more.\n"
     "\n"
     "Of an IPv6 block, VPCs that ask for one get a /56 each. Without one they get "
     "blocks\n"
     "that nobody routes (fd00::/8), which no uplink carries.\n"
     "\n"
     "  moln address-pool add 192.0.2.64/26 --region us-east-1\n"
     "  moln address-pool add 2001:db8:100::/40 --region us-east-1\n",
     NULL, 1, 1, WORD_NONE, false, run_pool_add},
    {"address-pool close", "POOL",
     "give out nothing more of a pool; what tenants have stays theirs", NULL, NULL, 1,
     1, WORD_NONE, false, run_pool_close},
    {NULL},
};
