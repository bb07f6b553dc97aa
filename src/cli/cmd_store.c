/* cmd_store.c - moln store: a cloud's rows in another database, or under another key.
 *
 * Works on databases, not on a running cloud: whoever serves the source is down. Run as
 * root it becomes the user of STATE/control first, so that files stay that user's and
 * PostgreSQL sees who will come later. */
#include "base/file.h"
#include "base/world.h"
#include "cli/command.h"
#include "store/master_key.h"
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

static const char *
key_file(struct cli *cli, const struct args *args)
{
    const char *given = args_get(args, "master-key");
    return given ? given : cli_path(cli, "control/master.key");
}

static struct store_config
config_of(const char *url)
{
    return (struct store_config){
        .url = url,
        .types = row_types,
        .type_count = ROW_TYPES,
        .rng = &rng_system,
        .clock = &clock_system,
    };
}

/* So that none is made: whoever names one means one that is there. */
static bool
check_there(const char *url, struct err *err)
{
    const char *path = str_starts(url, "sqlite:") ? url + strlen("sqlite:") : NULL;
    return !path || file_exists(path) ||
           err_set(err, ERR_NOT_FOUND, "there is no database %s", path);
}

static struct store *
open_store(const char *url, const uint8_t key[SEAL_KEY_LEN], struct err *err)
{
    struct store_config config = config_of(url);
    config.master_key = key;
    return store_open(&config, err);
}

/* ---- copy ------------------------------------------------------------------------ */

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
copy(const char *from_url, const char *to_url, const uint8_t key[SEAL_KEY_LEN],
     struct err *err)
{
    char all[SHA256_HEX_LEN];
    struct sum sum = {0};
    if (!check_there(from_url, err)) {
        return false;
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
    uint8_t key[SEAL_KEY_LEN];
    bool ok = become_owner(cli, err) &&
              master_key_read(key_file(cli, args), key, err) &&
              copy(args->words[0], args->words[1], key, err);
    explicit_bzero(key, sizeof key);
    return ok;
}

/* ---- rekey ----------------------------------------------------------------------- */

static bool
find_server(struct txn *txn, void *ctx, struct err *err)
{
    const int64_t *now = ctx;
    const struct row_query all = {0};
    struct row_list list;
    if (!row_list(txn, &row_control_type, &all, &list, err)) {
        return false;
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct row_control *row = list.rows[i];
        if (row->lease_until > *now) {
            return err_set(err, ERR_BUSY,
                           "%s serves these rows: stop it first; one that was killed "
                           "counts for %" PRId64 " s more",
                           row->id, (row->lease_until - *now) / NS_PER_S + 1);
        }
    }
    return true;
}

/* A molnd that goes on under the old key would refuse every call. */
static bool
nobody_serves(void *ctx, struct store *store, struct err *err)
{
    const struct cli *cli = ctx;
    int64_t now = clock_real(cli->clock);
    return !store_shared(store) ||
           store_read(store, cli->arena, find_server, &now, err);
}

static bool
run_rekey(struct cli *cli, const struct args *args, struct err *err)
{
    const char *given = args_get(args, "store");
    const char *url =
        given ? given
              : arena_printf(cli->arena, "sqlite:%s", cli_path(cli, "control/moln.db"));
    const char *file = key_file(cli, args);
    const struct store_config config = config_of(url);
    if (!become_owner(cli, err) || !check_there(url, err)) {
        return false;
    }
    if (!master_key_change(file, &config, nobody_serves, cli, err)) {
        return master_key_unsettled(file) ? err_wrap(err, "not ended, run it again")
                                          : false;
    }
    printf("All secrets are sealed under a new key, which is in %s now.\n", file);
    return true;
}

/* ---- the table ------------------------------------------------------------------- */

static const struct option copy_options[] = {
    {"master-key", 0, "FILE", "key of both (STATE/control/master.key)"},
    {NULL, 0, NULL, NULL},
};

static const struct option rekey_options[] = {
    {"store", 0, "URL", "what 'molnd --store' takes (STATE/control/moln.db)"},
    {"master-key", 0, "FILE", "the key's file (STATE/control/master.key)"},
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
    {"store rekey", "[--store URL] [--master-key FILE]",
     "seal a cloud's secrets under a new master key (root)",
     "The control plane is down meanwhile; guests and agents go on. Cut short at any "
     "moment,\n"
     "it is to be run again, on the same host. FILE's folder must be one in which the "
     "user of\n"
     "STATE/control may write. Where several control processes serve, copy FILE to the "
     "others.\n"
     "Dumps of PostgreSQL made before open with the key before only.\n"
     "\n"
     "  sudo moln store rekey --store postgresql:///moln --master-key "
     "/etc/moln/master.key\n",
     rekey_options, 0, 0, WORD_NONE, false, run_rekey},
    {NULL},
};
