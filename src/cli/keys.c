#include "cli/keys.h"
#include "base/file.h"
#include "cli/api.h"

/* The folders looked into, in order; the second is NULL without a home. */
static void
folders(struct cli *cli, const char *out[2])
{
    out[0] = cli_path(cli, "keys");
    const char *home = getenv("HOME");
    out[1] =
        str_empty(home) ? NULL : arena_printf(cli->arena, "%s/.config/moln/keys", home);
}

/* Where a new key goes: the first folder that we may write, made if need be. */
static bool
writable_folder(struct cli *cli, const char **out, struct err *err)
{
    const char *in[2];
    folders(cli, in);
    struct err ignored = {0};
    if (access(in[0], W_OK) == 0 ||
        (access(cli->state, W_OK) == 0 && dir_make(in[0], 0755, &ignored))) {
        *out = in[0];
        return true;
    }
    if (!in[1]) {
        return err_set(err, ERR_DENIED, "%s cannot be written, and HOME is not set",
                       in[0]);
    }
    *out = in[1];
    return dir_make(in[1], 0700, err);
}

/* The pair's id, or NULL when the account has no such pair. */
static bool
pair_id(struct cli *cli, const char *name, const char **out, struct err *err)
{
    AUTO(form) struct form form = {0};
    form_put(&form, "KeyName.1", name);
    AUTO(json) json_t *answer = NULL;
    if (!api_ec2(cli, "DescribeKeyPairs", &form, &answer, err)) {
        if (!api_is(err, "InvalidKeyPair.NotFound")) {
            return false;
        }
        err_clear(err);
        *out = NULL;
        return true;
    }
    const char *id = json_text(cli->arena, answer, "KeyPairs.0.KeyPairId");
    *out = *id ? arena_strdup(cli->arena, id) : NULL;
    return true;
}

bool
keys_ensure(struct cli *cli, const char *name, struct err *err)
{
    const char *id;
    if (!pair_id(cli, name, &id, err)) {
        return false;
    }
    if (id) {
        return true;
    }
    const char *folder = NULL;
    if (!writable_folder(cli, &folder, err)) {
        return err_wrap(err, "a place for the private key");
    }
    AUTO(form) struct form form = {0};
    form_put(&form, "KeyName", name);
    form_put(&form, "KeyType", "ed25519");
    AUTO(json) json_t *answer = NULL;
    if (!api_ec2(cli, "CreateKeyPair", &form, &answer, err)) {
        return err_wrap(err, "key pair '%s'", name);
    }
    const char *path = arena_printf(cli->arena, "%s/%s.%s.pem", folder, name,
                                    json_text(cli->arena, answer, "KeyPairId"));
    const char *material = json_text(cli->arena, answer, "KeyMaterial");
    if (!*material || material[strlen(material) - 1] != '\n') {
        material = arena_printf(cli->arena, "%s\n", material);
    }
    if (!file_write(path, material, strlen(material), 0600, err)) {
        return false;
    }
    cli_progress("made key pair '%s'; its private half is %s", name, path);
    return true;
}

/* NAME.ID.pem as we write it, or a file that somebody put there; NULL: neither. */
static const char *
readable_key(struct cli *cli, const char *folder, const char *name, const char *id)
{
    const char *own = arena_printf(cli->arena, "%s/%s.%s.pem", folder, name, id);
    const char *plain = arena_printf(cli->arena, "%s/%s.pem", folder, name);
    return access(own, R_OK) == 0 ? own : access(plain, R_OK) == 0 ? plain : NULL;
}

bool
keys_file(struct cli *cli, const char *name, const char **out, struct err *err)
{
    const char *id;
    if (!pair_id(cli, name, &id, err)) {
        return false;
    }
    const char *in[2];
    folders(cli, in);
    *out = NULL;
    for (size_t i = 0; id && i < ARRAY_LEN(in) && !*out; i++) {
        *out = in[i] ? readable_key(cli, in[i], name, id) : NULL;
    }
    return true;
}
