/* test_address.c - ids, and IPv4 blocks and addresses. */
#include "core/address.h"
#include "core/address6.h"
#include "core/id.h"
#include "test.h"

TEST(id_make_gives_a_valid_id_of_its_prefix)
{
    uint64_t seed = 1;
    struct rng rng = rng_seeded(&seed);
    char id[ID_LEN], other[ID_LEN];
    id_make(&rng, "i", id);
    id_make(&rng, "i", other);
    CHECK_EQ(strlen(id), 2 + 17);
    CHECK(id_valid("i", id));
    CHECK(!id_valid("vol", id));
    CHECK(strcmp(id, other) != 0);
}

TEST(id_valid_refuses_what_is_no_id)
{
    CHECK(id_valid("i", "i-0123456789abcdef0"));
    CHECK(id_valid("i", "i-12345678"));
    CHECK(!id_valid("i", "i-0123456789ABCDEF0"));
    CHECK(!id_valid("i", "i-0123456789abcdef"));
    CHECK(!id_valid("i", "i-"));
    CHECK(!id_valid("i", "i"));
    CHECK(!id_valid("i", "ii-12345678"));
    CHECK(!id_valid("i", ""));
    CHECK(!id_valid("i", NULL));
}

TEST(cidr6_child_counts_blocks_and_ipv6_advance_addresses)
{
    struct cidr6 whole, part;
    char text[CIDR6_TEXT_LEN];
    uint8_t ip[16];
    CHECK(cidr6_parse("2001:db8:4000::/34", &whole));
    CHECK_EQ(cidr6_children(&whole, 56), 1 << 22);
    CHECK_EQ(cidr6_children(&whole, 34), 1);
    CHECK_EQ(cidr6_children(&whole, 32), 0);
    cidr6_child(&whole, 56, (1 << 22) - 1, &part);
    cidr6_format(&part, text);
    CHECK_STR(text, "2001:db8:7fff:ff00::/56");
    cidr6_child(&whole, 56, 0x102, &part);
    cidr6_format(&part, text);
    CHECK_STR(text, "2001:db8:4001:200::/56");
    CHECK(ipv6_parse("2001:db8::ffff:fffe", ip));
    ipv6_advance(ip, 3);
    ipv6_format(ip, text);
    CHECK_STR(text, "2001:db8::1:0:1");
}

TEST(mac_from_id_is_local_and_stays_the_same)
{
    char a[MAC_TEXT_LEN], b[MAC_TEXT_LEN];
    mac_from_id("eni-0123456789abcdef0", a);
    mac_from_id("eni-0123456789abcdef0", b);
    CHECK_STR(a, b);
    CHECK(str_starts(a, "02:"));
    CHECK_EQ(strlen(a), 17);
}

TEST(uuid_from_id_begins_with_ec2)
{
    char uuid[UUID_TEXT_LEN];
    uuid_from_id("i-0123456789abcdef0", uuid);
    CHECK(str_starts(uuid, "ec2"));
    CHECK_EQ(strlen(uuid), 36);
    CHECK_EQ(uuid[14], '4');
}

TEST(ipv4_parse_takes_only_four_plain_numbers)
{
    uint32_t ip;
    CHECK(ipv4_parse("10.0.0.5", &ip));
    CHECK_EQ(ip, 0x0a000005u);
    CHECK(ipv4_parse("255.255.255.255", &ip));
    static const char *const bad[] = {"10.0.0",    "10.0.0.256", "10.0.0.05",
                                      "10.0.0.5 ", "10.0.0.-1",  "a.b.c.d",
                                      "",          "1.2.3.4.5"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CHECK(!ipv4_parse(bad[i], &ip));
    }
}

TEST(cidr_parse_clears_host_bits)
{
    struct cidr c;
    char text[CIDR_TEXT_LEN];
    CHECK(cidr_parse("10.1.2.3/16", &c));
    cidr_format(&c, text);
    CHECK_STR(text, "10.1.0.0/16");
    CHECK(cidr_parse("0.0.0.0/0", &c));
    CHECK_EQ(cidr_size(&c), INT64_C(1) << 32);
    CHECK(!cidr_parse("10.0.0.0/33", &c));
    CHECK(!cidr_parse("10.0.0.0", &c));
}

TEST(cidr_child_divides_the_default_vpc_as_aws_does)
{
    struct cidr vpc, child;
    char text[CIDR_TEXT_LEN];
    CHECK(cidr_parse("172.31.0.0/16", &vpc));
    CHECK(cidr_child(&vpc, 20, 1, &child));
    cidr_format(&child, text);
    CHECK_STR(text, "172.31.16.0/20");
    CHECK(!cidr_child(&vpc, 20, 16, &child));
    CHECK(!cidr_child(&vpc, 8, 0, &child));
}

TEST(subnet_reserves_the_first_four_and_the_last)
{
    struct cidr c;
    CHECK(cidr_parse("10.0.0.0/24", &c));
    CHECK(subnet_reserves(&c, c.base));
    CHECK(subnet_reserves(&c, c.base + 3));
    CHECK(!subnet_reserves(&c, c.base + 4));
    CHECK(subnet_reserves(&c, c.base + 255));
    CHECK_EQ(subnet_usable(&c), 251);
}

TEST(private_domain_is_that_of_the_region)
{
    char domain[64];
    private_domain("us-east-1", domain, sizeof domain);
    CHECK_STR(domain, "ec2.internal");
    private_domain("eu-north-1", domain, sizeof domain);
    CHECK_STR(domain, "eu-north-1.compute.internal");
}
