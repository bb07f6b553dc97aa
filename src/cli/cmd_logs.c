/* moln logs ...: what was recorded. */
#include "cli/api.h"
#include "cli/command.h"

#define FOLLOW_S 5

/* One page, from where 'in' says; 'in' is moved behind it. */
static bool
page(struct cli *cli, json_t *in, bool *first, bool *out_more, struct err *err)
{
    AUTO(json) json_t *answer = NULL;
    if (!api_operator(cli, "ReadFlowLog", in, &answer, err)) {
        return false;
    }
    size_t i;
    json_t *line;
    json_t *lines = json_object_get(answer, "Records");
    if (*first && json_array_size(lines) > 0) {
        printf("%s\n", json_text(cli->arena, answer, "Fields"));
        *first = false;
    }
    json_array_foreach(lines, i, line)
    {
        printf("%s\n", json_string_value(line));
    }
    json_t *next = json_object_get(answer, "NextToken");
    if (next) {
        json_object_set(in, "NextToken", next);
    }
    *out_more = !json_bool(answer, "Complete");
    return true;
}

static bool
run_flow(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *in = json_pack("{ss}", "FlowLogId", args->words[0]);
    bool follow = args_has(args, "follow"), first = true;
    for (bool more = true; more || follow;) {
        if (!page(cli, in, &first, &more, err)) {
            return false;
        }
        (void)fflush(stdout);
        if (!more && follow) {
            (void)sleep(FOLLOW_S);
        }
    }
    if (first) {
        (void)fprintf(stderr, "Nothing is recorded yet: a flow log writes when its "
                              "interval ends.\n");
    }
    return true;
}

static const struct option flow_options[] = {
    {"follow", 'f', NULL, "go on with what comes"},
    {NULL, 0, NULL, NULL},
};

const struct command logs_commands[] = {
    {"logs flow", "FLOW-LOG [--follow]", "print what a flow log has recorded",
     "AWS's lines, oldest first, of the last seven days; the first names the fields. "
     "A\n"
     "log is made as on AWS; its destination, a log group or a bucket, is a name "
     "here:\n"
     "\n"
     "  aws ec2 create-flow-logs --resource-type VPC --resource-ids vpc-... \\\n"
     "      --traffic-type ALL --log-group-name flows --max-aggregation-interval 60 "
     "\\\n"
     "      --deliver-logs-permission-arn ARN\n"
     "  moln logs flow fl-... --follow\n",
     flow_options, 1, 1, WORD_NONE, false, run_flow},
    {NULL},
};
