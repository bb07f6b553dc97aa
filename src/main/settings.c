/* settings.c - see settings.h. */
#include "main/settings.h"

#include "base/file.h"
#include "base/jsonio.h"
#include "core/catalogue.h"
#include "main/molnd_records.h"

#include <getopt.h>

#define DEFAULT_STATE "/var/lib/moln"
#define DEFAULT_LISTEN "127.0.0.1:6656"
#define CATALOGUE "instance-types.json"
#define CATALOGUES_MAX 16
#define FILE_MAX (4u << 20)

static const char usage[] =
    "usage: molnd [--state DIR] [--listen ADDR:PORT] [--link ADDR:PORT] ...\n"
    "\n"
    "The control plane of a moln cloud: serves the AWS APIs and directs the nodes.\n"
    "Started as root it makes its folders and then becomes an unprivileged user.\n"
    "\n"
    "  --state DIR          where everything is kept (MOLN_STATE, " DEFAULT_STATE ")\n"
    "  --listen ADDR:PORT   the API (" DEFAULT_LISTEN "; port 0 picks a free one)\n"
    "  --link ADDR:PORT     nodes of other hosts join here (off; 6657 is customary)\n"
    "  --link-address HOST:PORT\n"
    "                       where nodes and other control processes reach that "
    "(--link)\n"
    "  --tls-cert FILE      serve the API over TLS with this certificate...\n"
    "  --tls-key FILE       ...and key\n"
    "  --user NAME          run as this user (moln)\n"
    "  --region NAME        region to serve (us-east-1)\n"
    "  --zones A[,B...]     its zones (us-east-1a)\n"
    "  --store URL          sqlite:FILE (STATE/control/moln.db), or\n"
    "                       postgresql://USER@HOST/DATABASE\n"
    "  --blobs DIR          images and uploads (STATE/control/blobs)\n"
    "  --flow-logs DIR      what flow logs record (STATE/control/flow-logs)\n"
    "  --master-key FILE    key that seals secrets (STATE/control/master.key)\n"
    "  --config FILE        settings in JSON: quotas, overcommit, instance types\n"
    "  --debug              log more\n"
    "  --version, --help\n"
    "\n"
    "Example: molnd --state /srv/cloud --listen 10.0.0.1:6656 --link 10.0.0.1:6657\n";

enum option_id {
    OPT_STATE = 1,
    OPT_LISTEN,
    OPT_LINK,
    OPT_LINK_ADDRESS,
    OPT_BLOBS,
    OPT_FLOW_LOGS,
    OPT_CERT,
    OPT_KEY,
    OPT_USER,
    OPT_REGION,
    OPT_ZONES,
    OPT_STORE,
    OPT_MASTER,
    OPT_CONFIG,
    OPT_DEBUG,
    OPT_VERSION,
    OPT_HELP,
};

static const struct option options[] = {
    {"state", required_argument, NULL, OPT_STATE},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"link", required_argument, NULL, OPT_LINK},
    {"link-address", required_argument, NULL, OPT_LINK_ADDRESS},
    {"blobs", required_argument, NULL, OPT_BLOBS},
    {"flow-logs", required_argument, NULL, OPT_FLOW_LOGS},
    {"tls-cert", required_argument, NULL, OPT_CERT},
    {"tls-key", required_argument, NULL, OPT_KEY},
    {"user", required_argument, NULL, OPT_USER},
    {"region", required_argument, NULL, OPT_REGION},
    {"zones", required_argument, NULL, OPT_ZONES},
    {"store", required_argument, NULL, OPT_STORE},
    {"master-key", required_argument, NULL, OPT_MASTER},
    {"config", required_argument, NULL, OPT_CONFIG},
    {"debug", no_argument, NULL, OPT_DEBUG},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, OPT_HELP},
    {0},
};

struct words {
    const char *region, *zones, *config;
};

/* Returns false with '*out_done' set for what only prints. */
static bool
read_options(int argc, char **argv, struct settings *s, struct words *words,
             bool *out_done, struct err *err)
{
    const char **const where[] = {
        [OPT_STATE] = &s->state,       [OPT_LISTEN] = &s->listen,
        [OPT_LINK] = &s->link,         [OPT_CERT] = &s->tls_cert,
        [OPT_KEY] = &s->tls_key,       [OPT_USER] = &s->user,
        [OPT_STORE] = &s->store,       [OPT_MASTER] = &s->master_key,
        [OPT_REGION] = &words->region, [OPT_ZONES] = &words->zones,
        [OPT_CONFIG] = &words->config, [OPT_LINK_ADDRESS] = &s->link_address,
        [OPT_BLOBS] = &s->blobs,       [OPT_FLOW_LOGS] = &s->flow_logs,
    };
    int c;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (c == OPT_HELP || c == 'h') {
            fputs(usage, stdout);
            *out_done = true;
        } else if (c == OPT_VERSION) {
            puts("molnd " MOLN_VERSION);
            *out_done = true;
        } else if (c == OPT_DEBUG) {
            s->debug = true;
        } else if (c > 0 && (size_t)c < ARRAY_LEN(where) && where[c]) {
            *where[c] = optarg;
        } else {
            return err_set(err, ERR_INVALID, "see molnd --help");
        }
    }
    if (optind < argc) {
        return err_set(err, ERR_INVALID, "'%s' is not an option; see molnd --help",
                       argv[optind]);
    }
    if (!s->tls_cert != !s->tls_key) {
        return err_set(err, ERR_INVALID, "--tls-cert and --tls-key go together");
    }
    return true;
}

/* "use1-az1" for the first zone of us-east-1: AWS's abbreviations of directions. */
static const char *
zone_id(struct arena *arena, const char *region, size_t index)
{
    static const struct {
        const char *word, *letters;
    } parts[] = {{"northeast", "ne"}, {"northwest", "nw"}, {"southeast", "se"},
                 {"southwest", "sw"}, {"north", "n"},      {"south", "s"},
                 {"east", "e"},       {"west", "w"},       {"central", "c"}};
    const char *dash = strchr(region, '-'), *last = strrchr(region, '-');
    const char *letters = "";
    for (size_t i = 0; dash && i < ARRAY_LEN(parts); i++) {
        if (str_starts(dash + 1, parts[i].word)) {
            letters = parts[i].letters;
            break;
        }
    }
    return arena_printf(arena, "%.*s%s%s-az%zu", dash ? (int)(dash - region) : 8,
                        region, letters, last && last != dash ? last + 1 : "",
                        index + 1);
}

static void
make_region(struct arena *arena, struct region_config *region, const char *name,
            const char *const *zones, size_t count, const char *endpoint)
{
    struct zone_config *list = ARENA_ARRAY(arena, count, struct zone_config);
    for (size_t i = 0; i < count; i++) {
        list[i] = (struct zone_config){zones[i], zone_id(arena, name, i)};
    }
    *region = (struct region_config){
        .name = name,
        .endpoint = str_empty(endpoint)
                        ? arena_printf(arena, "ec2.%s.amazonaws.com", name)
                        : endpoint,
        .zones = list,
        .zone_count = count,
    };
}

static bool
regions_of_words(struct arena *arena, const struct words *words,
                 struct cloud_config *cloud, struct err *err)
{
    const char *name = words->region ? words->region : "us-east-1";
    const char *zones[32];
    size_t count = 0;
    char *list = words->zones ? arena_strdup(arena, words->zones)
                              : arena_printf(arena, "%sa", name);
    for (char *save, *z = strtok_r(list, ",", &save); z;
         z = strtok_r(NULL, ",", &save)) {
        if (!str_starts(z, name) || strlen(z) != strlen(name) + 1) {
            return err_set(err, ERR_INVALID,
                           "--zones: '%s' is not '%s' followed by one letter", z, name);
        }
        if (count == ARRAY_LEN(zones)) {
            return err_set(err, ERR_INVALID, "--zones: more than %zu",
                           ARRAY_LEN(zones));
        }
        zones[count++] = z;
    }
    struct region_config *region = ARENA_NEW(arena, struct region_config);
    make_region(arena, region, name, zones, count, NULL);
    cloud->regions = region;
    cloud->region_count = 1;
    return true;
}

static bool
regions_of_file(struct arena *arena, const struct molnd_settings *file,
                struct cloud_config *cloud, struct err *err)
{
    size_t count = file->regions.count;
    struct region_config *regions = ARENA_ARRAY(arena, count, struct region_config);
    for (size_t i = 0; i < count; i++) {
        const struct molnd_region *from = &file->regions.items[i];
        if (from->zones.count == 0) {
            return err_set(err, ERR_INVALID, "region %s has no zones", from->name);
        }
        make_region(arena, &regions[i], from->name, from->zones.items,
                    from->zones.count, from->endpoint);
    }
    cloud->regions = regions;
    cloud->region_count = count;
    return true;
}

/* share/ beside the build folder, or of the installation. */
static const char *
share_file(struct arena *arena, const char *name)
{
    char exe[4096];
    ssize_t len = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (len > 0) {
        exe[len] = '\0';
        *strrchr(exe, '/') = '\0';
        static const char *const places[] = {"../share", "../share/moln"};
        for (size_t i = 0; i < ARRAY_LEN(places); i++) {
            const char *path = arena_printf(arena, "%s/%s/%s", exe, places[i], name);
            if (file_exists(path)) {
                return path;
            }
        }
    }
    return arena_printf(arena, "/usr/share/moln/%s", name);
}

static bool
read_catalogues(struct arena *arena, const struct molnd_settings *file,
                struct cloud_config *cloud, struct err *err)
{
    struct catalogue_text texts[CATALOGUES_MAX];
    size_t count = 0;
    bool ok = true;
    if (file->catalogues.count >= CATALOGUES_MAX) {
        return err_set(err, ERR_INVALID, "more than %d catalogues", CATALOGUES_MAX - 1);
    }
    for (size_t i = 0; ok && i <= file->catalogues.count; i++) {
        const char *path =
            i ? file->catalogues.items[i - 1] : share_file(arena, CATALOGUE);
        char *text = NULL;
        size_t len = 0;
        ok = file_read(path, FILE_MAX, &text, &len, err);
        if (ok) {
            texts[count++] = (struct catalogue_text){path, text, len};
        }
    }
    ok = ok &&
         catalogue_read(arena, texts, count, &cloud->types, &cloud->type_count, err);
    for (size_t i = 0; i < count; i++) {
        free((void *)(uintptr_t)texts[i].text);
    }
    return ok;
}

static bool
read_file(struct arena *arena, const char *path, struct molnd_settings *out,
          struct err *err)
{
    char *text;
    size_t len;
    if (!path) {
        return true;
    }
    if (!file_read(path, FILE_MAX, &text, &len, err)) {
        return false;
    }
    bool ok =
        json_read_text(&molnd_settings_desc, text, len, JSON_STRICT, arena, out, err);
    free(text);
    return ok || err_wrap(err, "%s", path);
}

static int64_t
or_default(int64_t value, int64_t fallback)
{
    return value > 0 ? value : fallback;
}

static bool
choose_zone(struct settings *s, const char *wanted, struct err *err)
{
    for (size_t r = 0; r < s->cloud.region_count; r++) {
        const struct region_config *region = &s->cloud.regions[r];
        for (size_t z = 0; z < region->zone_count; z++) {
            if (str_empty(wanted) || str_eq(region->zones[z].name, wanted)) {
                s->zone = region->zones[z].name;
                s->region = region->name;
                return true;
            }
        }
    }
    return err_set(err, ERR_INVALID, "local_zone: there is no zone '%s'", wanted);
}

static bool
read_underlays(struct arena *arena, const struct molnd_settings *file,
               struct cloud_config *cloud, struct err *err)
{
    size_t count = file->underlays.count;
    struct cidr *list = ARENA_ARRAY(arena, count, struct cidr);
    for (size_t i = 0; i < count; i++) {
        const char *text = file->underlays.items[i];
        if (!cidr_parse(text, &list[i])) {
            return err_set(err, ERR_INVALID,
                           "underlays: '%s' is no block like 10.200.0.0/24", text);
        }
    }
    cloud->underlays = list;
    cloud->underlay_count = count;
    return true;
}

/* Hosts of one class may be promised more often, or less. */
static bool
read_placement(const struct molnd_settings *file, struct cloud_config *cloud,
               struct err *err)
{
    cloud->cpu_overcommit = file->cpu_overcommit > 0 ? file->cpu_overcommit : 16;
    cloud->memory_overcommit =
        file->memory_overcommit > 0 ? file->memory_overcommit : 1;
    for (size_t i = 0; i < file->overcommit.count; i++) {
        const struct molnd_overcommit *o = &file->overcommit.items[i];
        bool kvm = str_eq(o->class, "kvm");
        if (!kvm && !str_eq(o->class, "emulated")) {
            return err_set(err, ERR_INVALID,
                           "overcommit: '%s' is neither kvm nor emulated", o->class);
        }
        if (o->cpu < 0 || o->memory < 0) {
            return err_set(err, ERR_INVALID, "overcommit: a ratio is below zero");
        }
        *(kvm ? &cloud->kvm_cpu_overcommit : &cloud->tcg_cpu_overcommit) = o->cpu;
        *(kvm ? &cloud->kvm_memory_overcommit : &cloud->tcg_memory_overcommit) =
            o->memory;
    }
    cloud->placement_spread = str_eq(file->placement, "spread");
    return str_empty(file->placement) || cloud->placement_spread ||
           str_eq(file->placement, "pack") ||
           err_set(err, ERR_INVALID, "placement: '%s' is neither pack nor spread",
                   file->placement);
}

/* A lease that is too short would end guests at each hiccup; a margin that is too small
 * would trust clocks too far. */
static bool
read_lease(const struct molnd_settings *file, struct cloud_config *cloud,
           struct err *err)
{
    int64_t lease_s = or_default(file->lease_s, 60);
    int64_t stop_s = or_default(file->lease_stop_s, 5);
    int64_t margin_s = or_default(file->lease_margin_s, 5);
    if (lease_s < 4 || lease_s > 3600) {
        return err_set(err, ERR_INVALID, "lease_s: from 4 to 3600 seconds");
    }
    if (stop_s > 3600 || margin_s > 3600 || margin_s * 100 < lease_s) {
        return err_set(err, ERR_INVALID,
                       "lease_stop_s, lease_margin_s: at most 3600, and the margin at "
                       "least a hundredth of lease_s");
    }
    cloud->lease_ns = lease_s * NS_PER_S;
    cloud->lease_stop_ns = stop_s * NS_PER_S;
    cloud->lease_margin_ns = margin_s * NS_PER_S;
    return true;
}

static bool
read_migration(const struct molnd_settings *file, struct cloud_config *cloud,
               struct err *err)
{
    if (file->migration_mbit < 0 || file->migration_mbit > 1000000 ||
        file->drain_at_once < 0 || file->drain_at_once > 64) {
        return err_set(err, ERR_INVALID,
                       "migration_mbit: up to 1000000; drain_at_once: up to 64");
    }
    cloud->migration_bps = file->migration_mbit * 1000000;
    cloud->drain_at_once = file->drain_at_once;
    return true;
}

bool
settings_read(struct arena *arena, int argc, char **argv, struct settings *s,
              bool *out_done, struct err *err)
{
    const char *env = getenv("MOLN_STATE");
    struct words words = {0};
    struct molnd_settings file = {0};
    *s = (struct settings){
        .state = str_empty(env) ? DEFAULT_STATE : env,
        .listen = DEFAULT_LISTEN,
        .user = "moln",
    };
    if (!read_options(argc, argv, s, &words, out_done, err) || *out_done) {
        return *out_done;
    }
    if (!read_file(arena, words.config, &file, err)) {
        return false;
    }
    bool from_file = file.regions.count > 0 && !words.region && !words.zones;
    if (!(from_file ? regions_of_file(arena, &file, &s->cloud, err)
                    : regions_of_words(arena, &words, &s->cloud, err)) ||
        !choose_zone(s, file.local_zone, err) ||
        !read_catalogues(arena, &file, &s->cloud, err)) {
        return false;
    }
    struct cloud_config *cloud = &s->cloud;
    cloud->default_quota_vcpus = or_default(file.quota_vcpus, 128);
    cloud->default_quota_instances = or_default(file.quota_instances, 500);
    cloud->default_quota_disk_gib = or_default(file.quota_disk_gib, 10240);
    cloud->emulator_overhead_bytes =
        or_default(file.emulator_overhead_mib, 0) * (int64_t)MIB;
    cloud->host_reserve_bytes =
        file.host_reserve_mib < 0
            ? 0
            : or_default(file.host_reserve_mib, 512) * (int64_t)MIB;
    cloud->speed_percent = or_default(file.speed_percent, 100);
    cloud->default_quota_hosts =
        file.quota_hosts < 0 ? 0 : or_default(file.quota_hosts, 2);
    s->read_rate = (unsigned)file.read_rate;
    s->write_rate = (unsigned)file.write_rate;
    return read_placement(&file, cloud, err) && read_lease(&file, cloud, err) &&
           read_underlays(arena, &file, cloud, err) &&
           read_migration(&file, cloud, err);
}

bool
settings_address(struct arena *arena, const char *text, const char **out_host,
                 int *out_port, struct err *err)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    long port = colon ? strtol(colon + 1, &end, 10) : -1;
    if (!colon || end == colon + 1 || *end || port < 0 || port > 65535) {
        return err_set(err, ERR_INVALID, "'%s' is not ADDR:PORT", text);
    }
    size_t len = (size_t)(colon - text);
    bool brackets = len >= 2 && text[0] == '[' && text[len - 1] == ']';
    *out_host = len == 0 ? "0.0.0.0"
                         : arena_strndup(arena, text + brackets, len - 2u * brackets);
    *out_port = (int)port;
    return true;
}
