#include "cli/hostkey.h"
#include "test.h"

#define KEY "AAAAC3NzaC1lZDI1NTE5AAAAIBji80L8dGctmkJP5djBE5Z0ZpIvvRZE6tCJV8heNdzC"
#define BEGIN "-----BEGIN SSH HOST KEY KEYS-----\r\n"
#define END "-----END SSH HOST KEY KEYS-----\r\n"

TEST(hostkey_reads_the_keys_of_a_console)
{
    AUTO(arena) struct arena *arena = arena_create();
    const char *console = "moln micro: init\r\n" BEGIN "ssh-ed25519 " KEY
                          " root@ip-10-0-0-5\r\n" END "login:";
    CHECK_STR(hostkey_known_hosts(arena, console, "i-1"), "i-1 ssh-ed25519 " KEY "\n");
}

/* Every boot prints a block; an image's copy has new keys. */
TEST(hostkey_believes_the_last_complete_block)
{
    AUTO(arena) struct arena *arena = arena_create();
    const char *console =
        BEGIN "ssh-ed25519 AAAAoldoldoldoldoldoldoldoldoldoldoldold a\n" END BEGIN
              "ssh-ed25519 " KEY " b\n" END BEGIN
              "ssh-ed25519 AAAAcutcutcutcutcutcutcutcutcutcutcutcut c\n";
    CHECK_STR(hostkey_known_hosts(arena, console, "i-1"), "i-1 ssh-ed25519 " KEY "\n");
}

TEST(hostkey_reads_past_the_prefix_of_a_log)
{
    AUTO(arena) struct arena *arena = arena_create();
    const char *console = "ec2: " BEGIN "ec2: ssh-ed25519 " KEY " x\nec2: " END;
    CHECK_STR(hostkey_known_hosts(arena, console, "i-1"), "i-1 ssh-ed25519 " KEY "\n");
}

/* A guest must not write lines of its own into our file. */
TEST(hostkey_leaves_out_what_is_no_key)
{
    AUTO(arena) struct arena *arena = arena_create();
    CHECK(!hostkey_known_hosts(arena, "no marks at all", "i-1"));
    CHECK(!hostkey_known_hosts(arena, BEGIN "ssh-ed25519 short x\n" END, "i-1"));
    CHECK(!hostkey_known_hosts(
        arena, BEGIN "ssh-rsa !!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!! x\n" END, "i-1"));
    CHECK(!hostkey_known_hosts(arena, BEGIN "* cert-authority " KEY "\n" END, "i-1"));
}
