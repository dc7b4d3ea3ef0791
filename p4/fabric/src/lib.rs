//! The fabric's own P4_16 programs, compiled at build time, with typed table bindings.
