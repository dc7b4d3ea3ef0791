//! Frames as a workload might build them.

use std::net::{Ipv4Addr, Ipv6Addr};

pub type Mac = [u8; 6];
pub const BROADCAST: Mac = [0xff; 6];

pub fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from, &kind.to_be_bytes(), payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let octets = parts.concat();
    let word = |c: &[u8]| u32::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)]));
    let mut sum: u32 = octets.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// RFC 826: `operation` is 1 for a request, 2 for a reply.
pub fn arp(operation: u8, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    [&head[..], &sender.0, &sender.1.octets(), &target.0, &target.1.octets()].concat()
}

/// The place of a fragment in its datagram: identification, offset in octets, whether more follow.
#[derive(Clone, Copy, Default)]
pub struct Fragment(pub u16, pub u16, pub bool);

pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, at: Fragment, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let place = (u16::from(at.2) << 13) | (at.1 / 8);
    let mut header = [
        &[0x45, 0][..],
        &length.to_be_bytes(),
        &at.0.to_be_bytes(),
        &place.to_be_bytes(),
        &[64, protocol, 0, 0],
        &from.octets(),
        &to.octets(),
    ]
    .concat();
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum);
    [&header[..], payload].concat()
}

pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    [
        &[0x60, 0, 0, 0][..],
        &(payload.len() as u16).to_be_bytes(),
        &[next, 255],
        &from.octets(),
        &to.octets(),
        payload,
    ]
    .concat()
}

/// A fragment header (RFC 8200 section 4.5) before a part of a payload.
pub fn ipv6_fragment(next: u8, identification: u32, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let place = offset | u16::from(more);
    [
        &[next, 0][..],
        &place.to_be_bytes(),
        &identification.to_be_bytes(),
        payload,
    ]
    .concat()
}

/// A datagram without a checksum.
pub fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    [
        &from.to_be_bytes()[..],
        &to.to_be_bytes(),
        &length.to_be_bytes(),
        &[0, 0],
        payload,
    ]
    .concat()
}

pub fn icmp(kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], rest].concat();
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum);
    message
}

pub fn icmpv6(from: Ipv6Addr, to: Ipv6Addr, kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0][..], rest].concat();
    let length = (message.len() as u32).to_be_bytes();
    let sum = checksum(&[&from.octets(), &to.octets(), &length, &[0, 0, 0, 58], &message]);
    message[2..4].copy_from_slice(&sum);
    message
}
