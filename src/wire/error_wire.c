/* error_wire.c - an error as each protocol's clients read it. */
#include "base/jsonio.h"
#include "wire/protocol.h"
#include "wire/text.h"

/* What went wrong inside is for the log, not for a stranger. */
static const char *
told(const struct err *err)
{
    switch (err->code) {
    case ERR_INTERNAL:
    case ERR_SYSTEM:
    case ERR_CORRUPT:
    case ERR_NO_SPACE:
        return "An internal error has occurred";
    case ERR_TIMEOUT:
    case ERR_GONE:
    case ERR_BUSY:
    case ERR_CONFLICT:
        return "The server is overloaded and can't handle the request.";
    default:
        return err->msg;
    }
}

static void
put_json(struct buf *out, const char *s)
{
    json_put_string(out, s, strlen(s));
}

void
error_encode(enum protocol protocol, bool json, const struct err *err,
             const char *xml_namespace, const char *request_id, struct buf *out)
{
    const struct err_info *info = err_info(err->code);
    const char *message = told(err);
    if (protocol == PROTOCOL_JSON || protocol == PROTOCOL_REST_JSON) {
        buf_printf(out, "{\"__type\":\"%s\",\"message\":", info->aws);
        put_json(out, message);
        buf_puts(out, "}");
    } else if (json) {
        buf_printf(out, "{\"Error\": {\"Code\": \"%s\", \"Message\": ", info->aws);
        put_json(out, message);
        buf_printf(out, "}, \"ResponseMetadata\": {\"RequestId\": \"%s\"}}\n",
                   request_id);
    } else if (protocol == PROTOCOL_EC2) {
        buf_printf(
            out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error>"
            "<Code>%s</Code><Message>",
            info->aws);
        text_put_xml(out, message);
        buf_printf(out,
                   "</Message></Error></Errors><RequestID>%s</RequestID></Response>\n",
                   request_id);
    } else {
        buf_puts(out, "<ErrorResponse");
        if (xml_namespace) {
            buf_printf(out, " xmlns=\"%s\"", xml_namespace);
        }
        buf_printf(out, "><Error><Type>%s</Type><Code>%s</Code><Message>",
                   info->http < 500 ? "Sender" : "Receiver", info->aws);
        text_put_xml(out, message);
        buf_printf(out, "</Message></Error><RequestId>%s</RequestId></ErrorResponse>\n",
                   request_id);
    }
}
