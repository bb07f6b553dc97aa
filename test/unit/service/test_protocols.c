/* test_protocols.c - the wire's protocols over descriptors of the real models. */
#include "service/ec2/api.h"
#include "service/moln/api.h"
#include "service/sts/api.h"
#include "test.h"

static struct arena *arena;

static bool
decode(const char *form, struct ec2_run_instances_request *out, struct err *err)
{
    arena_destroy(arena);
    arena = arena_create();
    struct params params = {0};
    *err = (struct err){0};
    return params_parse(&params, form, strlen(form), arena, err) &&
           form_decode(PROTOCOL_EC2, &ec2_run_instances_request_desc, &params, arena,
                       out, err) &&
           params_validate(PROTOCOL_EC2, &ec2_run_instances_request_desc, out, err);
}

#define GOOD "Action=RunInstances&Version=2016-11-15&MinCount=1&MaxCount=2"

TEST(form_decode_reads_what_botocore_sends)
{
    struct err err;
    struct ec2_run_instances_request in;
    CHECK_OK(decode(GOOD
                    "&ImageId=ami-1&SecurityGroupId.1=sg-1&SecurityGroupId.2=sg-2"
                    "&TagSpecification.1.ResourceType=instance"
                    "&TagSpecification.1.Tag.1.Key=a&TagSpecification.1.Tag.1.Value="
                    "&BlockDeviceMapping.1.DeviceName=%2Fdev%2Fxvda"
                    "&BlockDeviceMapping.1.Ebs.VolumeSize=10"
                    "&BlockDeviceMapping.1.Ebs.DeleteOnTermination=true"
                    "&MetadataOptions.HttpTokens=required&DryRun=false",
                    &in, &err),
             &err);
    CHECK_EQ(in.min_count, 1);
    CHECK(in.has_max_count);
    CHECK_EQ(in.max_count, 2);
    CHECK_STR(in.image_id, "ami-1");
    CHECK_EQ(in.security_group_ids.count, 2);
    CHECK_STR(in.security_group_ids.items[1], "sg-2");
    CHECK_STR(in.tag_specifications.items[0].tags.items[0].value, "");
    CHECK_STR(in.block_device_mappings.items[0].device_name, "/dev/xvda");
    CHECK_EQ(in.block_device_mappings.items[0].ebs->volume_size, 10);
    CHECK(in.block_device_mappings.items[0].ebs->delete_on_termination);
    CHECK_STR(in.metadata_options->http_tokens, "required");
    CHECK(in.has_dry_run && !in.dry_run);
    CHECK_NULL(in.key_name);
}

/* Items are ordered by their numbers, not by when they came; gaps close up. */
TEST(form_decode_orders_lists_by_index)
{
    struct err err;
    struct ec2_run_instances_request in;
    CHECK_OK(decode(GOOD
                    "&SecurityGroupId.10=c&SecurityGroupId.2=a&SecurityGroupId.7=b",
                    &in, &err),
             &err);
    CHECK_EQ(in.security_group_ids.count, 3);
    CHECK_STR(in.security_group_ids.items[0], "a");
    CHECK_STR(in.security_group_ids.items[2], "c");
}

static const struct {
    const char *form;
    enum err_code code;
    const char *message;
} refused[] = {
    {"MinCount=1", ERR_MISSING_PARAMETER,
     "The request must contain the parameter MaxCount"},
    {GOOD "&Foo=1", ERR_UNKNOWN_PARAMETER, "The parameter Foo is not recognized"},
    {GOOD "&ImageId.1=x", ERR_UNKNOWN_PARAMETER,
     "The parameter ImageId.1 is not recognized"},
    {GOOD "&SecurityGroupId=x", ERR_UNKNOWN_PARAMETER, NULL},
    {GOOD "&SecurityGroupId.a=x", ERR_UNKNOWN_PARAMETER, NULL},
    {GOOD "&SecurityGroupId.0=x", ERR_UNKNOWN_PARAMETER, NULL},
    {GOOD "&SecurityGroupId.99999=x", ERR_INVALID_PARAMETER_VALUE, NULL},
    {GOOD "&SecurityGroupId.999999999999999999999=x", ERR_UNKNOWN_PARAMETER, NULL},
    {GOOD "&ImageId=a&ImageId=b", ERR_INVALID_PARAMETER, NULL},
    {GOOD "&Placement=x", ERR_UNKNOWN_PARAMETER, NULL},
    {GOOD "&Placement.Tenancy.X=x", ERR_UNKNOWN_PARAMETER, NULL},
    {GOOD "&Placement..Tenancy=x", ERR_UNKNOWN_PARAMETER, NULL},
    {GOOD "&DryRun=maybe", ERR_INVALID_PARAMETER_VALUE,
     "Value (maybe) for parameter DryRun is invalid. Invalid boolean value"},
    {"MaxCount=1&MinCount=1x", ERR_INVALID_PARAMETER_VALUE, NULL},
    {"MaxCount=1&MinCount=", ERR_INVALID_PARAMETER_VALUE, NULL},
    {"MaxCount=1&MinCount=99999999999999999999", ERR_INVALID_PARAMETER_VALUE, NULL},
    {GOOD "&ImageId=%00", ERR_MALFORMED_REQUEST, NULL},
    {GOOD "&ImageId=%zz", ERR_MALFORMED_REQUEST, NULL},
    {GOOD "&ImageId=%FF", ERR_INVALID_PARAMETER_VALUE, NULL},
    {GOOD "&ImageId=%01", ERR_INVALID_PARAMETER_VALUE, NULL},
    {GOOD "&Placement.Tenancy=moon", ERR_INVALID_PARAMETER_VALUE,
     "Value ( moon ) for parameter placement.Tenancy is invalid. Expected one of: "
     "default, "
     "dedicated, host"},
    {GOOD
     "&A.B.C.D.E.F.G.H.I.J.K.L.M.N.O.P.Q.R.S.T.U.V.W.X.Y.Z.A.B.C.D.E.F.G.H.I.J.K.L.M."
     "N.O.P.Q.R.S.T.U.V.W.X.Y.Z=1",
     ERR_UNKNOWN_PARAMETER, NULL},
};

TEST(form_decode_refuses_with_the_code_of_aws)
{
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        struct err err;
        struct ec2_run_instances_request in;
        if (decode(refused[i].form, &in, &err) || err.code != refused[i].code) {
            fail_msg("%s: %s: %s", refused[i].form, err_info(err.code)->name, err.msg);
        }
        if (refused[i].message) {
            CHECK_STR(err.msg, refused[i].message);
        }
    }
}

TEST(params_validate_holds_ranges_and_lengths)
{
    struct err err = {0};
    struct ec2_describe_instance_types_request in = {.has_max_results = true,
                                                     .max_results = 3};
    const struct desc *desc = &ec2_describe_instance_types_request_desc;
    CHECK(!params_validate(PROTOCOL_EC2, desc, &in, &err));
    CHECK_EQ(err.code, ERR_INVALID_PARAMETER_VALUE);
    CHECK_STR(err.msg,
              "Value ( 3 ) for parameter maxResults is invalid. Expecting a value "
              "greater than 5.");
    CHECK(!params_validate(PROTOCOL_JSON, desc, &in, &err));
    CHECK_EQ(err.code, ERR_VALIDATION);
    in.max_results = 5;
    CHECK(params_validate(PROTOCOL_EC2, desc, &in, &err));
}

TEST(params_validate_checks_patterns)
{
    struct err err = {0};
    struct ec2_delete_launch_template_request in = {.launch_template_name =
                                                        "my template!"};
    CHECK(!params_validate(PROTOCOL_EC2, &ec2_delete_launch_template_request_desc, &in,
                           &err));
    in.launch_template_name = "my-template_1";
    CHECK(params_validate(PROTOCOL_EC2, &ec2_delete_launch_template_request_desc, &in,
                          &err));
}

/* ---- answers --------------------------------------------------------------------- */

static const struct answer head = {
    .operation = "DescribeInstances", .xml_namespace = "urn:x", .request_id = "rid"};

#define XML_HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"

TEST(xml_encode_writes_ec2_with_the_models_names)
{
    AUTO(buf) struct buf out = {0};
    struct ec2_tag tag = {.key = "a<b", .value = "\x01&"};
    struct ec2_instance instance = {.instance_id = "i-1",
                                    .launch_time = 0,
                                    .has_launch_time = true,
                                    .tags = {&tag, 1}};
    struct ec2_reservation reservation = {.instances = {&instance, 1}};
    struct ec2_describe_instances_result result = {.reservations = {&reservation, 1}};
    xml_encode(PROTOCOL_EC2, &head, &ec2_describe_instances_result_desc, &result, &out);
    CHECK_STR(out.data, XML_HEAD
              "<DescribeInstancesResponse xmlns=\"urn:x\"><requestId>rid</requestId>"
              "<reservationSet><item><instancesSet><item><instanceId>i-1</instanceId>"
              "<launchTime>1970-01-01T00:00:00.000Z</launchTime>"
              "<tagSet><item><key>a&lt;b</key><value>\xef\xbf\xbd&amp;</value></item></"
              "tagSet>"
              "</item></instancesSet></item></reservationSet>"
              "</DescribeInstancesResponse>\n");
}

TEST(xml_encode_writes_empty_describe_lists)
{
    AUTO(buf) struct buf out = {0};
    struct ec2_describe_instances_result result = {0};
    xml_encode(PROTOCOL_EC2, &head, &ec2_describe_instances_result_desc, &result, &out);
    CHECK(strstr(out.data, "<reservationSet/>") != NULL);
    buf_clear(&out);
    ec2_json_encode(&ec2_describe_instances_result_desc, &result, &out);
    CHECK_STR(out.data, "{\"Reservations\": []}\n");
}

TEST(xml_encode_wraps_query_results)
{
    AUTO(buf) struct buf out = {0};
    const struct answer answer = {.operation = "GetCallerIdentity",
                                  .result_wrapper = "GetCallerIdentityResult",
                                  .request_id = "rid"};
    struct sts_get_caller_identity_response result = {.account = "1"};
    xml_encode(PROTOCOL_QUERY, &answer, &sts_get_caller_identity_response_desc, &result,
               &out);
    CHECK_STR(out.data, XML_HEAD
              "<GetCallerIdentityResponse><GetCallerIdentityResult><Account>1"
              "</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>rid"
              "</RequestId></ResponseMetadata></GetCallerIdentityResponse>\n");
}

TEST(ec2_json_encode_prints_what_aws_prints)
{
    AUTO(buf) struct buf out = {0};
    struct ec2_instance instance = {.instance_id = "i-1",
                                    .launch_time = 1500 * NS_PER_MS,
                                    .has_launch_time = true,
                                    .ebs_optimized = false,
                                    .has_ebs_optimized = true,
                                    .ami_launch_index = 0,
                                    .has_ami_launch_index = true};
    ec2_json_encode(&ec2_instance_desc, &instance, &out);
    CHECK_STR(out.data, "{\"AmiLaunchIndex\": 0, \"InstanceId\": \"i-1\", "
                        "\"LaunchTime\": \"1970-01-01T00:00:01.500000+00:00\", "
                        "\"EbsOptimized\": false}\n");
}

TEST(json_decode_refuses_unknown_members)
{
    AUTO(arena) struct arena *a = arena_create();
    struct err err = {0};
    struct moln_create_account_request in;
    const char *bad = "{\"Nmae\": \"x\"}", *wrong = "{\"Name\": 5}",
               *open = "{\"Name\":";
    const struct desc *desc = &moln_create_account_request_desc;
    CHECK(!json_decode(desc, bad, strlen(bad), a, &in, &err));
    CHECK_EQ(err.code, ERR_SERIALIZATION);
    CHECK(!json_decode(desc, wrong, strlen(wrong), a, &in, &err));
    CHECK(!json_decode(desc, open, strlen(open), a, &in, &err));
    CHECK(json_decode(desc, "", 0, a, &in, &err));
}

TEST(error_encode_keeps_inner_reasons_to_itself)
{
    AUTO(buf) struct buf out = {0};
    struct err err = {0};
    (void)err_set(&err, ERR_INTERNAL, "secret path /var/lib");
    error_encode(PROTOCOL_EC2, false, &err, NULL, "rid", &out);
    CHECK_NULL(strstr(out.data, "secret"));
    CHECK(strstr(out.data, "<Code>InternalError</Code>") != NULL);
    buf_clear(&out);
    (void)err_set(&err, ERR_INVALID_PARAMETER_VALUE, "a < b");
    error_encode(PROTOCOL_QUERY, false, &err, "urn:x", "rid", &out);
    CHECK_STR(
        out.data,
        "<ErrorResponse xmlns=\"urn:x\"><Error><Type>Sender</Type><Code>"
        "InvalidParameterValue</Code><Message>a &lt; b</Message></Error><RequestId>rid"
        "</RequestId></ErrorResponse>\n");
}

/* The table is searched by halves: it must be sorted, and name only what there is. */
TEST(service_operation_finds_each_in_its_table)
{
    const struct service *services[] = {&ec2_service, &sts_service, &moln_service};
    for (size_t s = 0; s < ARRAY_LEN(services); s++) {
        for (size_t i = 0; i < services[s]->operation_count; i++) {
            const struct operation *op = &services[s]->operations[i];
            CHECK(service_operation(services[s], op->name) == op);
            CHECK(!service_knows(services[s], op->name));
        }
    }
    CHECK_NULL(service_operation(&ec2_service, "Nothing"));
    CHECK(service_knows(&ec2_service, "CreateVpnGateway"));
}
