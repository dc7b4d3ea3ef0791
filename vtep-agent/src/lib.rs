//! The VXLAN VTEP agent of a Linux host.
