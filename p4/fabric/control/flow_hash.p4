// FlowHash: which flow is this?
//
// One hash over the innermost addresses, protocol and ports that the parser saw. It is
// the outer UDP source port of tunnels made here (RFC 7348 section 5 wants it in the
// dynamic range) and the input of ECMP, so a flow stays on one path and in order.
//
// Decides: meta.entropy.

#ifndef FABRIC_FLOW_HASH_P4
#define FABRIC_FLOW_HASH_P4

control FlowHash(inout metadata_t meta) {
    apply {
        hash(meta.entropy, HashAlgorithm.crc16, 16w0xc000,
             { meta.flow.src, meta.flow.dst, meta.flow.protocol,
               meta.flow.src_port, meta.flow.dst_port },
             32w0x4000);
    }
}

#endif
