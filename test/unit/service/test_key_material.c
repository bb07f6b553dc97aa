/* Keys and fingerprints, held against what ssh-keygen and openssl say of them. */
#include "base/file.h"
#include "service/ec2/key_material.h"
#include "test.h"

/* What 'cmd' writes, without its last line end. */
static const char *
output_of(struct arena *arena, const char *cmd)
{
    FILE *f = popen(cmd, "r");
    char text[4096];
    CHECK(f);
    size_t len = fread(text, 1, sizeof text - 1, f);
    CHECK_EQ(pclose(f), 0);
    text[len] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return arena_strdup(arena, text);
}

struct scene {
    struct arena *arena;
    struct rng rng;
    uint64_t seed;
    char dir[32];
};

static void
scene_init(struct scene *s)
{
    *s = (struct scene){.arena = arena_create(), .seed = 7};
    s->rng = rng_seeded(&s->seed);
    strcpy(s->dir, "/tmp/moln-keys-XXXXXX");
    CHECK(mkdtemp(s->dir));
}

static void
scene_fini(struct scene *s)
{
    struct err err;
    CHECK_OK(dir_remove(s->dir, &err), &err);
    arena_destroy(s->arena);
}

/* Writes 'text' and a line end into a file of the scene's and returns its path. */
static const char *
put(struct scene *s, const char *name, const char *text)
{
    struct err err;
    const char *path = arena_printf(s->arena, "%s/%s", s->dir, name);
    const char *line = arena_printf(s->arena, "%s\n", text);
    CHECK_OK(file_write(path, line, strlen(line), 0600, &err), &err);
    return path;
}

static const char *
without_comment(struct scene *s, const char *line)
{
    const char *body = strchr(line, ' ') + 1;
    return arena_strndup(s->arena, line, (size_t)(body - line) + strcspn(body, " "));
}

TEST(key_make_agrees_with_openssl_when_rsa)
{
    struct scene s;
    struct key_material key;
    struct err err = {0};
    scene_init(&s);
    CHECK_OK(key_make(s.arena, &s.rng, KEY_RSA, "mine", &key, &err), &err);
    CHECK(str_starts(key.private_pem, "-----BEGIN RSA PRIVATE KEY-----\n"));
    const char *path = put(&s, "key", key.private_pem);
    CHECK_STR(output_of(s.arena,
                        arena_printf(s.arena,
                                     "openssl pkcs8 -in %s -nocrypt -topk8 -outform DER"
                                     " | openssl sha1 -c | sed 's/.*= //'",
                                     path)),
              key.fingerprint);
    CHECK_STR(
        output_of(s.arena,
                  arena_printf(s.arena, "openssl rsa -check -noout -in %s", path)),
        "RSA key ok");
    CHECK_STR(output_of(s.arena, arena_printf(s.arena, "ssh-keygen -y -f %s", path)),
              without_comment(&s, key.public_key));
    scene_fini(&s);
}

TEST(key_make_agrees_with_ssh_keygen_when_ed25519)
{
    struct scene s;
    struct key_material key;
    struct err err = {0};
    scene_init(&s);
    CHECK_OK(key_make(s.arena, &s.rng, KEY_ED25519, "mine", &key, &err), &err);
    const char *path = put(&s, "key", key.private_pem);
    CHECK_STR(output_of(s.arena, arena_printf(s.arena, "ssh-keygen -y -f %s", path)),
              key.public_key);
    CHECK_STR(
        output_of(s.arena, arena_printf(s.arena,
                                        "ssh-keygen -l -f %s | sed 's/.*SHA256:\\([^ "
                                        "]*\\).*/\\1/'",
                                        path)),
        key.fingerprint);
    scene_fini(&s);
}

TEST(key_make_gives_the_same_when_random_numbers_are_the_same)
{
    struct scene s;
    struct key_material a, b;
    struct err err = {0};
    scene_init(&s);
    CHECK_OK(key_make(s.arena, &s.rng, KEY_ED25519, "k", &a, &err), &err);
    s.seed = 7;
    CHECK_OK(key_make(s.arena, &s.rng, KEY_ED25519, "k", &b, &err), &err);
    CHECK_STR(a.private_pem, b.private_pem);
    scene_fini(&s);
}

/* Every form that the tools can write of one key is read as that key. */
TEST(key_read_takes_every_form_when_rsa)
{
    static const char *const forms[] = {
        "cat %s.pub",
        "ssh-keygen -e -f %s.pub",
        "ssh-keygen -e -m PKCS8 -f %s.pub",
        "ssh-keygen -e -m PKCS8 -f %s.pub | grep -v -e -----",
    };
    struct scene s;
    struct err err = {0};
    scene_init(&s);
    const char *path = arena_printf(s.arena, "%s/rsa", s.dir);
    (void)output_of(s.arena, arena_printf(s.arena,
                                          "ssh-keygen -q -t rsa -b 2048 -m PEM"
                                          " -C c -N '' -f %s",
                                          path));
    const char *expect = output_of(
        s.arena, arena_printf(s.arena,
                              "openssl rsa -in %s -pubout -outform DER 2>/dev/null |"
                              " openssl md5 -c | sed 's/.*= //'",
                              path));
    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        struct key_material key;
        AUTO(free) char *text = NULL;
        size_t len;
        const char *cmd = arena_strdup(s.arena, forms[i]);
        const char *at = strstr(cmd, "%s");
        cmd = arena_printf(s.arena, "%.*s%s%s > %s/form", (int)(at - cmd), cmd, path,
                           at + 2, s.dir);
        CHECK_STR(output_of(s.arena, cmd), "");
        CHECK_OK(
            file_read(arena_printf(s.arena, "%s/form", s.dir), 8192, &text, &len, &err),
            &err);
        CHECK_OK(key_read(s.arena, text, len, "k", &key, &err), &err);
        CHECK_STR(key.fingerprint, expect);
        CHECK_EQ(key.kind, KEY_RSA);
    }
    scene_fini(&s);
}

TEST(key_read_takes_ed25519_when_openssh)
{
    struct scene s;
    struct key_material made, read;
    struct err err = {0};
    scene_init(&s);
    CHECK_OK(key_make(s.arena, &s.rng, KEY_ED25519, "mine", &made, &err), &err);
    CHECK_OK(key_read(s.arena, made.public_key, strlen(made.public_key), "mine", &read,
                      &err),
             &err);
    CHECK_STR(read.public_key, made.public_key);
    CHECK_STR(read.fingerprint, made.fingerprint);
    scene_fini(&s);
}

TEST(key_read_refuses_when_malformed)
{
    static const char *const bad[] = {
        "",
        "hello",
        "ssh-rsa",
        "ssh-rsa AAAA",
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAA==",
        "ssh-dss AAAAB3NzaC1kc3MAAACBAA==",
        "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIGtnbGtnbGtnbGtnbGtnbGtnbGtnbGtnbGtnbGtnbGtn",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAH2tnbGtnbGtnbGtnbGtnbGtnbGtnbGtnbGtnbGtn",
        "---- BEGIN SSH2 PUBLIC KEY ----",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    };
    struct scene s;
    scene_init(&s);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct key_material key;
        struct err err = {0};
        CHECK(!key_read(s.arena, bad[i], strlen(bad[i]), "k", &key, &err));
        CHECK_EQ(err.code, ERR_KEY_FORMAT);
    }
    scene_fini(&s);
}
