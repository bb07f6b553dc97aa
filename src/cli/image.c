#include "cli/image.h"

/* Own before public, then newer before older. */
static bool
is_better(struct cli *cli, json_t *a, json_t *b)
{
    bool a_public = json_bool(a, "Public"), b_public = json_bool(b, "Public");
    if (a_public != b_public) {
        return b_public;
    }
    return strcmp(json_text(cli->arena, a, "CreationDate"),
                  json_text(cli->arena, b, "CreationDate")) > 0;
}

bool
image_find(struct cli *cli, const char *name, const char **out_id,
           const char **out_root, struct err *err)
{
    AUTO(form) struct form form = {0};
    if (str_starts(name, "ami-")) {
        form_put(&form, "ImageId.1", name);
    } else {
        form_put(&form, "Filter.1.Name", "name");
        form_put(&form, "Filter.1.Value.1", name);
        form_put(&form, "Filter.2.Name", "state");
        form_put(&form, "Filter.2.Value.1", "available");
    }
    AUTO(json) json_t *answer = NULL;
    if (!api_ec2_all(cli, "DescribeImages", &form, "Images", &answer, err)) {
        return false;
    }
    json_t *best = NULL, *image;
    size_t i;
    json_array_foreach(json_object_get(answer, "Images"), i, image)
    {
        if (!best || is_better(cli, image, best)) {
            best = image;
        }
    }
    if (!best) {
        return err_set(
            err, ERR_NOT_FOUND,
            "no image is called '%s'; 'moln image ls' lists them, 'moln image "
            "build %s' may make it",
            name, name);
    }
    *out_id = arena_strdup(cli->arena, json_text(cli->arena, best, "ImageId"));
    const char *root = json_text(cli->arena, best, "RootDeviceName");
    *out_root = arena_strdup(cli->arena, *root ? root : "/dev/xvda");
    return true;
}

const char *
image_user(const char *name)
{
    static const struct {
        const char *prefix, *user;
    } users[] = {
        {"micro", "root"},     {"debian", "admin"},  {"ubuntu", "ubuntu"},
        {"centos", "centos"},  {"fedora", "fedora"}, {"rocky", "rocky"},
        {"alma", "almalinux"},
    };
    for (size_t i = 0; i < ARRAY_LEN(users); i++) {
        if (strncasecmp(name, users[i].prefix, strlen(users[i].prefix)) == 0) {
            return users[i].user;
        }
    }
    return "ec2-user";
}
