/* http.h - the requests that guests send, read from hostile bytes.
 *
 * Purpose:  find one HTTP/1.0 or 1.1 request at the front of a buffer and pick out what
 *           the metadata service asks of it. Nothing is allocated; what does not fit the
 *           bounds is refused.
 * Threads:  pure function. */
#pragma once
#include "base/base.h"

#define HTTP_HEAD_MAX 8192 /* Request line and headers. */
#define HTTP_BODY_MAX 4096 /* Read and thrown away. */
#define HTTP_PATH_MAX 1024
#define HTTP_TOKEN_MAX 256

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_PUT, HTTP_OPTIONS, HTTP_OTHER };

struct http_request {
    enum http_method method;
    bool keep_alive;
    bool forwarded;             /* Has X-Forwarded-For. */
    bool has_token, has_ttl;    /* The headers of IMDSv2 are there... */
    char token[HTTP_TOKEN_MAX]; /* ...with these values; too long a one is cut. */
    int64_t ttl_s;              /* -1: no number. */
    char path[HTTP_PATH_MAX]; /* Decoded, without query, leading or doubled slashes. */
};

enum http_result {
    HTTP_DONE, /* '*out' is set, '*out_used' bytes belong to it. */
    HTTP_MORE, /* Not whole yet. */
    HTTP_BAD,  /* Answer 400 and close. */
    HTTP_LARGE /* Answer 413 and close. */
};

enum http_result http_parse(const char *data, size_t len, struct http_request *out,
                            size_t *out_used);
