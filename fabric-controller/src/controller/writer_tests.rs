//! Groups: what is seen when, and what comes of a failure.
