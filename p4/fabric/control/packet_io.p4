// PacketIo: did the controller send this, or should the controller see it?
//
// A packet-out leaves unchanged through the port that its header names. LLDP on a fabric port
// goes to the controller, which compares the cabling with the topology.
//
// Decides: egress_spec of packet-outs; hdr.packet_in and egress_spec of punted packets.

#ifndef FABRIC_PACKET_IO_P4
#define FABRIC_PACKET_IO_P4

control PacketOut(inout headers_t hdr, inout standard_metadata_t standard_metadata) {
    apply {
        standard_metadata.egress_spec = hdr.packet_out.egress_port;
        hdr.packet_out.setInvalid();
    }
}

control Punt(inout headers_t hdr, in punt_reason_t reason,
             inout standard_metadata_t standard_metadata) {
    apply {
        hdr.packet_in.setValid();
        hdr.packet_in.ingress_port = standard_metadata.ingress_port;
        hdr.packet_in.reason = reason;
        standard_metadata.egress_spec = CPU_PORT;
    }
}

#endif
