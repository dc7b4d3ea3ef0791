// A stack of header unions: next and last in the parser, an index computed at run time, push and pop.
// in 0: 02 01aa 02bbcc 00
// out 1: 02 01aa 02bbcc 00
// One option; the element that the index names is written.
// in 0: 01 01aa 01
// out 1: 01 01ff 01
// in 0: 01 02bbcc 01
// out 1: 01 02ffff 01
// push_front makes room, and what does not fit is lost.
// in 0: 02 01aa 02bbcc f0
// out 1: 02 0177 01aa f0
// pop_front takes the first away.
// in 0: 02 01aa 02bbcc f1
// out 1: 02 02bbcc f1
// A third option does not fit: error.StackOutOfBounds, told in the first octet.
// in 0: 03 01aa 02bbcc 01dd
// out 1: e4 01aa 02bbcc 01dd
#include <core.p4>
#include <v1model.p4>

header count_t { bit<8> n; }
header small_t { bit<8> kind; bit<8> value; }
header large_t { bit<8> kind; bit<16> value; }
header what_t { bit<8> code; }
header_union option_t { small_t small; large_t large; }
struct headers_t { count_t count; option_t[2] options; what_t what; }
struct meta_t { bit<8> left; bit<8> last; bit<32> index; }

parser P(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    state start {
        packet.extract(hdr.count);
        meta.left = hdr.count.n;
        transition option;
    }
    state option {
        transition select(meta.left) {
            0: done;
            default: kind;
        }
    }
    state kind {
        meta.left = meta.left - 1;
        transition select(packet.lookahead<bit<8>>()) {
            1: small;
            2: large;
        }
    }
    state small {
        packet.extract(hdr.options.next.small);
        meta.last = hdr.options.last.small.value;
        transition option;
    }
    state large {
        packet.extract(hdr.options.next.large);
        transition option;
    }
    state done {
        meta.index = hdr.options.lastIndex;
        packet.extract(hdr.what);
        transition accept;
    }
}

control I(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t std) {
    apply {
        std.egress_spec = 1;
        bit<8> i = hdr.what.code;
        if (std.parser_error == error.StackOutOfBounds) {
            hdr.count.n = 0xe4;
        } else if (i == 0xf0) {
            hdr.options.push_front(1);
            hdr.options[0].small = { 1, 0x77 };
        } else if (i == 0xf1) {
            hdr.options.pop_front(1);
        } else if (i == 1) {
            i = i - 1;
            if (hdr.options[i].small.isValid() && hdr.options[i].small.value == meta.last && meta.index == 0) {
                hdr.options[i].small.value = 0xff;
            } else if (hdr.options[i].large.isValid()) {
                hdr.options[i].large.value = 0xffff;
            }
        }
    }
}

#include "frame.p4i"
