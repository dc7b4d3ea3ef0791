// FloodRate: does this sender flood too much?
//
// A flooded frame costs every member of its network, and every link to them, one copy. So each
// sender (an access port's attachment or a host) has a rate in each of its networks, and one
// tenant's floods do not use up another's rate on the same host. Frames beyond the rate
// are dropped and counted. Another leaf has already limited the frames that it sends.
//
// Decides: drop_reason.

#ifndef FABRIC_FLOOD_RATE_P4
#define FABRIC_FLOOD_RATE_P4

control FloodRate(inout metadata_t meta) {
    @id(0x1300001b) direct_counter(CounterType.packets_and_bytes) flood_rate_counter;
    @id(0x15000003) direct_meter<bit<2>>(MeterType.packets) flood_rate_meter;
    bit<2> colour = 0;

    @id(0x0100002f)
    @brief("Held to the rate of the entry's meter.")
    action limit_flood() {
        flood_rate_meter.read(colour);
    }

    @id(0x0200001c)
    @brief("Who may flood in each network, and how much: access ids and VTEPs of hosts under this leaf.")
    table flood_rate {
        key = {
            meta.bd     : exact @name("bd");
            meta.source : exact @name("sender");
        }
        actions = { limit_flood; @defaultonly NoAction; }
        const default_action = NoAction();
        counters = flood_rate_counter;
        meters = flood_rate_meter;
        size = SIZE_FLOOD_RATES;
    }

    apply {
        flood_rate.apply();
        if (colour != 0) {
            meta.drop_reason = drop_reason_t.FLOOD_LIMIT;
        }
    }
}

#endif
