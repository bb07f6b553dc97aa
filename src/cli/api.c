#include "cli/api.h"

#include "base/timefmt.h"

/* A list that goes on for ever ends here. */
#define MAX_PAGES 1000

void
form_put(struct form *form, const char *name, const char *value)
{
    client_form_put(&form->buf, name, value);
}

void
form_int(struct form *form, const char *name, int64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRId64, value);
    form_put(form, name, text);
}

/* Says what to do where nobody answers. */
static bool
explain(struct cli *cli, struct err *err)
{
    struct cli_keys keys;
    struct err ignored = {0};
    if (err->code == ERR_GONE && cli_tenant_keys(cli, &keys, &ignored)) {
        const char *was = arena_strdup(cli->arena, err->msg);
        return err_set(err, ERR_GONE,
                       "no cloud answers at %s (%s); 'make up' starts it",
                       keys.endpoint, was);
    }
    if (err->code == ERR_INVALID) {
        err->sys = 0; /* The API's word, not a wrong command line. */
    }
    return false;
}

bool
api_ec2(struct cli *cli, const char *action, const struct form *form, json_t **out,
        struct err *err)
{
    struct client *client = cli_tenant(cli, err);
    if (!client) {
        return false;
    }
    char code[96];
    const char *text = form ? buf_str(&form->buf) : "";
    return client_ec2(client, action, text, out, code, err) || explain(cli, err);
}

bool
api_operator(struct cli *cli, const char *operation, const json_t *in, json_t **out,
             struct err *err)
{
    struct client *client = cli_operator(cli, err);
    if (!client) {
        return false;
    }
    char code[96];
    const char *target = arena_printf(cli->arena, "Moln_20261101.%s", operation);
    return client_json(client, "moln", target, in, out, code, err) || explain(cli, err);
}

/* Moves the page's items to 'all'; its NextToken (in 'arena') or NULL. */
static const char *
join_page(struct arena *arena, json_t **all, json_t *page, const char *list)
{
    const char *token = json_text(arena, page, "NextToken");
    token = *token ? arena_strdup(arena, token) : NULL;
    json_object_del(page, "NextToken");
    if (!*all) {
        *all = json_incref(page);
    } else if (json_is_array(json_object_get(page, list))) {
        json_array_extend(json_object_get(*all, list), json_object_get(page, list));
    }
    return token;
}

bool
api_ec2_all(struct cli *cli, const char *action, const struct form *form,
            const char *list, json_t **out, struct err *err)
{
    AUTO(json) json_t *all = NULL;
    const char *token = NULL;
    for (int pages = 0; pages == 0 || (token && pages < MAX_PAGES); pages++) {
        AUTO(form) struct form page_form = {0};
        if (form) {
            buf_puts(&page_form.buf, buf_str(&form->buf));
        }
        if (token) {
            form_put(&page_form, "NextToken", token);
        }
        AUTO(json) json_t *page = NULL;
        if (!api_ec2(cli, action, &page_form, &page, err)) {
            return false;
        }
        token = join_page(cli->arena, &all, page, list);
    }
    *out = take_json(&all);
    return true;
}

bool
api_operator_all(struct cli *cli, const char *operation, const json_t *in,
                 const char *list, json_t **out, struct err *err)
{
    AUTO(json) json_t *all = NULL;
    const char *token = NULL;
    for (int pages = 0; pages == 0 || (token && pages < MAX_PAGES); pages++) {
        AUTO(json) json_t *ask = in ? json_deep_copy(in) : json_object();
        if (token) {
            json_object_set_new(ask, "NextToken", json_string(token));
        }
        AUTO(json) json_t *page = NULL;
        if (!api_operator(cli, operation, ask, &page, err)) {
            return false;
        }
        token = join_page(cli->arena, &all, page, list);
    }
    *out = take_json(&all);
    return true;
}

bool
api_is(const struct err *err, const char *code)
{
    size_t len = strlen(code);
    return strncmp(err->msg, code, len) == 0 && err->msg[len] == ':';
}

json_t *
json_at(json_t *json, const char *path)
{
    while (json && *path) {
        char name[64];
        size_t len = strcspn(path, ".");
        if (len >= sizeof name) {
            return NULL;
        }
        memcpy(name, path, len);
        name[len] = '\0';
        json = json_is_array(json)
                   ? json_array_get(json, (size_t)strtoul(name, NULL, 10))
                   : json_object_get(json, name);
        path += len + (path[len] == '.');
    }
    return json;
}

const char *
json_text(struct arena *arena, json_t *json, const char *path)
{
    json_t *at = json_at(json, path);
    if (json_is_string(at)) {
        return json_string_value(at);
    }
    if (json_is_integer(at)) {
        return arena_printf(arena, "%" JSON_INTEGER_FORMAT, json_integer_value(at));
    }
    if (json_is_real(at)) {
        return arena_printf(arena, "%.3f", json_real_value(at));
    }
    if (json_is_boolean(at)) {
        return json_is_true(at) ? "true" : "false";
    }
    return "";
}

int64_t
json_int(json_t *json, const char *path)
{
    json_t *at = json_at(json, path);
    return json_is_real(at) ? (int64_t)json_real_value(at)
                            : (int64_t)json_integer_value(at);
}

const char *
json_when(struct arena *arena, json_t *json, const char *path)
{
    char at[TIME_TEXT_LEN];
    double seconds = json_number_value(json_at(json, path));
    time_iso((int64_t)(seconds * (double)NS_PER_S), at);
    return arena_strdup(arena, at);
}

bool
json_bool(json_t *json, const char *path)
{
    return json_is_true(json_at(json, path));
}

const char *
json_tag(json_t *json, const char *key)
{
    json_t *tags = json_object_get(json, "Tags");
    size_t i;
    json_t *tag;
    json_array_foreach(tags, i, tag)
    {
        const char *name = json_string_value(json_object_get(tag, "Key"));
        const char *value = json_string_value(json_object_get(tag, "Value"));
        if (name && value && strcmp(name, key) == 0) {
            return value;
        }
    }
    return "";
}

void
json_print(const json_t *json)
{
    (void)json_dumpf(json, stdout, JSON_INDENT(4) | JSON_ENCODE_ANY);
    (void)putchar('\n');
}
