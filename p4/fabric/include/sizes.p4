// Room in the tables of a leaf. Targets preallocate by these numbers (bmv2: about 146
// octets per slot), so the per-attachment tables decide what a leaf costs.

#ifndef FABRIC_SIZES_P4
#define FABRIC_SIZES_P4

#define SIZE_PORTS        512      // 9-bit port numbers
#define SIZE_PORT_VLANS   8192     // bare-metal attachments, one per port and VLAN
#define SIZE_SOURCE_MACS  16384    // bare-metal attachments' MAC addresses and allowed ones
#define SIZE_SOURCE_IPS   32768    // the same for their IP addresses, per family
#define SIZE_HOSTS        1024     // hosts under one leaf, twice: one address per family
#define SIZE_HOST_VNIS    131072   // networks of each host under this leaf
#define SIZE_FLOOD_RATES  139264   // networks of each host, and access ports: all that may flood
#define SIZE_NETWORKS     65536    // networks on this leaf; also bounded by flood groups
#define SIZE_SUBNETS      65536    // subnets of those networks, per family
#define SIZE_ADDRESSES    131072   // attachments' addresses per family on this leaf
#define SIZE_STATIC       16384    // static routes of routers per family, and the prefixes of their networks
#define SIZE_MACS         131072   // attachments' MAC addresses on this leaf
#define SIZE_VTEPS        32768    // 15-bit VTEP numbers
#define SIZE_REPLICAS     65536    // VTEPs and access ids
#define SIZE_ROUTES       65536    // underlay: two per VTEP
#define SIZE_PATHS        1024     // switches of the fabric
#define SIZE_PATH_MEMBERS 8192     // links times destinations

#endif
