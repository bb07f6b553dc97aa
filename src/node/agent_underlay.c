/* agent_underlay.c - where other hosts reach this one, for guests of one VPC to meet. The
 * operator of this host says so, and nobody else: a record that names another address is
 * refused. */
#include "base/hostnet.h"
#include "node/agent_impl.h"

/* What the operator said now, or said before. */
static bool
remember(struct agent *a, struct err *err)
{
    const char *now = a->config.underlay;
    struct hostnet found;
    if (!now) {
        return true;
    }
    if (str_eq(now, "none")) {
        now = "";
    } else if (!hostnet_find(now, &found, err)) {
        return err_wrap(err, "--underlay");
    }
    if (str_eq(now, a->identity.underlay)) {
        return true;
    }
    (void)snprintf(a->identity.underlay, sizeof a->identity.underlay, "%s", now);
    return identity_save(a, err);
}

bool
agent_underlay_open(struct agent *a, struct err *err)
{
    struct err why = {0};
    struct hostnet found;
    if (!remember(a, err)) {
        return false;
    }
    if (!a->identity.underlay[0]) {
        return true;
    }
    /* One that was good once may come up later than we do. */
    if (!hostnet_find(a->identity.underlay, &found, &why)) {
        log_warn("underlay: %s", why.msg);
        return true;
    }
    const char *doubt = hostnet_doubt(&found);
    if (doubt) {
        log_warn("underlay %s on %s: %s", a->identity.underlay, found.link, doubt);
    } else {
        log_info("underlay %s on %s", a->identity.underlay, found.link);
    }
    return true;
}

bool
agent_underlay_allows(const struct agent *a, const struct link_underlay *want,
                      struct err *err)
{
    return str_eq(want->address, a->identity.underlay) ||
           err_set(err, ERR_DENIED, "this host's operator named %s, not %s",
                   a->identity.underlay[0] ? a->identity.underlay : "no underlay",
                   want->address ? want->address : "");
}
