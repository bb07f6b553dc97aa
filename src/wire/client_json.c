/* client_json.c - calls whose answers are JSON, and what errors say. */
#include "base/jsonio.h"
#include "wire/client_parts.h"

/* ---- errors ---------------------------------------------------------------------- */

/* The text of the first <tag>, with XML's escapes undone; empty when there is none. */
static void
xml_text(const char *body, const char *tag, struct buf *out)
{
    static const struct {
        const char *escape;
        char c;
    } escapes[] = {{"&lt;", '<'}, {"&gt;", '>'}, {"&amp;", '&'}, {"&quot;", '"'}};
    const char *at = strstr(body, tag);
    at = at ? at + strlen(tag) : "";
    while (*at && *at != '<') {
        size_t step = 1;
        char c = *at;
        for (size_t i = 0; c == '&' && i < ARRAY_LEN(escapes); i++) {
            if (str_starts(at, escapes[i].escape)) {
                c = escapes[i].c;
                step = strlen(escapes[i].escape);
                break;
            }
        }
        buf_putc(out, c);
        at += step;
    }
}

static const char *
json_text(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

bool
client_read_error(const struct buf *body, int status, char error_code[96],
                  struct err *err)
{
    AUTO(json) json_t *json = json_loadb(buf_str(body), body->len, 0, NULL);
    AUTO(buf) struct buf code = {.limit = 90};
    AUTO(buf) struct buf message = {.limit = 400};
    if (json) {
        const json_t *inner = json_object_get(json, "Error");
        const char *c = inner ? json_text(inner, "Code") : json_text(json, "__type");
        const char *m =
            inner ? json_text(inner, "Message") : json_text(json, "message");
        const char *hash = c ? strrchr(c, '#') : NULL;
        buf_puts(&code, hash ? hash + 1 : c ? c : "");
        buf_puts(&message, m ? m : "");
    } else {
        xml_text(buf_str(body), "<Code>", &code);
        xml_text(buf_str(body), "<Message>", &message);
    }
    if (!code.len) {
        buf_printf(&code, "HTTP%d", status);
    }
    (void)snprintf(error_code, 96, "%s", buf_str(&code));
    (void)err_set(err, ERR_INVALID, "%s: %s", error_code,
                  message.len ? buf_str(&message) : "the server gave no reason");
    return false;
}

/* ---- calls ----------------------------------------------------------------------- */

static bool
read_reply(struct client_reply *reply, json_t **out, char error_code[96],
           struct err *err)
{
    if (reply->status >= 400) {
        return client_read_error(&reply->body, reply->status, error_code, err);
    }
    json_error_t why;
    json_t *json = json_loadb(buf_str(&reply->body), reply->body.len, 0, &why);
    if (!json) {
        return err_set(err, ERR_CORRUPT, "the answer is not JSON: %s", why.text);
    }
    *out = json;
    return true;
}

bool
client_ec2(struct client *client, const char *action, const char *form, json_t **out,
           char error_code[96], struct err *err)
{
    AUTO(buf) struct buf body = {0};
    buf_printf(&body, "Action=%s&Version=2016-11-15%s%s", action,
               form && *form && *form != '&' ? "&" : "", form ? form : "");
    static const struct http_header headers[] = {
        {"Accept", "application/json"},
        {"Content-Type", "application/x-www-form-urlencoded; charset=utf-8"},
    };
    struct client_reply reply = {0};
    error_code[0] = '\0';
    bool ok = client_call(client, "ec2", "POST", "/", headers, ARRAY_LEN(headers),
                          body.data, body.len, &reply, err) &&
              read_reply(&reply, out, error_code, err);
    client_reply_fini(&reply);
    return ok;
}

void
client_form_put(struct buf *form, const char *name, const char *value)
{
    static const char digits[] = "0123456789ABCDEF";
    buf_printf(form, "&%s=", name);
    for (; *value; value++) {
        uint8_t c = (uint8_t)*value;
        bool plain = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                     (c >= '0' && c <= '9') || strchr("-_.~", c);
        if (plain) {
            buf_putc(form, *value);
        } else {
            buf_putc(form, '%');
            buf_putc(form, digits[c >> 4]);
            buf_putc(form, digits[c & 15]);
        }
    }
}

bool
client_json(struct client *client, const char *service, const char *target,
            const json_t *in, json_t **out, char error_code[96], struct err *err)
{
    AUTO(free) char *body = in ? json_dumps(in, JSON_COMPACT) : xstrdup("{}");
    const struct http_header headers[] = {
        {"Content-Type", "application/x-amz-json-1.1"},
        {"X-Amz-Target", target},
    };
    struct client_reply reply = {0};
    error_code[0] = '\0';
    bool ok = client_call(client, service, "POST", "/", headers, ARRAY_LEN(headers),
                          body, body ? strlen(body) : 0, &reply, err) &&
              read_reply(&reply, out, error_code, err);
    client_reply_fini(&reply);
    return ok;
}
