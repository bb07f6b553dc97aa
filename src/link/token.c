/* token.c - the text that a host joins with. See pki.h. */
#include "base/crypto.h"
#include "link/pki.h"

#define PREFIX "moln1-"
#define CA_HEX 64
#define ID_HEX 16
#define SECRET_HEX 32
#define CHECK_HEX 8
#define BODY_LEN (sizeof PREFIX - 1 + CA_HEX + 1 + ID_HEX + 1 + SECRET_HEX)
#define TEXT_LEN (BODY_LEN + 1 + CHECK_HEX)
_Static_assert(TEXT_LEN < TOKEN_TEXT_LEN, "a token fits its buffer");

void
token_make(const struct rng *rng, const char *ca_sha256, struct join_token *out)
{
    uint8_t id[ID_HEX / 2], secret[SECRET_HEX / 2];
    char id_hex[ID_HEX + 1];
    rng->fill(rng->ctx, id, sizeof id);
    rng->fill(rng->ctx, secret, sizeof secret);
    hex_encode(id, sizeof id, id_hex);
    snprintf(out->ca_sha256, sizeof out->ca_sha256, "%s", ca_sha256);
    snprintf(out->id, sizeof out->id, "tok-%s", id_hex);
    hex_encode(secret, sizeof secret, out->secret);
}

static void
token_check(const char *body, char out[CHECK_HEX + 1])
{
    char digest[SHA256_HEX_LEN];
    sha256_hex(body, BODY_LEN, digest);
    memcpy(out, digest, CHECK_HEX);
    out[CHECK_HEX] = 0;
}

void
token_format(const struct join_token *token, char out[TOKEN_TEXT_LEN])
{
    char body[TOKEN_TEXT_LEN], check[CHECK_HEX + 1];
    snprintf(body, sizeof body, PREFIX "%.*s-%.*s-%.*s", CA_HEX, token->ca_sha256,
             ID_HEX, token->id + strlen("tok-"), SECRET_HEX, token->secret);
    token_check(body, check);
    snprintf(out, TOKEN_TEXT_LEN, "%.*s-%s", (int)BODY_LEN, body, check);
}

/* Copies 'len' lower-case hex digits from '*p', which must end at 'end'. */
static bool
take_hex(const char **p, size_t len, char end, char *out)
{
    if (strspn(*p, "0123456789abcdef") != len || (*p)[len] != end) {
        return false;
    }
    memcpy(out, *p, len);
    out[len] = 0;
    *p += len + (end != 0);
    return true;
}

bool
token_parse(const char *text, struct join_token *out, struct err *err)
{
    static const char space[] = " \t\r\n";
    char line[TEXT_LEN + 1], check[CHECK_HEX + 1], good[CHECK_HEX + 1];
    struct join_token t = {0};

    text += strspn(text, space);
    size_t len = strcspn(text, space);
    if (!str_starts(text, PREFIX) || text[len + strspn(text + len, space)]) {
        return err_set(err, ERR_INVALID,
                       "token: it should begin with " PREFIX " and be one word");
    }
    if (len != TEXT_LEN) {
        return err_set(err, ERR_INVALID, "token: %zu characters instead of %zu", len,
                       TEXT_LEN);
    }
    memcpy(line, text, len);
    line[len] = 0;
    const char *p = line + strlen(PREFIX);
    memcpy(t.id, "tok-", 4);
    if (!take_hex(&p, CA_HEX, '-', t.ca_sha256) ||
        !take_hex(&p, ID_HEX, '-', t.id + 4) ||
        !take_hex(&p, SECRET_HEX, '-', t.secret) ||
        !take_hex(&p, CHECK_HEX, 0, check)) {
        return err_set(err, ERR_INVALID, "token: not hexadecimal where it should be");
    }
    token_check(line, good);
    if (!str_eq(check, good)) {
        return err_set(err, ERR_INVALID, "token: its checksum is wrong; mistyped?");
    }
    *out = t;
    return true;
}

void
token_secret_hash(const char *secret, char out_hex[65])
{
    sha256_hex(secret, strlen(secret), out_hex);
}
