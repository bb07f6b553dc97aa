/* setup.c - a namespace made ready: see setup.h. */
#include "node/net/setup.h"
#include "base/file.h"
#include "base/log.h"
#include "node/net/netns.h"
#include "node/net/rules.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

static const struct setting {
    const char *path, *value;
    bool optional; /* The kernel may be built without it. */
    bool keep;     /* Filtering stands on it: checked again and again. */
} settings[] = {
    {"/proc/sys/net/ipv4/ip_forward", "1", false, true},
    {"/proc/sys/net/ipv4/conf/all/accept_redirects", "0", false, true},
    {"/proc/sys/net/ipv4/conf/default/accept_redirects", "0", false, true},
    {"/proc/sys/net/ipv4/conf/all/send_redirects", "0", false, true},
    {"/proc/sys/net/ipv4/conf/default/send_redirects", "0", false, true},
    {"/proc/sys/net/ipv4/conf/all/accept_source_route", "0", false, true},
    {"/proc/sys/net/ipv4/conf/default/accept_source_route", "0", false, true},
    /* Sources are checked at the taps; guests without source check need the rest. */
    {"/proc/sys/net/ipv4/conf/all/rp_filter", "0", false, true},
    {"/proc/sys/net/ipv4/conf/default/rp_filter", "0", false, true},
    {"/proc/sys/net/ipv6/conf/all/disable_ipv6", "1", true, false},
    {"/proc/sys/net/ipv6/conf/default/disable_ipv6", "1", true, true},
    {"/proc/sys/net/ipv6/conf/all/forwarding", "1", true, true},
    {"/proc/sys/net/ipv6/conf/all/accept_redirects", "0", true, true},
    {"/proc/sys/net/ipv6/conf/default/accept_redirects", "0", true, true},
    {"/proc/sys/net/ipv6/conf/all/accept_source_route", "0", true, true},
    {"/proc/sys/net/ipv6/conf/default/accept_source_route", "0", true, true},
    {"/proc/sys/net/ipv6/conf/all/accept_ra", "0", true, true},
    {"/proc/sys/net/ipv6/conf/default/accept_dad", "0", true, true},
    {"/proc/sys/net/ipv6/conf/default/accept_ra", "0", true, true},
    /* Frames inside a subnet pass inet's rules too: groups bind there. */
    {"/proc/sys/net/bridge/bridge-nf-call-iptables", "1", false, true},
    {"/proc/sys/net/bridge/bridge-nf-call-ip6tables", "1", false, true},
    {"/proc/sys/net/bridge/bridge-nf-call-arptables", "0", true, true},
    {"/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal", "0", true, true},
};

/* Of each link that routes: most take the stricter or the laxer of their own and of all's. */
static const struct link_setting {
    const char *folder, *name, *value;
} link_settings[] = {
    {"/proc/sys/net/ipv4/conf", "forwarding", "1"},
    {"/proc/sys/net/ipv4/conf", "accept_redirects", "0"},
    {"/proc/sys/net/ipv4/conf", "send_redirects", "0"},
    {"/proc/sys/net/ipv4/conf", "accept_source_route", "0"},
    {"/proc/sys/net/ipv4/conf", "rp_filter", "0"},
    {"/proc/sys/net/ipv4/conf", "proxy_arp", "0"},
    {"/proc/sys/net/ipv6/conf", "forwarding", "1"},
    {"/proc/sys/net/ipv6/conf", "accept_redirects", "0"},
    {"/proc/sys/net/ipv6/conf", "accept_source_route", "0"},
    {"/proc/sys/net/ipv6/conf", "accept_ra", "0"},
    {"/proc/sys/net/ipv6/conf", "proxy_ndp", "0"},
};

struct setup {
    struct links *links;
    struct elems *elems;
};

static bool
put_settings(bool kept_only, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        const struct setting *s = &settings[i];
        if (kept_only && !s->keep) {
            continue;
        }
        AUTO(fd) int fd = open(s->path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 && s->optional && errno == ENOENT) {
            continue;
        }
        if (fd < 0 || write(fd, s->value, strlen(s->value)) < 0) {
            return err_sys(err, errno, "set %s", s->path);
        }
    }
    return true;
}

static bool
put_services(struct links *links, struct err *err)
{
    static const uint32_t services[] = {
        0xa9fea9fe, /* 169.254.169.254: metadata */
        0xa9fea9fd, /* 169.254.169.253: DNS */
        0xa9fea97b, /* 169.254.169.123: time */
    };
    int lo;
    if (!links_find(links, "lo", &lo, err) || !links_up(links, lo, err)) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(services); i++) {
        if (!links_address(links, lo, services[i], 32, err)) {
            return false;
        }
    }
    return true;
}

static bool
setup_here(void *ctx, struct err *err)
{
    struct setup *s = ctx;
    if (!put_settings(false, err) || !rules_apply(err)) {
        return false;
    }
    AUTO(links) struct links *links = links_open(err);
    if (!links || !put_services(links, err)) {
        return false;
    }
    AUTO(elems) struct elems *elems = elems_open(err);
    if (!elems) {
        return false;
    }
    s->links = take_links(&links);
    s->elems = take_elems(&elems);
    return true;
}

bool
setup_namespace(int ns_fd, struct links **out_links, struct elems **out_elems,
                struct err *err)
{
    struct setup s = {0};
    if (!netns_run(ns_fd, setup_here, &s, err)) {
        return false;
    }
    *out_links = s.links;
    *out_elems = s.elems;
    return true;
}

static bool
router_here(void *ctx, struct err *err)
{
    static const char *const paths[] = {"/proc/sys/net/ipv4/ip_forward",
                                        "/proc/sys/net/ipv6/conf/all/forwarding"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        AUTO(fd) int fd = open(paths[i], O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "1", 1) != 1) {
            return err_sys(err, errno, "set %s", paths[i]);
        }
    }
    return true;
}

bool
setup_router(int ns_fd, struct err *err)
{
    return netns_run(ns_fd, router_here, NULL, err);
}

static bool
ipv6_here(void *ctx, struct err *err)
{
    AUTO(free)
    char *path =
        xasprintf("/proc/sys/net/ipv6/conf/%s/disable_ipv6", (const char *)ctx);
    AUTO(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    return (fd >= 0 && write(fd, "0", 1) == 1) || err_sys(err, errno, "set %s", path);
}

bool
setup_ipv6(int ns_fd, const char *link, struct err *err)
{
    return netns_run(ns_fd, ipv6_here, (void *)(uintptr_t)link, err);
}

/* Whether the setting reads as it should. */
static bool
stands(const char *path, const char *value, bool optional)
{
    char text[32] = {0};
    AUTO(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return optional && errno == ENOENT;
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    return n > 0 && strtol(text, NULL, 10) == strtol(value, NULL, 10);
}

static bool
put_link_setting(const char *path, const char *value, struct err *err)
{
    AUTO(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        return true; /* The link has gone meanwhile. */
    }
    return (fd >= 0 && write(fd, value, strlen(value)) > 0) ||
           err_sys(err, errno, "set %s", path);
}

/* Taps and what shapes them route nothing, and there are many. */
static bool
routes(const char *link)
{
    return link[0] != '.' && !str_eq(link, "all") && !str_eq(link, "default") &&
           !str_eq(link, "lo") && !str_starts(link, RULES_TAP) &&
           !str_starts(link, RULES_IFB) && !str_starts(link, RULES_VXLAN);
}

static bool
check_links(const char *folder, size_t *wrong, struct err *err)
{
    DIR *dir = opendir(folder);
    bool ok = dir || errno == ENOENT || err_sys(err, errno, "list %s", folder);
    for (struct dirent *e; ok && dir && (e = readdir(dir)) != NULL;) {
        for (size_t i = 0; ok && routes(e->d_name) && i < ARRAY_LEN(link_settings);
             i++) {
            const struct link_setting *s = &link_settings[i];
            char path[128];
            (void)snprintf(path, sizeof path, "%s/%.20s/%s", s->folder, e->d_name,
                           s->name);
            if (str_eq(s->folder, folder) && !stands(path, s->value, true)) {
                log_warn("%s was changed; set back", path);
                (*wrong)++;
                ok = put_link_setting(path, s->value, err);
            }
        }
    }
    if (dir) {
        (void)closedir(dir);
    }
    return ok;
}

static bool
check_here(void *ctx, struct err *err)
{
    size_t *drift = ctx, wrong = 0;
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        const struct setting *s = &settings[i];
        if (s->keep && !stands(s->path, s->value, s->optional)) {
            log_warn("%s was changed; set back", s->path);
            wrong++;
        }
    }
    bool ok = (wrong == 0 || put_settings(true, err)) &&
              check_links("/proc/sys/net/ipv4/conf", &wrong, err) &&
              check_links("/proc/sys/net/ipv6/conf", &wrong, err);
    *drift += wrong;
    return ok;
}

bool
setup_check(int ns_fd, size_t *drift, struct err *err)
{
    return netns_run(ns_fd, check_here, drift, err);
}

struct one {
    char path[160];
    const char *value;
};

static bool
put_one(void *ctx, struct err *err)
{
    const struct one *one = ctx;
    AUTO(fd) int fd = open(one->path, O_WRONLY | O_CLOEXEC);
    return (fd >= 0 && write(fd, one->value, strlen(one->value)) > 0) ||
           err_sys(err, errno, "set %s", one->path);
}

bool
setup_put(int ns_fd, const char *value, struct err *err, const char *path, ...)
{
    struct one one = {.path = "/proc/sys/net/", .value = value};
    size_t len = strlen(one.path);
    va_list args;
    va_start(args, path);
    (void)vsnprintf(one.path + len, sizeof one.path - len, path, args);
    va_end(args);
    return ns_fd < 0 ? put_one(&one, err) : netns_run(ns_fd, put_one, &one, err);
}
