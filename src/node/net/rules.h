/* rules.h - the packet rules that are the same in every VPC: text for nftables.
 *
 * Purpose:  tables 'moln' of the bridge family (what a guest may send at all: anti-spoofing,
 *           before any tap is up) and of inet (security groups, network ACLs, NAT, what the
 *           router forwards and serves). What differs from VPC to VPC lies in sets and maps
 *           (elems.h) and in chains that policy.h makes and these maps name.
 * Closed:   each base chain drops what no rule names; a tap without elements is mute.
 * Interface: a packet's mark is the number of the port it left, set at the bridge by the
 *           tap's name; after RULES_LEAVING has judged it, of the port it is to enter, set
 *           by the tap's name for bridged frames and by the next hop for routed ones. So
 *           rules bind interfaces, whatever address a packet carries.
 * Update:   rules_apply replaces all rules of this file in one transaction and keeps sets,
 *           maps and other chains: an agent of a new version never opens a gap or cuts
 *           traffic. */
#pragma once
#include "base/base.h"

#define RULES_TABLE "moln"
#define RULES_TAP "mt"     /* Names of taps begin with it... */
#define RULES_BRIDGE "mb"  /* ...those of bridges with this... */
#define RULES_VXLAN "mv"   /* ...of VXLAN devices... */
#define RULES_OUTSIDE "mu" /* ...of the way to the internet gateway... */
#define RULES_IFB "mi"     /* ...of what shapes a port... */
#define RULES_NAT "mn"     /* ...of the way to a NAT gateway on another node... */
#define RULES_PEER "mp"    /* ...and of the way to a peer. */

/* Marks that are no port's. */
#define RULES_REMOTE 1  /* A port on another node, which judges its own side. */
#define RULES_OUTDOOR 2 /* Outside of the VPC: gateway or peer. */
#define RULES_FIRST_PORT 16
#define RULES_LENT 0x80000000u /* Of a port with source and destination check off. */
#define RULES_LENT_TEXT "0x80000000"
/* Priorities of bridged packets, on the way from the bridge's rules to inet's: to an address
 * that its port owns, and to any other. Routed ones have small numbers. */
#define RULES_OWN "4d4f:4f57"
#define RULES_BRIDGED "4d4f:4c4e"

/* Next hops beyond the VPC: the internet gateway's; NAT gateways have others. */
#define RULES_GATEWAY4 "100.64.0.1"

/* nftables' own language. */
extern const char rules_text[];

/* In the namespace of the calling thread. One thread at a time: libnftables. */
MUST_CHECK bool rules_apply(struct err *err);
/* Any text, as one transaction: all of it or none. */
MUST_CHECK bool rules_run(const char *text, struct err *err);
/* The same, inside a namespace. */
MUST_CHECK bool rules_run_in(int ns_fd, const char *text, struct err *err);
/* What nftables answers, without counters; malloc'ed. */
MUST_CHECK char *rules_ask(const char *command, struct err *err);
/* The same, less elements of sets. */
MUST_CHECK char *rules_show(const char *command, struct err *err);
/* What stands in the kernel, without elements and counters; malloc'ed. */
MUST_CHECK char *rules_list(struct err *err);
