#include "base/jsonio.h"
#include "node/agent_impl.h"

#define PEM_MAX (64u << 10)

static void
text(const json_t *json, const char *key, char *out, size_t size)
{
    const char *v = json_string_value(json_object_get(json, key));
    snprintf(out, size, "%s", v ? v : "");
}

bool
identity_load(struct agent *a, struct err *err)
{
    AUTO(free) char *path = xasprintf("%s/node.json", a->dir);
    AUTO(free) char *data = NULL;
    size_t len;
    if (!file_exists(path)) {
        return true;
    }
    if (!file_read(path, 16384, &data, &len, err)) {
        return false;
    }
    AUTO(json) json_t *json = json_loadb(data, len, 0, NULL);
    if (!json) {
        return err_set(err, ERR_CORRUPT, "%s is damaged", path);
    }
    struct identity *id = &a->identity;
    text(json, "node_id", id->node_id, sizeof id->node_id);
    text(json, "cloud_id", id->cloud_id, sizeof id->cloud_id);
    text(json, "control", id->control, sizeof id->control);
    text(json, "underlay", id->underlay, sizeof id->underlay);
    const char *host = json_string_value(json_object_get(json, "host"));
    if (!id->control[0] && !str_empty(host)) { /* Written by an earlier agent. */
        snprintf(id->control, sizeof id->control,
                 strchr(host, ':') ? "[%s]:%d" : "%s:%d", host,
                 (int)json_integer_value(json_object_get(json, "port")));
    }
    return true;
}

bool
identity_save(struct agent *a, struct err *err)
{
    const struct identity *id = &a->identity;
    AUTO(free) char *path = xasprintf("%s/node.json", a->dir);
    AUTO(json)
    json_t *json =
        json_pack("{s:s, s:s, s:s, s:s}", "node_id", id->node_id, "cloud_id",
                  id->cloud_id, "control", id->control, "underlay", id->underlay);
    AUTO(free) char *data = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
    if (!data) {
        return err_set(err, ERR_INTERNAL, "cannot write %s", path);
    }
    return file_write(path, data, strlen(data), 0600, err);
}

bool
identity_read_pem(const struct agent *a, const char *name, struct arena *arena,
                  const char **out, struct err *err)
{
    AUTO(free) char *path = xasprintf("%s/%s", a->dir, name);
    AUTO(free) char *data = NULL;
    if (!file_exists(path)) {
        *out = NULL;
        return true;
    }
    if (!file_read(path, PEM_MAX, &data, NULL, err)) {
        return false;
    }
    *out = arena_strdup(arena, data);
    return true;
}

bool
identity_write_pem(const struct agent *a, const char *name, const char *pem,
                   struct err *err)
{
    AUTO(free) char *path = xasprintf("%s/%s", a->dir, name);
    return file_write(path, pem, strlen(pem), 0600, err);
}
