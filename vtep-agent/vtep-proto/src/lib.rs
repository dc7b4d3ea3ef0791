//! The stream between controller and VTEP agents.
