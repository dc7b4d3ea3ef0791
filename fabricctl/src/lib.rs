//! Command line of the fabric: lab, apply, get, delete, status.
