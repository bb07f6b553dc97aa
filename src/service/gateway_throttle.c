/* gateway_throttle.c - token buckets: one an account for what reads, one for what
 * writes. */
#include "base/map.h"
#include "service/gateway_parts.h"
#include <stdatomic.h>

struct bucket {
    double tokens;
    int64_t filled_ns; /* Of the monotonic clock. */
};

struct account_buckets {
    struct bucket reads, writes;
};

struct throttle {
    struct gateway_rates rates;
    atomic_uint share; /* Control processes that serve the same accounts. */
    pthread_mutex_t lock;
    struct map *accounts; /* Only authenticated ones get here: as many as there are. */
};

struct throttle *
throttle_create(const struct gateway_rates *rates)
{
    struct throttle *throttle = xcalloc(1, sizeof *throttle);
    struct gateway_rates *own = &throttle->rates;
    *own = *rates;
    own->read_rate = own->read_rate ? own->read_rate : 20000;
    own->read_burst = own->read_burst ? own->read_burst : 2 * own->read_rate;
    own->write_rate = own->write_rate ? own->write_rate : 1000;
    own->write_burst = own->write_burst ? own->write_burst : 2 * own->write_rate;
    atomic_init(&throttle->share, 1);
    pthread_mutex_init(&throttle->lock, NULL);
    throttle->accounts = map_create(free);
    return throttle;
}

void
throttle_destroy(struct throttle *throttle)
{
    if (throttle) {
        map_destroy(throttle->accounts);
        pthread_mutex_destroy(&throttle->lock);
        free(throttle);
    }
}

void
gateway_share(struct gateway *gateway, size_t processes)
{
    atomic_store(&gateway->throttle->share, (unsigned)MAX(processes, 1));
}

static bool
bucket_take(struct bucket *bucket, unsigned rate, unsigned burst, int64_t now_ns)
{
    double refill = (double)(now_ns - bucket->filled_ns) * rate / (double)NS_PER_S;
    bucket->tokens = MIN(bucket->tokens + MAX(refill, 0), (double)burst);
    bucket->filled_ns = now_ns;
    if (bucket->tokens < 1) {
        return false;
    }
    bucket->tokens -= 1;
    return true;
}

static struct account_buckets *
buckets_of(struct throttle *throttle, const char *account, int64_t now_ns)
{
    struct account_buckets *b = map_get(throttle->accounts, account);
    if (!b) {
        b = xcalloc(1, sizeof *b);
        b->reads = (struct bucket){throttle->rates.read_burst, now_ns};
        b->writes = (struct bucket){throttle->rates.write_burst, now_ns};
        map_put(throttle->accounts, account, b);
    }
    return b;
}

bool
visit_throttle(struct visit *visit, bool writes)
{
    struct throttle *throttle = visit->gateway->throttle;
    const struct gateway_rates *rates = &throttle->rates;
    const unsigned share = atomic_load(&throttle->share);
    unsigned rate = writes ? rates->write_rate : rates->read_rate;
    unsigned burst = writes ? rates->write_burst : rates->read_burst;
    int64_t now_ns = clock_mono(visit->gateway->config.clock);
    pthread_mutex_lock(&throttle->lock);
    struct account_buckets *b = buckets_of(throttle, visit->who.account, now_ns);
    bool ok = bucket_take(writes ? &b->writes : &b->reads, MAX(rate / share, 1),
                          MAX(burst / share, 1), now_ns);
    pthread_mutex_unlock(&throttle->lock);
    if (ok) {
        return true;
    }
    switch (visit_protocol(visit)) {
    case PROTOCOL_EC2:
        return err_set(&visit->err, ERR_REQUEST_LIMIT_EXCEEDED,
                       "Request limit exceeded.");
    case PROTOCOL_QUERY:
        return err_set(&visit->err, ERR_THROTTLING, "Rate exceeded");
    default:
        return err_set(&visit->err, ERR_THROTTLING_JSON, "Rate exceeded");
    }
}
