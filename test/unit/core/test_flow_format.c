/* test_flow_format.c - lines of flow logs, as AWS's guide shows them. */
#include "core/flow_format.h"
#include "test.h"

static const struct flow_values accepted = {
    .account = "123456789010",
    .interface = "eni-1235b8ca123456789",
    .vpc = "vpc-1",
    .subnet = "subnet-1",
    .region = "us-east-1",
    .zone_id = "use1-az1",
    .status = "OK",
    .from = "172.31.16.139",
    .to = "172.31.16.21",
    .from_port = 20641,
    .to_port = 22,
    .protocol = 6,
    .packets = 20,
    .bytes = 4249,
    .start_s = 1418530010,
    .end_s = 1418530070,
};

static void
check_line(const char *format, const struct flow_values *v, const char *want)
{
    AUTO(buf) struct buf out = {0};
    flow_format_line(format, v, &out);
    CHECK_STR(buf_str(&out), want);
}

TEST(flow_format_writes_the_default_line)
{
    check_line(FLOW_FORMAT_DEFAULT, &accepted,
               "2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 20641 22 6 "
               "20 4249 1418530010 1418530070 ACCEPT OK");
}

TEST(flow_format_leaves_out_what_an_empty_interval_has_not)
{
    struct flow_values v = accepted;
    v.status = "NODATA";
    check_line(FLOW_FORMAT_DEFAULT, &v,
               "2 123456789010 eni-1235b8ca123456789 - - - - - - - 1418530010 1418530070 - "
               "NODATA");
    v.status = "SKIPDATA";
    check_line("${interface-id} ${action} ${log-status}", &v,
               "eni-1235b8ca123456789 - SKIPDATA");
}

TEST(flow_format_counts_the_version_by_its_newest_field)
{
    struct flow_values v = accepted;
    v.egress = v.refused = true;
    check_line("${version} ${vpc-id} ${instance-id} ${type} ${tcp-flags}", &v,
               "3 vpc-1 - IPv4 -");
    check_line("${version} ${az-id},${region}", &v, "4 use1-az1 us-east-1");
    check_line("${flow-direction} ${action} ${version}", &v, "egress REJECT 5");
}

TEST(flow_format_knows_its_fields_and_no_others)
{
    char bad[64];
    AUTO(buf) struct buf names = {0};
    CHECK(flow_format_ok(FLOW_FORMAT_DEFAULT, bad));
    CHECK(flow_format_ok("${version}", bad));
    CHECK(!flow_format_ok("${version} ${colour}", bad));
    CHECK_STR(bad, "${colour}");
    CHECK(!flow_format_ok("version", bad));
    CHECK(!flow_format_ok("${version", bad));
    CHECK(!flow_format_ok("${}", bad));
    CHECK(!flow_format_ok("", bad));
    CHECK(!flow_format_ok("  ", bad));
    CHECK(!flow_format_ok("${version}${action}", bad));
    flow_format_names("${version} ${srcaddr}", &names);
    CHECK_STR(buf_str(&names), "version srcaddr");
}
