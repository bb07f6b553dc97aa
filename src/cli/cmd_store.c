/* cmd_store.c - moln store copy: a cloud's rows from one database to another.
 *
 * Works on databases, not on a running cloud: whoever serves the source is down. Run as
 * root it becomes the user of STATE/control first, so that files stay that user's and
 * PostgreSQL sees who will come later. */
#include "base/crypto.h"
#include "base/file.h"
#include "base/world.h"
#include "cli/command.h"
#include "store/rows.h"
#include "store/transfer.h"

#include <errno.h>
#include <grp.h>
#include <sys/stat.h>

static bool
become_owner(struct cli *cli, struct err *err)
{
    struct stat st;
    const char *control = cli_path(cli, "control");
    if (geteuid() != 0) {
        return true;
    }
    if (stat(control, &st) != 0) {
        return err_sys(err, errno, "look at %s", control);
    }
    return (setgroups(0, NULL) == 0 &&
            setresgid(st.st_gid, st.st_gid, st.st_gid) == 0 &&
            setresuid(st.st_uid, st.st_uid, st.st_uid) == 0) ||
           err_sys(err, errno, "become the user of %s", control);
}

static bool
read_key(struct cli *cli, const struct args *args, uint8_t out[32], struct err *err)
{
    const char *given = args_get(args, "master-key");
    const char *path = given ? given : cli_path(cli, "control/master.key");
    char *text = NULL;
    size_t len;
    if (!file_read(path, 4096, &text, &len, err)) {
        return false;
    }
    bool ok = (len >= 64 && hex_decode(text, 64, out)) ||
              err_set(err, ERR_CORRUPT, "%s is not a master key (64 hex digits)", path);
    explicit_bzero(text, len);
    free(text);
    return ok;
}

static struct store *
open_store(const char *url, const uint8_t key[32], struct err *err)
{
    struct store_config config = {
        .url = url,
        .types = row_types,
        .type_count = ROW_TYPES,
        .master_key = key,
        .rng = &rng_system,
        .clock = &clock_system,
    };
    return store_open(&config, err);
}

struct sum {
    int64_t tables, rows;
    struct buf digests;
};

static void
on_table(void *ctx, const char *table, int64_t rows, const char *sha256)
{
    struct sum *sum = ctx;
    printf("%-28s %10" PRId64 "  %.16s\n", table, rows, sha256);
    sum->tables++;
    sum->rows += rows;
    buf_printf(&sum->digests, "%s %s\n", table, sha256);
}

static bool
copy(const char *from_url, const char *to_url, const uint8_t key[32], struct err *err)
{
    char all[SHA256_HEX_LEN];
    struct sum sum = {0};
    if (str_starts(from_url, "sqlite:") && !file_exists(from_url + strlen("sqlite:"))) {
        return err_set(err, ERR_NOT_FOUND, "there is no database %s",
                       from_url + strlen("sqlite:"));
    }
    AUTO(store) struct store *from = open_store(from_url, key, err);
    if (!from) {
        return err_wrap(err, "from");
    }
    AUTO(store) struct store *to = open_store(to_url, key, err);
    if (!to) {
        return err_wrap(err, "to");
    }
    bool ok = store_transfer(from, to, on_table, &sum, err);
    if (ok) {
        sha256_hex(sum.digests.data, sum.digests.len, all);
        printf("Copied %" PRId64 " rows of %" PRId64
               " tables, read back and found the same: %s\n",
               sum.rows, sum.tables, all);
    }
    buf_fini(&sum.digests);
    return ok;
}

static bool
run_copy(struct cli *cli, const struct args *args, struct err *err)
{
    uint8_t key[32];
    bool ok = become_owner(cli, err) && read_key(cli, args, key, err) &&
              copy(args->words[0], args->words[1], key, err);
    explicit_bzero(key, sizeof key);
    return ok;
}

static const struct option copy_options[] = {
    {"master-key", 0, "FILE", "key of both (STATE/control/master.key)"},
    {NULL, 0, NULL, NULL},
};

const struct command store_commands[] = {
    {"store copy", "FROM TO [--master-key FILE]",
     "copy a cloud's rows to another database, and compare (root)",
     "FROM and TO are what 'molnd --store' takes: sqlite:FILE or postgresql://...\n"
     "The control plane is down meanwhile; guests and agents go on. TO must have no "
     "rows.\n"
     "Either all of it is there at the end and compared, or nothing.\n"
     "\n"
     "  sudo moln store copy sqlite:/var/lib/moln/control/moln.db postgresql:///moln\n",
     copy_options, 2, 2, WORD_FILE, false, run_copy},
    {NULL},
};
