/* http_message.c - the parts of http.h that need no server. */
#include "wire/http.h"
#include <strings.h>

const char *
http_header(const struct http_request *request, const char *name)
{
    char first = (char)(*name | 32);
    for (size_t i = 0; i < request->header_count; i++) {
        const char *other = request->headers[i].name;
        if ((*other | 32) == first && strcasecmp(other, name) == 0) {
            return request->headers[i].value;
        }
    }
    return NULL;
}

void
http_answer_header(struct http_answer *answer, const char *name, const char *value)
{
    if (answer->header_count < ARRAY_LEN(answer->headers)) {
        answer->headers[answer->header_count++] = (struct http_header){name, value};
    }
}
