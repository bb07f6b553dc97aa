#include "cli/cmd_run.h"
#include "base/crypto.h"
#include "base/file.h"
#include "cli/image.h"
#include "cli/instance.h"
#include "cli/keys.h"

#define USER_DATA_MAX (16 * KIB)
#define WAIT_S 300

const struct option run_options[] = {
    {"image", 'i', "NAME", "image, by name or id (micro)"},
    {"type", 't', "TYPE", "instance type (t3.micro)"},
    {"count", 'n', "N", "how many (1)"},
    {"name", 0, "NAME", "their Name tag"},
    {"key-name", 'k', "NAME", "key pair (moln, made when it is not there)"},
    {"user-data", 'u', "FILE", "what the guest runs at its first start; - reads input"},
    {"size", 0, "GIB", "of the root volume (the image's)"},
    {"subnet", 0, "ID", "where (a default subnet)"},
    {"zone", 0, "NAME", "availability zone (any)"},
    {"token", 0, "TEXT", "client token: the same launch is not made twice"},
    {"no-wait", 0, NULL, "print the ids at once"},
    {NULL, 0, NULL, NULL},
};

static bool
read_input(struct buf *out, struct err *err)
{
    out->limit = USER_DATA_MAX + 1;
    size_t n;
    do {
        char part[4096];
        n = fread(part, 1, sizeof part, stdin);
        buf_put(out, part, n);
    } while (n > 0);
    return !ferror(stdin) || err_set(err, ERR_SYSTEM, "cannot read standard input");
}

static bool
put_user_data(struct cli *cli, struct form *form, const char *file, struct err *err)
{
    AUTO(buf) struct buf text = {0};
    if (str_eq(file, "-")) {
        if (!read_input(&text, err)) {
            return false;
        }
    } else {
        AUTO(free) char *data = NULL;
        size_t len;
        if (!file_read(file, USER_DATA_MAX, &data, &len, err)) {
            return err_wrap(err, "user data (16 KiB at most)");
        }
        buf_put(&text, data, len);
    }
    if (text.full || text.len > USER_DATA_MAX) {
        return err_set(err, ERR_INVALID, "user data is longer than 16 KiB");
    }
    form_put(form, "UserData", base64_encode(cli->arena, buf_str(&text), text.len));
    return true;
}

static void
put_name(struct form *form, const char *name)
{
    form_put(form, "TagSpecification.1.ResourceType", "instance");
    form_put(form, "TagSpecification.1.Tag.1.Key", "Name");
    form_put(form, "TagSpecification.1.Tag.1.Value", name);
}

/* The parameters of RunInstances from the command line. */
static bool
fill_form(struct cli *cli, const struct args *args, struct form *form, struct err *err)
{
    const char *image = args_get(args, "image");
    const char *type = args_get(args, "type");
    const char *key = args_get(args, "key-name");
    const char *image_id, *root;
    int64_t count, size_gib;
    if (!args_int(args, "count", 1, 1000, 1, &count, err) ||
        !args_int(args, "size", 1, 65536, 0, &size_gib, err) ||
        !image_find(cli, image ? image : DEFAULT_IMAGE, &image_id, &root, err) ||
        !keys_ensure(cli, key ? key : DEFAULT_KEY_NAME, err)) {
        return false;
    }
    form_put(form, "ImageId", image_id);
    form_put(form, "InstanceType", type ? type : DEFAULT_TYPE);
    form_put(form, "KeyName", key ? key : DEFAULT_KEY_NAME);
    form_int(form, "MinCount", count);
    form_int(form, "MaxCount", count);
    if (size_gib) {
        form_put(form, "BlockDeviceMapping.1.DeviceName", root);
        form_int(form, "BlockDeviceMapping.1.Ebs.VolumeSize", size_gib);
    }
    static const struct {
        const char *option, *parameter;
    } plain[] = {
        {"subnet", "SubnetId"},
        {"zone", "Placement.AvailabilityZone"},
        {"token", "ClientToken"},
    };
    for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
        if (args_has(args, plain[i].option)) {
            form_put(form, plain[i].parameter, args_get(args, plain[i].option));
        }
    }
    if (args_has(args, "name")) {
        put_name(form, args_get(args, "name"));
    }
    const char *user_data = args_get(args, "user-data");
    return !user_data || put_user_data(cli, form, user_data, err);
}

bool
run_run(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(form) struct form form = {0};
    AUTO(json) json_t *answer = NULL;
    if (!fill_form(cli, args, &form, err) ||
        !api_ec2(cli, "RunInstances", &form, &answer, err)) {
        return false;
    }
    json_t *instances = json_object_get(answer, "Instances");
    size_t count = json_array_size(instances);
    const char **ids = ARENA_ARRAY(cli->arena, count + 1, const char *);
    for (size_t i = 0; i < count; i++) {
        ids[i] = json_text(cli->arena, json_array_get(instances, i), "InstanceId");
    }
    if (cli->json) {
        json_print(answer);
    }
    for (size_t i = 0; !cli->json && i < count; i++) {
        printf("%s\n", ids[i]);
    }
    (void)fflush(stdout);
    if (args_has(args, "no-wait")) {
        return true;
    }
    cli_progress("waiting until %s", count == 1 ? "it runs" : "they run");
    return instance_wait(cli, ids, count, "running", WAIT_S, err);
}
