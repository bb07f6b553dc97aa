/* test_net.c - the network's text and numbers: golden files, without root. */
#include "base/file.h"
#include "link/records.h"
#include "node/net/addr.h"
#include "node/net/dnsmasq.h"
#include "node/net/elems.h"
#include "node/net/passthrough.h"
#include "node/net/policy.h"
#include "node/net/rules.h"
#include "test.h"
#include <linux/netfilter.h>

/* Compares with golden/NAME; with MOLN_GOLDEN=write the file is made anew. */
static void
check_golden(const char *name, const char *text)
{
    AUTO(free) char *path = xasprintf(GOLDEN "/%s", name);
    AUTO(free) char *want = NULL;
    struct err err;
    const char *mode = getenv("MOLN_GOLDEN");
    if (mode && str_eq(mode, "write")) {
        CHECK_OK(file_write(path, text, strlen(text), 0644, &err), &err);
    }
    CHECK_OK(file_read(path, MIB, &want, NULL, &err), &err);
    CHECK_STR(text, want);
}

TEST(rules_are_the_golden_ones)
{
    check_golden("net_rules.nft", rules_text);
}

TEST(dnsmasq_is_told_the_golden_text)
{
    struct dnsmasq_subnet subnets[] = {{.bridge = "mb000000000001"},
                                       {.bridge = "mb000000000002"}};
    int mtus[] = {9001};
    CHECK(addr_parse_cidr4("10.0.0.0/20", &subnets[0].cidr));
    CHECK(addr_parse_cidr4("10.0.16.0/20", &subnets[1].cidr));
    CHECK(addr_parse_block("2001:db8::/64", &subnets[1].cidr6));
    struct dnsmasq_plan plan = {.domain = "us-east-1.compute.internal",
                                .blocks = {{0x0a000000, 16}},
                                .block_count = 1,
                                .public_domain = "compute-1.amazonaws.com",
                                .own_domains = {"compute-1.amazonaws.com"},
                                .own_domain_count = 1,
                                .options.domain = "us-east-1.compute.internal"};
    struct dnsmasq_text said = {.dir = "/run/x",
                                .user = "nobody",
                                .plan = &plan,
                                .subnets = subnets,
                                .subnet_count = 2,
                                .mtus = mtus,
                                .mtu_count = 1};
    AUTO(buf) struct buf text = {0};
    dnsmasq_config_text(&said, &text);
    check_golden("net_dnsmasq.conf", buf_str(&text));
    AUTO(buf) struct buf line = {0};
    struct in6_addr ipv6;
    CHECK(addr_parse_ipv6("2001:db8::5", &ipv6));
    struct dnsmasq_host host = {.mac = "02:00:00:00:00:05",
                                .hostname = "ip-10-0-0-5",
                                .ipv4 = 0x0a000005,
                                .ipv6 = &ipv6,
                                .mtu = 9001};
    dnsmasq_host_text(&host, &line);
    CHECK_STR(buf_str(&line), "02:00:00:00:00:05,set:mtu9001,10.0.0.5,ip-10-0-0-5\n"
                              "02:00:00:00:00:05,[2001:db8::5]\n");
}

/* The first line of an address is what it is called. */
TEST(dnsmasq_names_keep_an_address_its_own_name)
{
    AUTO(buf) struct buf text = {0};
    struct dnsmasq_name public = {.name = "ec2-203-0-113-5.compute-1.amazonaws.com",
                                  .ipv4 = {0x0a000005},
                                  .ipv4_count = 1,
                                  .public = true};
    struct dnsmasq_plan plan = {.domain = "x.internal",
                                .public_domain = "compute-1.amazonaws.com"};
    struct dnsmasq_name resource = {.name = "i-0123.us-east-1.compute.internal",
                                    .ipv4 = {0x0a000005, 0x0a000006},
                                    .ipv4_count = 2,
                                    .ipv6_count = 1,
                                    .reverse = true};
    CHECK(addr_parse_ipv6("2001:db8::5", &resource.ipv6[0]));
    const struct dnsmasq_name *names[] = {&public, &resource};
    dnsmasq_names_text(names, 2, &plan, &text);
    CHECK_STR(buf_str(&text), "10.0.0.5 i-0123.us-east-1.compute.internal\n"
                              "10.0.0.6 i-0123.us-east-1.compute.internal\n"
                              "2001:db8::5 i-0123.us-east-1.compute.internal\n"
                              "10.0.0.5 ip-10-0-0-5.x.internal\n"
                              "10.0.0.5 ec2-203-0-113-5.compute-1.amazonaws.com\n");
    plan.public_domain[0] = '\0';
    buf_clear(&text);
    dnsmasq_names_text(names, 1, &plan, &text);
    CHECK_STR(buf_str(&text), "");
}

/* A set of options replaces the network's own; what it does not name is not sent. */
TEST(dnsmasq_is_told_the_golden_options)
{
    struct dnsmasq_subnet subnet = {.bridge = "mb000000000001"};
    struct dnsmasq_plan plan = {
        .options = {.domain = "corp.example other.example",
                    .names = {{"10.0.0.53", DNSMASQ_OWN, "2001:db8::53"}, 3},
                    .time = {{"10.0.0.123", "2001:db8::123"}, 2},
                    .netbios = {{"10.0.0.44"}, 1},
                    .netbios_node_type = 2}};
    struct dnsmasq_text said = {.dir = "/run/x",
                                .user = "nobody",
                                .plan = &plan,
                                .subnets = &subnet,
                                .subnet_count = 1};
    CHECK(addr_parse_cidr4("10.0.0.0/20", &subnet.cidr));
    AUTO(buf) struct buf text = {0};
    dnsmasq_config_text(&said, &text);
    plan.dns_off = true; /* Then the network's own server is not named. */
    dnsmasq_config_text(&said, &text);
    check_golden("net_dnsmasq_options.conf", buf_str(&text));
    struct dnsmasq_servers bad = {{"10.0.0.1,10.0.0.2"}, 1};
    CHECK(!dnsmasq_servers_ok(&bad, true));
    bad = (struct dnsmasq_servers){{DNSMASQ_OWN}, 1};
    CHECK(dnsmasq_servers_ok(&bad, true) && !dnsmasq_servers_ok(&bad, false));
}

TEST(addr_refuses_what_could_break_out_of_a_file)
{
    CHECK(addr_id_ok("eni-0123456789abcdef0"));
    CHECK(!addr_id_ok("../x") && !addr_id_ok("") && !addr_id_ok(NULL) &&
          !addr_id_ok("a b"));
    CHECK(!addr_id_ok("a\nb") && !addr_id_ok("-a"));
    CHECK(addr_name_ok("us-east-1.compute.internal", 190));
    CHECK(!addr_name_ok("a..b", 190) && !addr_name_ok("a.", 190) &&
          !addr_name_ok("a,b", 190));
    CHECK(!addr_name_ok("-a", 190) && !addr_name_ok("a-.b", 190) &&
          !addr_name_ok("a\n", 190));
    CHECK(!addr_name_ok("abcdef", 5));
}

TEST(addr_parse_reads_exactly_one_form)
{
    struct cidr4 cidr;
    uint8_t mac[6];
    CHECK(addr_parse_cidr4("10.1.0.0/16", &cidr));
    CHECK_EQ(cidr.base, 0x0a010000);
    CHECK(!addr_parse_cidr4("10.1.0.1/16", &cidr) &&
          !addr_parse_cidr4("10.1.0.0", &cidr));
    CHECK(!addr_parse_cidr4("10.1.0.0/33", &cidr) &&
          !addr_parse_cidr4("10.1.0.0/", &cidr));
    CHECK(!addr_parse_cidr4("10.1.0.0/+8", &cidr) && !addr_parse_cidr4(NULL, &cidr));
    CHECK(addr_parse_mac("02:aB:00:00:00:01", mac) && mac[1] == 0xab);
    CHECK(!addr_parse_mac("01:00:00:00:00:01", mac)); /* A group's. */
    CHECK(!addr_parse_mac("00:00:00:00:00:00", mac) &&
          !addr_parse_mac("02:00:00", mac));
    CHECK(!addr_parse_mac("02-00-00-00-00-01", mac));
}

TEST(addr_link_name_fits_and_tells_clouds_apart)
{
    char a[IFNAMSIZ], b[IFNAMSIZ];
    addr_link_name("cloud-1", "mt", "eni-1", a);
    addr_link_name("cloud-2", "mt", "eni-1", b);
    CHECK_EQ(strlen(a), 14);
    CHECK(!str_eq(a, b));
}

/* One of each kind of rule. */
TEST(policy_writes_the_golden_chains)
{
    struct link_group_rule rules[] = {
        {.protocol = 6, .from_port = 22, .to_port = 22, .cidr = "0.0.0.0/0"},
        {.protocol = 17, .from_port = 1000, .to_port = 2000, .cidr = "10.0.0.77/8"},
        {.protocol = 1, .from_port = 8, .to_port = -1, .group_id = "sg-2"},
        {.protocol = 58, .from_port = -1, .to_port = -1, .cidr = "::/0"},
        {.protocol = -1, .prefix_list_id = "pl-1", .egress = true},
        {.protocol = 50, .cidr = "2001:db8::/32", .egress = true},
    };
    struct link_group group = {.id = "sg-1", .rules = {rules, ARRAY_LEN(rules)}};
    const char *cidrs[] = {"10.0.0.0/8", "2001:db8::/32"};
    struct link_prefix_list list = {.list_id = "pl-1", .cidrs = {cidrs, 2}};
    struct link_acl_rule acl_rules[] = {
        {.number = 200, .protocol = -1, .cidr = "0.0.0.0/0"},
        {.number = 100,
         .allow = true,
         .protocol = 6,
         .from_port = 443,
         .to_port = 443,
         .cidr = "0.0.0.0/0"},
        {.number = 100,
         .egress = true,
         .allow = true,
         .protocol = -1,
         .cidr = "10.0.0.0/8"},
    };
    struct link_acl acl = {.id = "acl-1", .rules = {acl_rules, ARRAY_LEN(acl_rules)}};
    const char *groups[] = {"sg-1", "sg-2"};
    struct err err;
    CHECK_OK(policy_group_ok(&group, &err) && policy_list_ok(&list, &err) &&
                 policy_acl_ok(&acl, &err),
             &err);
    AUTO(buf) struct buf text = {0};
    policy_group_declare(POLICY_TABLE, "sg-1", &text);
    policy_list_declare(POLICY_TABLE, "pl-1", &text);
    policy_list_text(POLICY_TABLE, &list, &text);
    policy_group_text(POLICY_TABLE, &group, &text);
    policy_profile_text("p_1", groups, 2, &text);
    policy_acl_text(&acl, &text);
    check_golden("net_policy.nft", buf_str(&text));
}

/* A card with both families, one group that names another, and one that nobody described. */
TEST(passthrough_writes_the_golden_rules)
{
    struct link_group_rule rules[] = {
        {.protocol = 6, .from_port = 22, .to_port = 22, .cidr = "0.0.0.0/0"},
        {.protocol = 17, .from_port = 53, .to_port = 53, .group_id = "sg-2"},
        {.protocol = -1, .prefix_list_id = "pl-1", .egress = true},
    };
    struct link_group group = {.id = "sg-1", .rules = {rules, ARRAY_LEN(rules)}};
    const char *cidrs[] = {"10.0.0.0/8", "2001:db8::/32"};
    struct link_prefix_list list = {.list_id = "pl-1", .cidrs = {cidrs, 2}};
    struct network network = {.policy = policy_create()};
    struct subnet subnet = {.network = &network};
    struct port port = {.info.mac = "02:00:00:00:00:05",
                        .tap = "mt0123456789ab",
                        .mac = {2, 0, 0, 0, 0, 5},
                        .subnet = &subnet,
                        .addresses = {0xc0000205, 0xc0000206},
                        .address_count = 2,
                        .group_ids = {"sg-1", "sg-9"},
                        .group_count = 2};
    struct err err;
    AUTO(buf) struct buf text = {0};
    CHECK(addr_parse_ipv6("2001:db8::5", &port.addresses6[port.address6_count++]));
    CHECK_OK(policy_want_group(network.policy, &group, &err) &&
                 policy_want_list(network.policy, &list, &err),
             &err);
    passthrough_text(&port, true, &text);
    check_golden("net_passthrough.nft", buf_str(&text));
    buf_clear(&text);
    passthrough_text(&port, false, &text);
    CHECK(strstr(buf_str(&text), "from_guest ether saddr != 02:00:00:00:00:05 drop"));
    CHECK(!strstr(buf_str(&text), "judge_in jump"));
    policy_destroy(network.policy);
}

TEST(policy_refuses_what_could_break_out_of_its_text)
{
    struct err err;
    struct link_group_rule rule = {.protocol = 6, .cidr = "10.0.0.0/8; flush ruleset"};
    struct link_group group = {.id = "sg-1", .rules = {&rule, 1}};
    CHECK(!policy_group_ok(&group, &err));
    rule = (struct link_group_rule){.protocol = -1, .group_id = "sg-2 }"};
    CHECK(!policy_group_ok(&group, &err));
    rule = (struct link_group_rule){
        .protocol = 6, .from_port = 9, .to_port = 8, .cidr = "::/0"};
    CHECK(!policy_group_ok(&group, &err));
    rule = (struct link_group_rule){.protocol = 300, .cidr = "::/0"};
    CHECK(!policy_group_ok(&group, &err));
    rule = (struct link_group_rule){.protocol = -1, .cidr = "::/0", .group_id = "sg-2"};
    CHECK(!policy_group_ok(&group, &err));
    group.id = "sg-1\n";
    CHECK(!policy_group_ok(&group, &err));
}

TEST(elem_keys_are_laid_out_as_the_kernel_reads_them)
{
    const uint8_t mac[6] = {2, 0, 0, 0, 0, 5};
    struct elem e = elem_in(NFPROTO_BRIDGE, "bind4");
    elem_key_link(&e, "mt1");
    elem_key_mac(&e, mac);
    elem_key_ipv4(&e, 0x0a000005);
    static const uint8_t want[28] = {
        'm', 't', '1', [16] = 2, [21] = 5, [24] = 10, [27] = 5};
    CHECK_EQ(e.key_len, sizeof want);
    CHECK(memcmp(e.key, want, sizeof want) == 0);
    CHECK(elem_is_of(&e, "mt1") && !elem_is_of(&e, "mt2"));
    CHECK(!elem_is_of(&(struct elem){.key_len = 4}, ""));
}
