/* fill.h - makes the pages of an arriving guest's memory before their contents come.
 *
 * Purpose:  a page that nobody has touched yet costs the emulator a fault of 2 to 3 us when
 *           its contents come, also when those are zeros: for most guests that is most of
 *           what it costs to receive their memory, and one thread does it that has all else
 *           to do as well (bench/RESULTS.md, migrate). So a process beside it makes the
 *           pages meanwhile. It asks the kernel for pages to be there, not for contents:
 *           what has come already stays.
 * Place:    above base/ and jail.h. Knows of an emulator that it holds a memory file.
 * Owner:    the process does its one thing, with system calls alone, and ends; with the
 *           agent, if that ends before.
 * Threads:  the one that ends last: the process ends with the thread that started it.
 * Failure:  without it the guest comes all the same, later. */
#pragma once
#include "base/base.h"
#include <sys/types.h>

/* What it is called in the machine's cgroup, where the emulator is, too. */
#define FILL_NAME "moln-fill"

/* Fills the memory file that emulator 'pid' shares with nobody yet; it may be 'most_bytes'
 * long. 'joins' are descriptors of the cgroups that are charged (cgroup.h), borrowed.
 * False: there is no such file, or the kernel cannot. '*out_pidfd' is the caller's to reap
 * (jail_reap) and close. */
MUST_CHECK bool fill_start(pid_t pid, int64_t most_bytes, const int *joins,
                           size_t join_count, int *out_pidfd);
