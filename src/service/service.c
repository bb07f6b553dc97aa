#include "service/service.h"

static int
operation_compare(const void *name, const void *operation)
{
    return strcmp(name, ((const struct operation *)operation)->name);
}

const struct operation *
service_operation(const struct service *service, const char *name)
{
    return bsearch(name, service->operations, service->operation_count,
                   sizeof *service->operations, operation_compare);
}

static int
name_compare(const void *name, const void *other)
{
    return strcmp(name, *(const char *const *)other);
}

bool
service_knows(const struct service *service, const char *name)
{
    return bsearch(name, service->others, service->other_count, sizeof *service->others,
                   name_compare) != NULL;
}
